"""Split a text into passages: Markdown, reStructuredText, plain text. Each stands in the text word for word."""

import re
from collections.abc import Iterator

from app.models import Chunk

PASSAGE_SIZE = 1000
"""Characters of a passage at most. The built-in embedding model reads about that many."""

FENCED = r"^[ ]{0,3}(?P<fence>`{3,}+|~{3,}+).*\n(?:.*\n)*?(?:[ ]{0,3}(?P=fence)`*~*[ \t]*$|\Z)"
LANDMARK = re.compile(
    rf"""{FENCED}                                                       # in there, nothing is a heading
    | ^(?P<signs>\#{{1,6}})[ \t]+(?P<title>\S.*)$
    | (?:\A\n*|(?<=\n\n))(?P<over>[=*#]{{3,}}\n[ ]*)?
      (?P<name>[^\s|>].*)\n(?P<under>(?P<line>[-=~^"*])(?P=line){{2,}})[ \t]*$""",
    re.MULTILINE | re.VERBOSE,
)
BLOCK = rf"(?m)(?:{FENCED}\n?|^.*\S.*\n?|(?<=:\n)[ \t]*\n)+(?:[ \t]*\n)*"  # with what follows a colon
SENTENCE = r"(?s).+?(?:[.!?][\"')\]]?\s+(?=[^\sa-z])|\n(?=[ \t]*(?:[-*+]|\d+[.)])[ \t])|\Z)"
LINE = r".*\n|.+"
LISTED = re.compile(r"\s*(?:[-*+|>]|\d+[.)]|`{3}|~{3})")  # lists, tables, quotes, code


def split(text: str, size: int = PASSAGE_SIZE) -> list[Chunk]:
    """Passages in order, each below one heading; cut between paragraphs, and inside only those longer than `size`."""
    passages = [
        (heading, passage.strip("\n"))
        for heading, section in _sections(text)
        for passage in _pack(section, size, (BLOCK, SENTENCE, LINE, rf"(?s).{{1,{size}}}"))
        if passage.strip()
    ]
    return [Chunk(position=position, heading=h, text=t) for position, (h, t) in enumerate(passages)]


def _sections(text: str) -> Iterator[tuple[str, str]]:
    """What stands below each heading, with the path of headings to it."""
    path: list[tuple[int, str]] = []
    levels: dict[tuple[bool, str], int] = {}  # of underlined headings: the first kind to appear is level 1
    start = 0
    for mark in LANDMARK.finditer(text):
        signs, line = mark["signs"], mark["line"]
        is_rule = line and line not in "=-" and len(mark["under"]) < len(mark["name"])
        if mark["fence"] or is_rule or len(mark[0]) > 300:  # no heading: passages bear theirs along
            continue
        if signs:
            level, title = len(signs), mark["title"].rstrip().removesuffix(f" {signs}")
        else:
            level, title = levels.setdefault((bool(mark["over"]), line), len(levels) + 1), mark["name"]
        yield " > ".join(name for _, name in path), text[start : mark.start()]
        path = [*(above for above in path if above[0] < level), (level, title.strip())]
        start = mark.end()
    yield " > ".join(name for _, name in path), text[start:]


def _pack(text: str, size: int, pieces: tuple[str, ...]) -> Iterator[str]:
    """Neighbouring pieces of the first kind, joined for as long as they fit; a longer one in pieces of the next."""
    passage = ""
    for piece in _cut(text, size, pieces):
        if passage and len(passage) + len(piece.rstrip()) > size:
            yield passage
            passage = ""
        passage += piece
    yield passage


def _cut(text: str, size: int, kinds: tuple[str, ...]) -> Iterator[str]:
    for piece in (match[0] for match in re.finditer(kinds[0], text)):
        if len(piece.rstrip()) <= size:
            yield piece
        else:
            yield from _cut(piece, size, kinds[2:] if kinds[1] == SENTENCE and LISTED.match(piece) else kinds[1:])
