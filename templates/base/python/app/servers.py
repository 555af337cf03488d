"""The servers that no setting names, embedded: of the database and, where it has one, of the workflow engine."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module, util

from app import database


@contextmanager
def running() -> Iterator[None]:
    """Start them, for this process and its children, but wait for none: they come up while Python imports the rest."""
    with database.server(), ExitStack() as others:
        if util.find_spec("app.workflow_server"):
            others.enter_context(import_module("app.workflow_server").server())
        yield
