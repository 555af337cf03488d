"""From a file to passages that can be found: read, split, embed, store."""

import asyncio
import os
import re
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path, PurePath
from typing import Annotated
from uuid import NAMESPACE_URL, uuid5

from pydantic import BaseModel, Field

from app import database, embeddings, formats
from app.agent import RunStep
from app.models import Chunk, Document, Text, UserError
from app.settings import settings
from app.splitting import split

SIGNATURES = {".md": b"", ".txt": b"", ".html": b"", ".htm": b"", ".pdf": b"%PDF-", ".docx": b"PK\3\4"}
"""What stands near the beginning of a file, by its suffix: of those that can be taken in."""
BATCH = 32  # passages that are embedded in one step, by one call: the most that some servers take


class UnreadableError(UserError):
    """A file cannot be taken in; the message says why."""


class Upload(BaseModel, ser_json_bytes="base64", val_json_bytes="base64"):
    """A file as it came in. `source` is its name: a second upload of that name takes the place of the first."""

    source: Annotated[Text, Field(min_length=1, max_length=500)]
    content: bytes
    metadata: dict[Text, Text] = {}

    @property
    def digest(self) -> str:
        return sha256(self.content).hexdigest()

    @property
    def suffix(self) -> str:
        return PurePath(self.source).suffix.lower()


async def ingest(upload: Upload, run_step: RunStep) -> Document:
    """Take in a document. Content that is there already is not stored again."""
    document = Document(
        id=uuid5(NAMESPACE_URL, upload.source),
        source=upload.source,
        content_hash=upload.digest,
        metadata=upload.metadata,
    )
    stored = await run_step("look up", database.get_document, document.id)
    if stored and (stored.content_hash, stored.metadata) == (document.content_hash, document.metadata):
        return stored
    chunks = await run_step("split", _split, upload)
    vectors: list[list[float]] = []
    for number, start in enumerate(range(0, len(chunks), BATCH), 1):
        vectors += await run_step(f"embed {number}", embeddings.embed, chunks[start : start + BATCH])
    return await run_step("store", database.save_document, document, chunks, vectors)


def find_files(given: Iterable[Path]) -> dict[str, Path]:
    """Files by name: their own or, below a folder, the path from there; hidden ones stay out there."""
    files: dict[str, Path] = {}
    for top in given:
        for path in [top, *sorted(top.rglob("*"))]:
            name = path.name if path == top else path.relative_to(top).as_posix()
            if path.is_file() and (path == top or "/." not in f"/{name}"):
                source = os.fsencode(name).decode(errors="replace")
                if source in files and not files[source].samefile(path):
                    raise UserError(f"{files[source]} and {path} would both be {source}. Give the folder above them.")
                files[source] = path
    return files


def check(upload: Upload) -> str:
    """Its text, or nothing where it takes a converter. Raises `UnreadableError` for what shows at a glance."""
    suffix, content = upload.suffix, upload.content
    signature = SIGNATURES.get(suffix, b"")
    faults = {
        f"{suffix or 'no suffix'} is not supported, only {', '.join(SIGNATURES)}": suffix not in SIGNATURES,
        f"larger than MAX_UPLOAD_BYTES, {settings.max_upload_bytes}": len(content) > settings.max_upload_bytes,
        "no text in it": not content.strip(),
        f"not a {suffix} file, whatever its name says": signature not in content[:1000],
        "a binary file, not text in UTF-8": not signature and b"\0" in content,
    }
    if fault := next((words for words, applies in faults.items() if applies), None):
        raise UnreadableError(f"{upload.source}: {fault}")
    if signature:
        return ""
    declared = re.search(rb"charset=[\"']?([\w-]+)", content[:1000]) if suffix in formats.KINDS else None
    try:
        text = content.decode(declared[1].decode() if declared else "utf-8-sig")
    except (UnicodeError, LookupError) as error:
        raise UnreadableError(f"{upload.source}: {error}; save it as UTF-8") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


async def _split(upload: Upload) -> list[Chunk]:
    text = check(upload)
    if upload.suffix in formats.KINDS:
        limits = settings.conversion_seconds, settings.max_upload_bytes
        try:
            text = await formats.convert(upload.suffix, text.encode() or upload.content, *limits)
        except ValueError as error:
            raise UnreadableError(f"{upload.source}: {error}") from None
    if chunks := await asyncio.to_thread(split, text):
        return chunks
    scan = "; a scan needs text recognition (OCR) first" if upload.suffix == ".pdf" else ""
    raise UnreadableError(f"{upload.source}: no text found in it{scan}")
