"""What runs beside the application where no setting names a server: that of the database, and Prefect's.

To be imported before Prefect, which then finds its settings in the environment.
"""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from app import database
from app.settings import FromEnvironment, settings


class PrefectSettings(FromEnvironment):
    prefect_api_url: str = ""
    """API of a Prefect server, `http://host:4200/api`."""
    prefect_api_key: str = ""
    """Key of Prefect Cloud."""
    prefect_api_auth_string: str = ""
    """`user:password`, where a server of one's own asks for it."""
    prefect_default_work_pool_name: str = "app"
    """Which runs on the server are this application's."""


HOME = settings.data_dir / "prefect"
_embedded_url: Callable[[], str] | None = None

with suppress(OSError):  # Prefect warns where it is not there
    HOME.mkdir(parents=True, exist_ok=True)
os.environ |= {
    "DO_NOT_TRACK": "1",
    "PREFECT_CLIENT_MAX_RETRIES": "0",  # a request is told that the server is away, rather than kept waiting
    "PREFECT_HOME": str(HOME),
    "PREFECT_LOGGING_LEVEL": "WARNING",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",  # what a run tells is in `workflows.events`
    "PREFECT_SERVER_EPHEMERAL_ENABLED": "false",
}
logging.basicConfig(format="%(levelname)s: %(message)s")  # where there is nothing, Prefect brings its own


@contextmanager
def running() -> Iterator[None]:
    """Start them, for this process and its children, but wait for none: they come up while Python imports the rest."""
    global _embedded_url
    with database.server():
        if PrefectSettings().prefect_api_url or _embedded_url:
            yield
            return
        from embedded import prefect  # not needed in production

        with prefect.serve(HOME) as _embedded_url:
            try:
                yield
            finally:
                _embedded_url = None
                os.environ.pop("PREFECT_API_URL", None)


def is_embedded() -> bool:
    """Whether this process uses the embedded Prefect server."""
    return _embedded_url is not None


def connect() -> None:
    """Put into the environment where Prefect's server is, once it answers, and the key for it."""
    if _embedded_url and not PrefectSettings().prefect_api_url:
        os.environ["PREFECT_API_URL"] = _embedded_url()
    os.environ |= {name.upper(): value for name, value in PrefectSettings().model_dump().items() if value}
