"""What runs beside the application where no setting names a server: the database, and Prefect's server."""

from collections.abc import Iterator
from contextlib import contextmanager

from app import database, workflow_server


@contextmanager
def running() -> Iterator[None]:
    """Start them, for this process and its children, but wait for none: they come up while Python imports the rest."""
    with database.server(), workflow_server.server():
        yield
