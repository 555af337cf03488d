"""Split a text into passages, and a passage into sentences: Markdown, reStructuredText, plain text.

Every piece stands in the text word for word, so that it can be quoted.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise

from app.models import Chunk

PASSAGE_SIZE = 1000
"""Characters of a passage at most. The built-in embedding model reads about that many."""

FENCED = r"[ ]{0,3}(?P<fence>`{3,}+|~{3,}+).*\n(?:.*\n)*?(?:[ ]{0,3}(?P=fence)`*~*[ \t]*$|\Z)"
LANDMARK = re.compile(
    rf"""^{FENCED}                                                             # in there, nothing is a heading
    | ^(?P<signs>[#]{{1,6}}|={{2,6}})[ \t]+(?P<title>\S.*?)(?:[ \t]+[#=]+)?[ \t]*$
    | (?:\A\n*|(?<=\n\n))(?P<over>(?P<sign>[=*#])(?P=sign){{2,}}\n[ ]*)?(?P<name>[^\s|>].*)\n
      (?P<under>(?P<line>[-=~^"'`#*+.:])(?P=line){{2,}})[ \t]*$""",
    re.MULTILINE | re.VERBOSE,
)
# Lines and whole fences, up to a blank line that does not follow a colon.
BLOCK = re.compile(rf"(?:^{FENCED}\n?|^.*\S.*\n?|(?<=:\n)[ \t]*\n)+(?:[ \t]*\n)*", re.MULTILINE)
LINES = re.compile(r"\s*(?:[-*+|>]|\d+[.)]|`{3}|~{3})")  # lists, tables, quotes, code
SENTENCE_END = re.compile(
    r"""(?: (?<=[.!?]) | (?<=[.!?]["')\]]) ) (?<!\be\.g\.) (?<!\bi\.e\.) (?<!\bcf\.) (?<!\bvs\.) (?<!\b[DM]r\.)
        \s+ (?![a-z])
    | \n[ \t]*\n\s*                          # the end of a paragraph
    | \n (?=[ \t]*(?:[-*+]|\d+[.)])[ \t])    # the next item of a list""",
    re.VERBOSE,
)


def split(text: str, size: int = PASSAGE_SIZE) -> list[Chunk]:
    """Passages in order, each below one heading.

    They are cut between paragraphs, and inside one only where it is longer than `size`: prose between
    sentences, code, tables and lists between lines.
    """
    passages = [
        (heading, passage.strip("\n"))
        for heading, section in _sections(text)
        for passage in _pack((piece for block in BLOCK.finditer(section) for piece in _cut(block[0], size)), size)
    ]
    return [Chunk(position=position, heading=h, text=t) for position, (h, t) in enumerate(passages)]


def sentences(text: str) -> list[str]:
    """Sentences, ends of paragraphs and items of lists; joined, they are the text again."""
    ends = [0, *(match.end() for match in SENTENCE_END.finditer(text)), len(text)]
    return [text[start:end] for start, end in pairwise(ends) if start < end]


def _sections(text: str) -> Iterator[tuple[str, str]]:
    """What stands below each heading, with the path of headings to it."""
    path: list[tuple[int, str]] = []
    kinds: list[tuple[bool, str]] = []  # of underlined headings: the first to appear is level 1
    start = 0
    for mark in LANDMARK.finditer(text):
        if mark["signs"]:
            level, title = len(mark["signs"]), mark["title"]
        elif mark["fence"] or (mark["line"] not in "=-" and len(mark["under"]) < len(mark["name"])):
            continue
        else:
            kind, title = (bool(mark["over"]), mark["line"]), mark["name"]
            kinds += [] if kind in kinds else [kind]
            level = kinds.index(kind) + 1
        yield " > ".join(name for _, name in path), text[start : mark.start()]
        path = [*(above for above in path if above[0] < level), (level, title.strip())]
        start = mark.end()
    yield " > ".join(name for _, name in path), text[start:]


def _cut(block: str, size: int) -> list[str]:
    if len(block.rstrip()) <= size:
        return [block]
    lines = block.splitlines(keepends=True)
    parts = lines if LINES.match(block) else sentences(block)
    if len(parts) == 1:
        parts = lines if len(lines) > 1 else [block[i : i + size] for i in range(0, len(block), size)]
    return [piece for part in parts for piece in _cut(part, size)]


def _pack(pieces: Iterable[str], size: int) -> Iterator[str]:
    """Neighbours joined for as long as they fit."""
    passage = ""
    for piece in pieces:
        if passage and len(passage) + len(piece.rstrip()) > size:
            yield passage
            passage = ""
        passage += piece
    if passage.strip():
        yield passage
