"""From a file to passages, and what is refused."""

import pytest

from app.ingestion import UnreadableError, Upload, check
from app.splitting import split

GUIDE = """\
# Guide

First a sentence. Then another.

## Setup

```sh
# not a heading

run me. Then run me again. And again, please.
```
"""


def test_passages_end_between_sentences_below_their_headings_and_keep_code_whole() -> None:
    prose, setup = split(GUIDE, size=80)
    assert (prose.heading, prose.text.strip()) == ("Guide", "First a sentence. Then another.")
    assert (setup.heading, setup.text) == ("Guide > Setup", GUIDE[GUIDE.index("```sh") :].strip())
    assert [chunk.text.strip() for chunk in split(GUIDE, size=25)[:2]] == ["First a sentence.", "Then another."]


@pytest.mark.parametrize(
    ("source", "content", "reason"),
    [
        ("a.png", b"x", r"a\.png: \.png is not supported, only \.md, .*\.docx"),
        ("a.pdf", b"PNG", r"a\.pdf: not a \.pdf file, whatever its name says"),
        ("a.md", b"caf\xe9", r"a\.md: .* byte 0xe9 in position 3.*; save it as UTF-8"),
        ("a.md", b" \n", r"a\.md: no text in it"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_reason(source: str, content: bytes, reason: str) -> None:
    with pytest.raises(UnreadableError, match=reason):
        check(Upload(source=source, content=content))
