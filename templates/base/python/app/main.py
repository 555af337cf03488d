"""Puts the four parts together and makes the application that is served."""

import asyncio
import logging
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from multiprocessing import parent_process
from threading import Thread
from typing import Any

from starlette.types import ASGIApp

from app import database, observability, servers, workflows
from app.ingestion import Upload
from app.models import UserError
from app.settings import ROOT, settings

log = logging.getLogger("app")


@asynccontextmanager
async def stack(concurrency: int | None, sample: bool = False) -> AsyncIterator[None]:
    """All parts, open, for as long as the block runs; with the sample documents where asked for.

    `concurrency`: runs of all processes to work on at once; None: only on those that are started in the block.
    """
    with servers.running():
        async with observability.lifespan(), database.lifespan(), workflows.lifespan(concurrency):
            if sample and concurrency != 0 and not await database.list_documents(limit=1):
                paths = (ROOT / "data" / "sample").glob("[!.]*.*")
                uploads = [Upload(source=f"sample/{path.name}", content=path.read_bytes()) for path in paths]
                await asyncio.gather(*map(_take_in, uploads))
            yield


async def _take_in(upload: Upload) -> None:
    # The key keeps a sample that was deleted from coming back at the next start.
    run_id = await workflows.start_ingestion(upload, key=f"{upload.source} {upload.digest}")
    await workflows.resume_run(run_id)  # where an earlier start failed
    run = await workflows.wait(run_id, 60)
    if run and run.error:
        log.warning("%s was not taken in: %s", upload.source, run.error)


@asynccontextmanager
async def lifespan(_: Any) -> AsyncIterator[None]:
    log.setLevel(logging.INFO)
    try:
        async with stack(settings.worker_concurrency, settings.load_sample):
            host = f"[{settings.host}]" if ":" in settings.host else settings.host
            log.info("Ready at http://%s:%s", host, settings.port)
            yield
    except UserError as error:
        log.error("%s", error)
        logging.getLogger("uvicorn.error").disabled = True  # it would add pages of traceback
        raise


def create_app() -> ASGIApp:
    """Make what is served."""
    from app import api  # commands are quicker without

    if dev := parent_process():
        Thread(target=_end_with, args=[dev], daemon=True).start()
        if sys.platform != "win32":  # `dev` ends this one; with Ctrl-C behind that, uvicorn would not let it end well
            signal.signal(signal.SIGINT, signal.SIG_IGN)
    return api.create_app(lifespan)


def _end_with(dev: Any) -> None:
    dev.join()  # it may be killed, and then cannot end this one
    signal.raise_signal(signal.SIGTERM)


logging.basicConfig(format="%(levelname)s: %(message)s")
