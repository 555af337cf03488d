"""Questions through the service, against bare workflows on the same queue. Run in a created project, with LLM_MODEL,
LLM_BASE_URL and LLM_API_KEY of a server that answers at once: see model.js.

A question takes three steps: the model, a search, the model. `same calls` is a workflow with those steps and the same
calls in them (the model by the openai SDK, streamed; the query's vector; the search's SQL on a pool), without the
agent, events, spans, checks and answers of the service. `no calls` has three steps that do nothing.
"""

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import openai
from dbos import DBOS
from psycopg import sql
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool

from app import agent, database, embeddings, executors, llm, workflows
from app.agent import Question
from app.ingestion import Upload
from app.main import stack
from app.settings import settings
from app.tools import DESCRIPTIONS

AT_ONCE, ROUNDS, EACH = 8, 4, 48
QUESTION = "How long are invoices kept?"
client = openai.AsyncOpenAI(api_key=settings.llm_api_key, base_url=settings.llm_base_url, max_retries=0)
pool: AsyncConnectionPool[Any]


async def call_model(messages: list[Any]) -> str:
    parts: list[str] = []
    stream = await client.chat.completions.create(
        model=settings.llm_model,
        messages=messages,
        tools=[*DESCRIPTIONS, llm.ANSWER],
        stream=True,
        stream_options={"include_usage": True},
    )
    async for chunk in stream:
        if chunk.choices and (delta := chunk.choices[0].delta):
            parts += [delta.content or ""] + [c.function.arguments or "" for c in delta.tool_calls or [] if c.function]
    return "".join(parts)


async def search(query: str) -> list[tuple[Any, ...]]:
    vector = await embeddings.embed_query(query)
    statement = sql.SQL(database.SEARCH).format(dimensions=sql.Literal(len(vector)))
    values = {"text": query, "vector": str(vector), "filters": Jsonb({}), "limit": 8}
    values |= {"model": embeddings.model_name()}
    async with pool.connection() as connection:
        return await (await connection.execute(statement, values)).fetchall()


async def nothing(*_: Any) -> str:
    return "{}"


@DBOS.workflow(name="same calls")
async def same_calls(question: str) -> str:
    messages: list[dict[str, Any]] = [{"role": "system", "content": agent.INSTRUCTIONS}]
    messages.append({"role": "user", "content": question})
    arguments = await DBOS.run_step_async({"name": "llm 1"}, call_model, messages)
    hits = await DBOS.run_step_async({"name": "search"}, search, json.loads(arguments)["query"])
    call = {"id": "1", "type": "function", "function": {"name": "search_documents", "arguments": arguments}}
    passages = json.dumps([[str(value) for value in hit] for hit in hits])
    said = {"role": "assistant", "tool_calls": [call]}
    messages = [*messages, said, {"role": "tool", "tool_call_id": "1", "content": passages}]
    return await DBOS.run_step_async({"name": "llm 2"}, call_model, messages)


@DBOS.workflow(name="no calls")
async def no_calls(question: str) -> str:
    for name in ("llm 1", "search", "llm 2"):
        await DBOS.run_step_async({"name": name}, nothing, question)
    return question


async def ask_service() -> None:
    run = await workflows.wait(await workflows.start_question(Question(question=QUESTION)), 60)
    assert run and run.status == "succeeded" and len(run.steps) == 3, run


def ask_bare(workflow: Callable[..., Any]) -> Callable[[], Awaitable[None]]:
    async def ask() -> None:
        handle = await DBOS.enqueue_workflow_async(executors.QUEUE, workflow, QUESTION)
        await handle.get_result(polling_interval_sec=0.1)

    return ask


async def rate(ask: Callable[[], Awaitable[None]], count: int) -> float:
    """Questions a second, so many asked at once."""
    left = iter(range(count))

    async def client_() -> None:
        for _ in left:
            await ask()

    started = time.perf_counter()
    await asyncio.gather(*(client_() for _ in range(AT_ONCE)))
    return count / (time.perf_counter() - started)


async def main(sample: Path) -> None:
    global pool
    ways = {"service": ask_service, "same calls": ask_bare(same_calls), "no calls": ask_bare(no_calls)}
    async with stack(AT_ONCE):
        for source in ("billing.md", "handbook.md"):
            upload = Upload(source=source, content=(sample / source).read_bytes())
            await workflows.wait(await workflows.start_ingestion(upload), 60)
        async with AsyncConnectionPool(database.url(), min_size=1, max_size=10, open=False) as pool:
            rates: dict[str, list[float]] = {name: [] for name in ways}
            for ask in ways.values():
                await rate(ask, AT_ONCE)
            for _ in range(ROUNDS):
                for name, ask in ways.items():
                    rates[name].append(await rate(ask, EACH))
    print(json.dumps({name: round(statistics.median(values), 2) for name, values in rates.items()}))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
