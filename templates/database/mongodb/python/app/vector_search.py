"""Search by $vectorSearch and $search, where the server has mongot: Atlas, its local image, MongoDB 8.2 or later."""

import asyncio
import logging
from collections.abc import Sequence

from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import OperationFailure
from pymongo.operations import SearchIndexModel

from app.storage import VECTOR, Row, vector_field

INDEX_SECONDS = 120
ABSENT = (59, 115, 31082, 40324, 6047401)  # codes of servers without: no such command, configuration or stage
EXISTS_ALREADY = 68
WORDS = "words"

log = logging.getLogger("app")


class VectorSearch:
    METHOD = "$vectorSearch"

    def __init__(self, chunks: AsyncCollection[Row]) -> None:
        self._chunks = chunks

    async def is_supported(self) -> bool:
        try:
            if not await self._indexes():  # which a server may say that has no search
                await self.rank(0, 0, "a", [1.0], [], 1)
        except OperationFailure as error:
            if error.code in ABSENT:
                return False
            raise
        return True

    async def prepare(self, state: Row, wait: bool) -> None:
        """Create the indexes that are missing, and wait until they can be asked; drop one of other dimensions."""
        if "model" not in state:
            return
        dimensions = state["model"]["dimensions"]
        field, english = vector_field(dimensions), {"type": "string", "analyzer": "lucene.english"}
        filters = [{"type": "filter", "path": path} for path in ("generation", "tags")]
        vector = {"type": "vector", "path": field, "numDimensions": dimensions, "similarity": "cosine"}
        fields = {"heading": english, "text": english, "tags": {"type": "token"}}
        models = {
            field: SearchIndexModel({"fields": [vector, *filters]}, field, "vectorSearch"),
            WORDS: SearchIndexModel({"mappings": {"dynamic": False, "fields": fields}}, WORDS, "search"),
        }
        known = {index["name"] for index in await self._indexes()}
        for name in models.keys() - known:
            try:
                await self._chunks.create_search_index(models[name])
            except OperationFailure as error:
                if error.code != EXISTS_ALREADY:  # another process was quicker
                    log.warning("The search index %s is not made: %s", name, error.details and error.details["errmsg"])
        for name in {name for name in known - models.keys() if name.startswith(VECTOR)}:
            await self._chunks.drop_search_index(name)
        for _ in range(INDEX_SECONDS if wait else 1):
            queryable = {index["name"] for index in await self._indexes() if index["queryable"]}
            if queryable >= models.keys():
                return
            await asyncio.sleep(wait)
        log.warning("The search indexes are still being built: until they are, search finds little.")

    async def rank(
        self, _: int, generation: int, text: str, vector: list[float], tags: Sequence[str], limit: int
    ) -> list[list[Row]]:
        """The passages nearest in meaning, and those that share words."""
        field = vector_field(len(vector))
        nearest = {
            "index": field,
            "path": field,
            "queryVector": vector,
            "numCandidates": 20 * limit,
            "limit": limit,
            "filter": {"$and": [{"generation": {"$eq": generation}}, *({"tags": {"$eq": tag}} for tag in tags)]},
        }
        matching: Row = {"must": [{"text": {"query": text, "path": ["heading", "text"]}}]}
        if tags:
            matching["filter"] = [{"equals": {"path": "tags", "value": tag}} for tag in tags]
        pipelines: list[list[Row]] = [[{"$vectorSearch": nearest}]]
        if text.strip():
            pipelines.append([{"$search": {"index": WORDS, "compound": matching}}, {"$limit": limit}])
        leaner = {"$project": {field: 0}}
        return [await (await self._chunks.aggregate([*pipeline, leaner])).to_list() for pipeline in pipelines]

    async def _indexes(self) -> list[Row]:
        return [dict(index) for index in await (await self._chunks.list_search_indexes()).to_list()]
