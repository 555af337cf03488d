"""Small documents, whose passages have vectors that a test can reckon with."""

from hashlib import sha256
from uuid import NAMESPACE_URL, uuid5

from app import database
from app.models import Chunk, Document

X, Y, Z = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]


async def save(source: str, passages: dict[str, list[float]], **metadata: str) -> Document:
    content_hash = sha256("".join(passages).encode()).hexdigest()
    document = Document(id=uuid5(NAMESPACE_URL, source), source=source, content_hash=content_hash, metadata=metadata)
    chunks = [Chunk(position=position, heading="", text=text) for position, text in enumerate(passages)]
    return await database.save_document(document, chunks, list(passages.values()))


async def found(text: str, vector: list[float], **filters: str) -> list[str]:
    return [hit.text for hit in await database.search(text, vector, filters)]
