"""From a file to passages: parse it, split it by heading, paragraph and sentence."""

from hashlib import sha256
from pathlib import PurePath

SUFFIXES = (".md", ".txt")


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
