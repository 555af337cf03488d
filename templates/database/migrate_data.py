"""Moves the documents of the database that this project had before into the one that it has now, with their passages,
vectors and metadata. To be used once, and deleted:

    uv run --with-requirements migrate_data_parts/requirements.txt migrate_data.py

It reads from the server that OLD_DATABASE_URL names in the environment or, without one, from what the embedded server
has kept in DATA_DIR, and changes nothing there. It writes where the project does: to DATABASE_URL, or embedded. Stop
what still writes to the old database. Runs stay behind.

It can be cut off at any moment: run it again, and it goes on with what is missing. A document whose source the new
database has already stays there as it is. Each one that is moved is read back, and its SHA-256 compared with the old.
"""

import asyncio
import json
import sys
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from io import TextIOWrapper

import typer

from app import database, embeddings
from app.models import Chunk, Document, UserError
from app.settings import FromEnvironment, settings
from migrate_data_parts import new, old, server

OUTCOMES = MOVED, THERE, KEPT, LEFT_OUT, DIFFERENT = "moved", "there already", "kept", "left out", "different"
REASONS = {
    KEPT: "the new database has another version of it, which stays",
    LEFT_OUT: "it lacks vectors of the old database's model: take it in again, by `ingest`",
    DIFFERENT: "it is not the same in both: delete it in the new database, and run this again",
}
PASSAGES = 500  # that are worked on at once, or those of one document


class Settings(FromEnvironment):
    old_database_url: str = ""


def main() -> None:
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # Windows may know only 256 characters
    counts, told = Counter[str](), list[str]()
    with old_database() as source, new_database() as target:
        dimensions = check(source, target)
        label, total = f"Moving to {new.NAME}", old.count(source)
        with typer.progressbar(length=total, label=label, show_pos=True, file=sys.stderr) as bar:
            for batch in batches(old.sizes(source)):
                for name, outcome in move(batch, dimensions, source, target):
                    counts[outcome] += 1
                    if outcome in REASONS:
                        told.append(f"{outcome:9}  {name}  {REASONS[outcome]}")
                bar.update(len(batch))
    print("\n".join([*told, ", ".join(f"{counts[each]:,} {each}" for each in OUTCOMES if counts[each])]))
    if counts[LEFT_OUT] or counts[DIFFERENT]:
        sys.exit(1)
    print("Delete migrate_data.py and migrate_data_parts, and what is in the old database when you need it no more.")


@contextmanager
def old_database() -> Iterator[old.Store]:
    given, folder = Settings().old_database_url, settings.data_dir / old.FOLDER
    if not given and not folder.exists():
        raise UserError(f"There is no {old.NAME} in {folder}. Set OLD_DATABASE_URL to the one to move from.")
    with ExitStack() as stack:
        url = given or stack.enter_context(server.serve(folder))()
        print(f"From {'OLD_DATABASE_URL' if given else folder}", file=sys.stderr)
        yield stack.enter_context(old.connect(url, "OLD_DATABASE_URL"))


@contextmanager
def new_database() -> Iterator[new.Store]:
    with database.server():
        database.migrate()
        with new.connect(database.url(), "DATABASE_URL") as store:
            yield store


def check(source: old.Store, target: new.Store) -> int:
    """Raise `UserError` where nothing can be moved. Returns the dimensions of the vectors."""
    old.check_schema(source)
    model, there, wanted = old.model(source), new.model(target), embeddings.model_name()
    if not model or not old.count(source):
        raise UserError("The old database has no documents: there is nothing to move.")
    if model[0] != wanted:
        raise UserError(
            f"The old database has vectors of {model[0]}, and the embedding model here is {wanted}. Set"
            f" EMBEDDING_MODEL={model[0]}, or none for the built-in one. When all is moved, `reindex` can change it."
        )
    if there and there != model:
        raise UserError(
            f"The new database is indexed with {there[0]} ({there[1]} dimensions), the old one with {model[0]}"
            f" ({model[1]} dimensions). Run `reindex` in the new one with EMBEDDING_MODEL as it is now, and then this."
        )
    return model[1]


def batches(sizes: Iterable[tuple[str, int]]) -> Iterator[list[str]]:
    """Sources of documents, as many as can be worked on at once."""
    batch, passages = list[str](), 0
    for source, size in sizes:
        if batch and passages + size > PASSAGES:
            yield batch
            batch, passages = [], 0
        batch.append(source)
        passages += size
    if batch:
        yield batch


def move(names: list[str], dimensions: int, source: old.Store, target: new.Store) -> Iterator[tuple[str, str]]:
    """Move those of these documents that are not there yet. Gives what became of each."""
    given, there = old.read(source, names), new.read(target, names)
    missing = list[old.Stored]()
    for name, document in given.items():
        whole = is_whole(document, dimensions)
        if name not in there and whole:
            missing.append(document)
        elif name not in there:
            yield name, LEFT_OUT
        elif checksum(document) == checksum(there[name]):
            yield name, THERE
        else:
            yield name, DIFFERENT if whole and content(document) == content(there[name]) else KEPT
    if not missing:
        return
    is_first = not new.model(target)
    if is_first:
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.run(save_first(*missing[0]))
    new.write(target, missing[1:] if is_first else missing)
    written = new.read(target, [document.source for document, _, _ in missing])
    for stored in missing:
        name = stored[0].source
        same = name in written and checksum(written[name]) == checksum(stored)
        yield name, MOVED if same else DIFFERENT


async def save_first(document: Document, chunks: list[Chunk], vectors: list["array[float]"]) -> None:
    """The way of the application, which settles on the model and makes the index for its vectors."""
    async with database.lifespan():
        await database.save_document(document, chunks, [list(vector) for vector in vectors])


def is_whole(stored: old.Stored, dimensions: int) -> bool:
    document, chunks, vectors = stored
    return len(chunks) == document.chunks and all(len(vector) == dimensions for vector in vectors)


def content(stored: old.Stored) -> tuple[str, dict[str, str]]:
    return stored[0].content_hash, stored[0].metadata


def checksum(stored: old.Stored) -> str:
    """Of all that a document is, its vectors bit by bit."""
    document, chunks, vectors = stored
    texts = [document.model_dump(mode="json"), [chunk.model_dump() for chunk in chunks]]
    digest = sha256(json.dumps(texts, sort_keys=True).encode())
    for vector in vectors:
        digest.update(vector.tobytes())
    return digest.hexdigest()


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("Cut off. Run it again, and it goes on.")
