"""Writes files of every format into FOLDER/good, and files that are broken or made to do harm into FOLDER/bad.

Some of them name ADDRESS, so that whoever fetches what a document names is seen there.

usage: uv run --no-project --with python-docx,reportlab,pypdf,cryptography make-files.py FOLDER ADDRESS
"""

import io
import sys
import zipfile
import zlib
from pathlib import Path

import docx
import pypdf
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.platypus import PageBreak, Paragraph, SimpleDocTemplate

GOOD, BAD = Path(sys.argv[1], "good"), Path(sys.argv[1], "bad")
MEGABYTE = 1 << 20
PETS = """<!doctype html><html><head><title>Pets</title><style>p {{ color: red }}</style></head><body>
<nav><a href="/">Start of the site</a></nav><main><h1>Pets at work</h1><h2>Days</h2>
<p>Dogs may come to the office on Fridays, and caf\u00e9 cats never.</p>
<img src="{address}/image"><iframe src="{address}/frame"></iframe><link rel="stylesheet" href="{address}/style">
<script>document.write("Tracked by a script")</script></main></body></html>"""


def main() -> None:
    GOOD.mkdir(parents=True)
    BAD.mkdir()
    word, pdf = make_word(), make_pdf()
    html = PETS.format(address=sys.argv[2]).encode()
    write(GOOD, {"travel.docx": word, "manual.pdf": pdf, "pets.html": html})
    latin = b'<meta charset="iso-8859-1"><p>The caf\xe9 on the ground floor opens at eleven.</p>'
    write(GOOD, {"cafe.htm": latin, "entity.docx": repack(word, document=entity)})
    write(BAD, {"zeros.docx": repack(word, extra={"word/media/image.bin": bytes(300 * MEGABYTE)})})
    write(BAD, {"many.docx": repack(word, extra={f"word/{n}.xml": b"" for n in range(20_000)})})
    write(BAD, {"half.docx": word[: len(word) // 2], "word.html": word, "picture.pdf": b"\x89PNG\r\n"})
    write(BAD, {"binary.md": bytes(range(256)), "empty.pdf": b"", "blank.md": b" \n", "music.mp3": b"ID3"})
    write(BAD, {"deep.html": b"<div>" * 100_000 + b"x", "script.html": b"<script>alert('Hello')</script>"})
    write(BAD, {"encrypted.pdf": encrypt(pdf), "scan.pdf": raw_pdf(b"0 0 99 99 re f")})
    write(BAD, {"bomb.pdf": raw_pdf(bytes(1000 * MEGABYTE)), "endless.pdf": raw_pdf(b"", b"2 0 R 2 0 R", 10**9)})


def write(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).write_bytes(content)


def make_word() -> bytes:
    document, content = docx.Document(), io.BytesIO()
    document.add_heading("Travel", 1)
    document.add_heading("Hotels", 2)
    document.add_paragraph("A night in a hotel may cost up to 140 euros.")
    document.add_paragraph("Keep the receipt", style="List Bullet")
    table = document.add_table(rows=1, cols=2)
    table.rows[0].cells[0].text, table.rows[0].cells[1].text = "Oslo", "180 euros"
    document.save(content)
    return content.getvalue()


def make_pdf() -> bytes:
    content, styles = io.BytesIO(), getSampleStyleSheet()
    body = styles["BodyText"]
    cleaning = "The filter of the machine is cleaned every 250 hours of work. " * 3
    warranty = Paragraph("The warranty of the machine lasts for 42 months.", body)
    story = [Paragraph("Manual", styles["Title"]), Paragraph(cleaning, body), PageBreak(), warranty]
    SimpleDocTemplate(content).build(story)
    return content.getvalue()


def encrypt(pdf: bytes) -> bytes:
    content, writer = io.BytesIO(), pypdf.PdfWriter(clone_from=pypdf.PdfReader(io.BytesIO(pdf)))
    writer.encrypt("secret", algorithm="AES-256")
    writer.write(content)
    return content.getvalue()


def repack(word: bytes, document=lambda xml: xml, extra: dict[str, bytes] | None = None) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(word)) as old, zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, document(old.read(name)) if name == "word/document.xml" else old.read(name))
        for name, data in (extra or {}).items():
            new.writestr(name, data)
    return content.getvalue()


def entity(xml: bytes) -> bytes:
    declared = b'<!DOCTYPE w [<!ENTITY outside SYSTEM "%s/entity">]>' % sys.argv[2].encode()
    head, rest = xml.split(b"?>", 1)
    return head + b"?>" + declared + rest.replace(b"<w:body>", b"<w:body><w:p><w:r><w:t>&outside;</w:t></w:r></w:p>")


def raw_pdf(page: bytes, kids: bytes = b"3 0 R", count: int = 1) -> bytes:
    packed = zlib.compress(page, 9)
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Count %d/Kids[%s]>>" % (count, kids),
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents 4 0 R>>",
        b"<</Filter/FlateDecode/Length %d>>stream\n%s\nendstream" % (len(packed), packed),
    ]
    content, offsets = b"%PDF-1.7\n", []
    for number, text in enumerate(objects, 1):
        offsets.append(len(content))
        content += b"%d 0 obj\n%s\nendobj\n" % (number, text)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    trailer = b"trailer<</Size 5/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % len(content)
    return content + b"xref\n0 5\n0000000000 65535 f \n" + table + trailer


main()
