"""What the API adds to the command line."""

import sys
from contextlib import AsyncExitStack, redirect_stdout

from app import database
from app.settings import settings


async def mcp() -> None:
    """Speak MCP over stdin and stdout, for a client that starts this itself."""
    from app.api import mcp as server  # here, since every command imports this module
    from app.main import stack

    settings.drain_seconds = 0  # the client waits for the end; runs under way go on with the next start
    async with AsyncExitStack() as opened:
        with redirect_stdout(sys.stderr):  # nothing but the protocol may go there
            await opened.enter_async_context(stack(settings.worker_concurrency, sample=database.is_embedded()))
        await server.run_stdio_async(show_banner=False)


commands = [mcp]
