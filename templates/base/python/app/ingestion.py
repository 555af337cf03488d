"""From a file to passages that can be found: parse, split, embed, store."""

import asyncio
from hashlib import sha256
from pathlib import PurePath
from typing import Annotated
from uuid import NAMESPACE_URL, uuid5

from pydantic import BaseModel, Field

from app import database, embeddings
from app.agent import RunStep
from app.models import Chunk, Document, Text, UserError
from app.settings import settings
from app.splitting import split

SUFFIXES = (".md", ".txt")
BATCH = 64
"""Passages that are embedded in one step."""


class UnreadableError(UserError):
    """A file cannot be taken in; the message says why."""


class Upload(BaseModel):
    """A file as it came in. `source` is its name: a second upload of that name takes the place of the first."""

    source: Annotated[Text, Field(min_length=1, max_length=500)]
    content: bytes
    metadata: dict[Text, Text] = {}

    @property
    def digest(self) -> str:
        return sha256(self.content).hexdigest()


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
        texts = [f"{chunk.heading}\n{chunk.text}" for chunk in chunks[start : start + BATCH]]
        vectors += await run_step(f"embed {number}", embeddings.embed, texts)
    return await run_step("store", database.save_document, document, chunks, vectors)


async def _split(upload: Upload) -> list[Chunk]:
    if chunks := await asyncio.to_thread(split, parse(upload)):
        return chunks
    raise UnreadableError(f"{upload.source}: no text below its headings")


def parse(upload: Upload) -> str:
    """The text of a Markdown or plain text file, with line ends as `\\n`. Raises `UnreadableError`."""
    suffix = PurePath(upload.source).suffix.lower()
    if suffix not in SUFFIXES:
        raise UnreadableError(f"{upload.source}: {suffix or 'no suffix'} is not supported, only {', '.join(SUFFIXES)}")
    if len(upload.content) > settings.max_upload_bytes:
        raise UnreadableError(f"{upload.source}: larger than MAX_UPLOAD_BYTES, {settings.max_upload_bytes}")
    try:
        text = upload.content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise UnreadableError(f"{upload.source}: not UTF-8, the byte at {error.start} does not fit") from error
    if "\0" in text:
        raise UnreadableError(f"{upload.source}: a binary file, not text")
    if not text.strip():
        raise UnreadableError(f"{upload.source}: no text in it")
    return text
