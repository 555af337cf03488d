"""A process of the application, to be killed in the middle of its work. It tells what happens in a log of JSON lines.

`start`: questions and documents, by label. `stops`: the moment of a step, by label, at which the process kills itself
or, with `hold`, the run stands still. `report`: tell of all runs that have ended, from whatever process.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Generator
from contextlib import suppress
from functools import wraps
from typing import Any, TypeVar

from app import agent, database, ingestion, llm, main, workflows
from app.agent import Question, RunStep
from app.ingestion import Upload
from app.models import Answer, Document

T = TypeVar("T")
PLAN = json.loads(sys.argv[1])
LOG = os.open(PLAN["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

answer, ingest = agent.answer, ingestion.ingest


async def run() -> None:
    async with main.stack(PLAN["concurrency"], sample=True):
        tell("open")
        for label, (source, content) in PLAN.get("uploads", {}).items():
            upload = Upload(source=source, content=content.encode(), metadata={"label": label})
            tell("started", label, run=await workflows.start_ingestion(upload))
        for label in PLAN.get("questions", []):
            tell("started", label, run=await workflows.start_question(Question(question=label)))
        if PLAN.get("report"):
            await report()
        await asyncio.Event().wait()


def tell(what: str, label: str = "", **more: Any) -> None:
    os.write(LOG, f"{json.dumps({'what': what, 'label': label} | more)}\n".encode())


async def report() -> None:
    told: set[str] = set()
    while True:
        for run_id in {run.id for run in await workflows.list_runs(200) if run.finished_at} - told:
            told.add(run_id)
            run = await workflows.get_run(run_id)
            assert run
            passages = await database.read_passages(run.subject, 0, {}, 1000) if run.kind == "ingestion" else []
            tell(
                "ended",
                run=run_id,
                result=run.model_dump(mode="json"),
                events=[event.number async for event in workflows.events(run_id)],
                passages=[(hit.position, hit.text) for hit in passages],
            )
        await asyncio.sleep(1)  # an engine may ask its server once for each run


async def stoppable_answer(question: Question, run_step: RunStep, on_text: llm.OnText) -> Answer:
    return await answer(question, Stops(question.question, run_step), on_text)


async def stoppable_ingest(upload: Upload, run_step: RunStep) -> Document:
    return await ingest(upload, Stops(upload.metadata.get("label", ""), run_step))


class Stops:
    """Runs steps; the one in question up to its moment."""

    def __init__(self, label: str, run_step: RunStep) -> None:
        self.label, self.run_step = label, run_step
        self.step, self.moment, self.waits = PLAN.get("stops", {}).get(label, ("", "", 0))

    async def __call__(self, name: str, function: Callable[..., Awaitable[T]], *args: Any) -> T:
        moment = self.moment if name == self.step else ""

        @wraps(function)
        async def stoppable(*args: Any) -> T:
            if moment == "before":
                await self.stop()
            tell("ran", self.label, step=name)
            if moment == "inside":
                begun = Partway(function(*args), self.waits)  # which keeps what it holds
                await begun
                await self.stop()
            result = await function(*args)
            if moment == "unrecorded":
                await self.stop()
            return result

        result = await self.run_step(name, stoppable, *args)
        if moment == "recorded":
            await self.stop()
        return result

    async def stop(self) -> None:
        tell("stopped", self.label, moment=self.moment)
        if not PLAN.get("hold"):
            os.kill(os.getpid(), signal.SIGKILL)
        await asyncio.Event().wait()


class Partway:
    """Of something that is awaited: the beginning, until it has waited so often."""

    def __init__(self, whole: Awaitable[Any], waits: int) -> None:
        self.steps, self.waits = whole.__await__(), waits

    def __await__(self) -> Generator[Any, None, None]:
        with suppress(StopIteration):  # it waits less often
            for _ in range(self.waits):
                yield next(self.steps)


agent.answer, ingestion.ingest = stoppable_answer, stoppable_ingest
asyncio.Runner(loop_factory=asyncio.SelectorEventLoop).run(run())
