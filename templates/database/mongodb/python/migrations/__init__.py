"""Brings the schema up to date: each module in `versions` once, in the order of their names.

There is no lock. A migration can be cut off, and two processes can run it at once: write it so that it may run again.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

from pymongo.database import Database

from app.models import Fault


def pending(recorded: set[str]) -> list[str]:
    """Those that are still to be run. Raises `Fault` where the database is newer than this code."""
    names = sorted(path.stem for path in Path(__file__).with_name("versions").glob("[0-9]*.py"))
    if unknown := sorted(recorded.difference(names)):
        newer = "A newer version of this code has migrated the database: deploy that one."
        raise Fault(f"Can't find the migration {unknown[-1]}. {newer}", newer)
    return [name for name in names if name not in recorded]


def upgrade(database: Database[dict[str, Any]]) -> None:
    for name in pending({each["_id"] for each in database.migrations.find()}):
        import_module(f"migrations.versions.{name}").upgrade(database)
        database.migrations.replace_one({"_id": name}, {}, upsert=True)
