"""From a file to passages: parse it, split it by heading, paragraph and sentence."""

import re
from collections.abc import Iterable, Iterator
from hashlib import sha256
from itertools import pairwise
from pathlib import PurePath

from app.models import Chunk

SUFFIXES = (".md", ".txt")
CHUNK_SIZE = 1000
"""Characters that a passage aims at. The built-in embedding model reads about that many."""


class UnreadableDocumentError(Exception):
    """The file cannot be taken in; the message says why."""


def parse(source: str, content: bytes) -> str:
    """The text of a Markdown or plain text file, with line ends as `\\n`."""
    suffix = PurePath(source).suffix.lower()
    if suffix not in SUFFIXES:
        raise UnreadableDocumentError(
            f"{source}: {suffix or 'a file without a suffix'} is not supported, only " + " and ".join(SUFFIXES)
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableDocumentError(f"{source}: not UTF-8, the byte at {error.start} does not fit") from error
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\0" in text:
        raise UnreadableDocumentError(f"{source}: a binary file, not text")
    if not text.strip():
        raise UnreadableDocumentError(f"{source}: no text in it")
    return text


def content_hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def split(text: str, size: int = CHUNK_SIZE) -> list[Chunk]:
    """Passages of up to `size` characters, word for word, each below one heading.

    They are cut between paragraphs, and inside a paragraph only where it is longer than `size`:
    prose between sentences, code, tables and lists between lines.
    """
    chunks: list[Chunk] = []
    for heading, section in _sections(text):
        for passage in _pack(_blocks(section, size), size):
            if passage.strip():
                chunk = Chunk(position=len(chunks), heading=heading, text=passage.strip("\n"))
                chunks.append(chunk)
    return chunks


def sentences(text: str) -> list[str]:
    """The sentences, paragraphs' ends and list items of a text; joined, they are the text again."""
    ends = [0, *(match.end() for match in SENTENCE_END.finditer(text)), len(text)]
    return [text[start:end] for start, end in pairwise(ends) if start < end]


SENTENCE_END = re.compile(
    r"""(?: (?<=[.!?]) | (?<=[.!?]["')\]]) )      # a full stop, perhaps in quotes
        (?<!\be\.g\.) (?<!\bi\.e\.) (?<!\bcf\.) (?<!\bvs\.) (?<!\b[DM]r\.)
        \s+ (?![a-z])                            # that no small letter follows
    | \n[ \t]*\n\s*                             # the end of a paragraph
    | \n (?=[ \t]*(?:[-*+] | \d+[.)])[ \t])     # the next item of a list""",
    re.VERBOSE,
)
FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
HEADING = re.compile(r"(#{1,6}|={2,6})[ \t]+(\S.*?)[ \t]*[#=]*\s*$")
UNDERLINE = re.compile(r"([-=~^\"'`#*+.:])\1{2,}\s*$")
BY_LINE = re.compile(r"\s*(?:[-*+|>]|\d+[.)]|`{3}|~{3})")


def _sections(text: str) -> Iterator[tuple[str, str]]:
    """The path of headings, and what stands below the last of them up to the next."""
    lines = text.splitlines(keepends=True)
    underlines: list[str] = []  # the first kind that appears is level 1, as in reStructuredText
    path: list[tuple[int, str]] = []
    body, fence, index = "", "", 0
    while index < len(lines):
        level, title, height = 0, "", 1
        if mark := FENCE.match(lines[index]):
            fence = "" if fence and mark[1].startswith(fence) else fence or mark[1]
        elif fence:
            pass
        elif heading := HEADING.match(lines[index]):
            level, title = len(heading[1]), heading[2]
        elif underlined := _underlined(lines, index):
            kind, title, height = underlined
            if kind not in underlines:
                underlines.append(kind)
            level = underlines.index(kind) + 1
        if level:
            yield " > ".join(name for _, name in path), body
            path = [*(above for above in path if above[0] < level), (level, title)]
            body = ""
        else:
            body += lines[index]
        index += height
    yield " > ".join(name for _, name in path), body


def _underlined(lines: list[str], index: int) -> tuple[str, str, int] | None:
    """Kind of line, title and height of a heading that has a line below it, or one above too."""
    over = UNDERLINE.match(lines[index])
    over = over if over and over[1] in "=*#" else None
    title, *below = (line.rstrip() for line in lines[index + bool(over) : index + bool(over) + 2])
    under = UNDERLINE.match(below[0]) if below else None
    if not under or not title.strip() or UNDERLINE.match(title) or title[0] in "|>":
        return None
    if over and (over[1] != under[1] or len(below[0]) != len(lines[index].rstrip())):
        return None
    if not over and (title[0].isspace() or (index and lines[index - 1].strip())):
        return None
    if under[1] not in "=-" and len(below[0]) < len(title):
        return None
    return bool(over) * "over" + under[1], title.strip(), 3 if over else 2


def _blocks(section: str, size: int) -> Iterator[str]:
    """Paragraphs with the blank lines behind them; code between fences is one block."""
    block, fence, blank = "", "", False
    for line in section.splitlines(keepends=True):
        introduction = block.rstrip().endswith(":") and len(block) < size / 2
        if blank and line.strip() and not fence and not introduction:
            yield from _cut(block, size)
            block = ""
        if mark := FENCE.match(line):
            fence = "" if fence and mark[1].startswith(fence) else fence or mark[1]
        block += line
        blank = not line.strip()
    yield from _cut(block, size)


def _cut(block: str, size: int) -> list[str]:
    if len(block) <= size:
        return [block]
    lines = block.splitlines(keepends=True)
    parts = lines if BY_LINE.match(block) else sentences(block)
    if len(parts) == 1:
        parts = lines if len(lines) > 1 else re.findall(f"(?s).{{1,{size}}}", block)
    return [piece for part in parts for piece in _cut(part, size)]


def _pack(blocks: Iterable[str], size: int) -> Iterator[str]:
    """Neighbours joined for as long as they fit."""
    passage = ""
    for block in blocks:
        if passage and len(passage) + len(block.rstrip()) > size:
            yield passage
            passage = ""
        passage += block
    yield passage
