"""What the model can call. A tool is a model of its arguments and a function that reads."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from openai import pydantic_function_tool
from pydantic import AfterValidator, BaseModel

from app import database, embeddings
from app.models import Hit

# A model may write anything; databases take no NUL, and a query of a page finds nothing.
Words = Annotated[str, AfterValidator(lambda text: text.replace("\0", "")[:2_000])]


class SearchDocuments(BaseModel):
    """Find the passages that fit a query best."""

    query: Words


class ReadDocument(BaseModel):
    """Read the passages of one document, from a position on."""

    source: Words
    position: int


async def search_documents(arguments: SearchDocuments, filters: dict[str, str]) -> list[Hit]:
    vector = await embeddings.embed_query(arguments.query)
    return await database.search(arguments.query, vector, filters)


async def read_document(arguments: ReadDocument, filters: dict[str, str]) -> list[Hit]:
    return await database.read_passages(arguments.source, arguments.position, filters)


TOOLS: dict[str, tuple[type[BaseModel], Callable[[Any, dict[str, str]], Awaitable[list[Hit]]]]] = {
    "search_documents": (SearchDocuments, search_documents),
    "read_document": (ReadDocument, read_document),
}

DESCRIPTIONS = [pydantic_function_tool(model, name=name) for name, (model, _) in TOOLS.items()]
