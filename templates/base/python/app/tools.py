"""What the model can call: functions that read. The model knows each by its name, its docstring and its arguments."""

from collections.abc import Awaitable, Callable
from functools import wraps
from inspect import getdoc
from typing import Annotated, Any, TypeVar, get_type_hints

from openai import pydantic_function_tool
from openai.types.chat import ChatCompletionFunctionToolParam
from pydantic import AfterValidator, BaseModel

from app import database, embeddings, observability
from app.models import Hit

T = TypeVar("T")
A = TypeVar("A", bound=BaseModel)

Tool = Callable[[Any, dict[str, str]], Awaitable[object]]

# A model may write anything; databases take no NUL, and a query of a page finds nothing.
Words = Annotated[str, AfterValidator(lambda text: text.replace("\0", "")[:2_000])]

TOOLS: dict[str, tuple[type[BaseModel], Tool]] = {}
DESCRIPTIONS: list[ChatCompletionFunctionToolParam] = []


def tool(function: Callable[[A, dict[str, str]], Awaitable[T]]) -> Callable[[A, dict[str, str]], Awaitable[T]]:
    """Let the model call a function. It gets the arguments, and the filters that the question came with.

    What it gives is recorded, and shown to the model as JSON; a list of `Hit` as passages that it can quote.
    """
    name, parameters = function.__name__, next(iter(get_type_hints(function).values()))

    @wraps(function)
    async def traced(arguments: A, filters: dict[str, str]) -> T:
        with observability.tool_call(name, arguments) as record:
            found = await function(arguments, filters)
            record(found)
        return found

    TOOLS[name] = (parameters, traced)
    DESCRIPTIONS.append(pydantic_function_tool(parameters, name=name, description=getdoc(function)))
    return traced


class SearchDocuments(BaseModel):
    query: Words


@tool
async def search_documents(arguments: SearchDocuments, filters: dict[str, str]) -> list[Hit]:
    """Find the passages that fit a query best."""
    vector = await embeddings.embed_query(arguments.query)
    return await database.search(arguments.query, vector, filters)


class ReadDocument(BaseModel):
    source: Words
    position: int


@tool
async def read_document(arguments: ReadDocument, filters: dict[str, str]) -> list[Hit]:
    """Read the passages of one document, from a position on."""
    return await database.read_passages(arguments.source, arguments.position, filters)
