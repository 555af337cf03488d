"""`doctor`: whether the settings, and all that they name, are as they should be. It changes nothing.

A part tells one by one what it finds, and raises where something is amiss; what would come behind that is skipped.
"""

import asyncio
import os
import re
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, suppress
from difflib import get_close_matches
from http.client import HTTPException
from importlib import import_module
from pathlib import Path
from typing import Annotated
from urllib.request import ProxyHandler, build_opener

import typer
from dotenv.parser import Binding, parse_stream
from pydantic import TypeAdapter

from app import database, servers
from app.models import Check, Fault, UserError
from app.settings import DOTENV, LOOPBACK, ROOT, problems, settings

LIMIT = 90  # seconds for a part: the first start of an embedded server takes a while


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False) -> None:
    """Look at the settings and all that they name, and say what to mend. Exit code 1: there is something."""
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:  # on Windows, psycopg needs this one
        checks = runner.run(_check_all())
    if as_json:
        print(TypeAdapter(list[Check]).dump_json(checks, indent=2, ensure_ascii=True).decode())
    for check in [] if as_json else checks:
        text = f"{check.detail}\nRemedy: {check.remedy}" if check.remedy else check.detail
        print(f"{check.status:8} {check.name:16} " + text.replace("\n", "\n" + " " * 26))
    sys.exit(any(check.status == "failed" for check in checks))


async def _check_all() -> list[Check]:
    from app import llm, observability  # they are slow to import

    import_module("app.evaluation")  # has settings as well
    parts = [
        _follow(_settings(), "settings"),
        _follow(_port(), "port"),
        _check_servers(),
        _follow(llm.diagnose("LLM_MODEL", settings.llm_model), "model"),
        _follow(llm.diagnose("EMBEDDING_MODEL", settings.embedding_model), "embedding model"),
        _follow(observability.diagnose(), "traces"),
    ]
    return [check for checks in await asyncio.gather(*parts) for check in checks]


async def _check_servers() -> list[Check]:
    """One after the other, since both may wait for the same embedded server."""
    from app import workflows

    with ExitStack() as embedded:
        refusal = None
        try:
            embedded.enter_context(servers.running())
        except UserError as error:  # there is no place for the data of one
            refusal = error
        checks = await _follow(refusal or database.diagnose(), "database", "vector search", "schema", "vectors")
        return checks + await _follow(refusal or workflows.diagnose(), "workflow engine")


async def _follow(findings: AsyncIterator[str] | UserError, *names: str) -> list[Check]:
    """Give what a part finds these names, in this order."""
    checks: list[Check] = []
    try:
        if isinstance(findings, UserError):
            raise findings
        async with asyncio.timeout(LIMIT):
            async for detail in findings:
                checks.append(Check(name=names[len(checks)], status="ok", detail=detail))
        return checks
    except TimeoutError:
        fault = Fault("There was no answer in time.", f"See why it hangs, or name another in {DOTENV}.")
    except Fault as error:
        fault = error
    except Exception as error:  # a UserError says what to do
        cause = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        fault = Fault(cause, f"Correct in {DOTENV} what is named here.")
    failed, *skipped = names[len(checks) :]
    checks.append(Check(name=failed, status=fault.status, detail=_without_secrets(str(fault)), remedy=fault.remedy))
    return checks + [Check(name=name, status="skipped", detail=f"needs: {failed}") for name in skipped]


def _without_secrets(text: str) -> str:
    """A server may repeat a key that it refuses."""
    values = dict(os.environ) | {str(entry.key).upper(): entry.value for entry in _entries()}
    for name, value in values.items():
        if value and len(value) > 7 and re.search("KEY|TOKEN|SECRET|PASSWORD|AUTH", name):
            text = text.replace(value, f"<{name}>")
    return text


def _entries() -> list[Binding]:
    """Of .env. That it cannot be read is among the problems."""
    with suppress(OSError, UnicodeError), Path(DOTENV).open(encoding="utf-8") as file:
        return list(parse_stream(file))
    return []


async def _settings() -> AsyncIterator[str]:
    wrong, odd, entries = list(dict.fromkeys(problems)), list[str](), _entries()
    if settings.host not in LOOPBACK and not settings.api_key:
        wrong.append(f"HOST={settings.host} needs an API_KEY: `serve` does not start without.")
    if settings.llm_api_key and not (settings.llm_model or settings.embedding_model):
        odd.append("LLM_API_KEY is set, but neither LLM_MODEL nor EMBEDDING_MODEL: nothing uses it.")
    files = [path for name in (".env.example", "compose.yaml") if (path := ROOT / name).exists()]
    listed = "\n".join(path.read_text(encoding="utf-8") for path in files)
    known = set(re.findall(r"(?:^#? ?|\$\{)([A-Z]\w+)", listed, re.MULTILINE))
    for entry in entries:
        name = str(entry.key).upper()
        if entry.error:
            wrong.append(f"Line {entry.original.line} of {DOTENV} is not of the form NAME=value.")
        elif entry.key and name not in known:
            close = get_close_matches(name, known, 1, 0.8)
            hint = f" Is it {close[0]}?" if close else ""
            (wrong if close else odd).append(f"{entry.key} in {DOTENV} is not in .env.example.{hint}")
    if wrong or odd:
        remedy = f"Correct it in {DOTENV}; .env.example lists all that can be set."
        raise Fault("\n".join(wrong + odd), remedy, "failed" if wrong else "warning")
    yield f"{sum(entry.key is not None for entry in entries)} set in {DOTENV}, all of them known."


async def _port() -> AsyncIterator[str]:
    where = f"{settings.host}:{settings.port}"
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        socket.create_server((settings.host, settings.port), family=family).close()
        state = "free"
    except OSError as error:
        if not await asyncio.to_thread(_is_served):
            cause = f"HOST={settings.host}, PORT={settings.port}: {error.strerror}"
            raise Fault(cause, f"Set another in {DOTENV}, or end the program that has it.") from None
        state = "taken, by this application"
    yield f"{where} is {state}."


def _is_served() -> bool:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    url = f"http://{f'[{host}]' if ':' in host else host}:{settings.port}/healthz"
    with suppress(OSError, HTTPException), build_opener(ProxyHandler({})).open(url, timeout=3) as answer:
        return bool(answer.read(100).split() == [b'{"status":"ok"}'])
    return False
