"""What Opik answers, beside taking in spans."""

from typing import Any
from uuid import UUID

API = "/api/v1/private/"
DATASET = "0190a1b2-0000-7000-8000-000000000001"
TRACE = {"id", "project_name", "name", "start_time", "end_time", "input", "output", "metadata", "tags", "thread_id"}
SCORE = {"id", "project_name", "name", "value", "reason", "source"}
NAMED = {"dataset_name", "project_name"}
FIELDS: dict[tuple[str, str], set[str]] = {
    ("POST", "auth"): set(),
    ("POST", "traces"): TRACE | {"environment"},
    ("PUT", "traces/feedback-scores"): {"scores"},
    ("PUT", "datasets/items"): NAMED | {"items"},
    ("POST", "datasets/retrieve"): NAMED,
    ("POST", "experiments"): NAMED | {"id", "name"},
    ("POST", "experiments/items"): {"experiment_items"},
}


def answer(method: str, path: str, body: Any, _address: str) -> Any:
    """Nothing to a request that it has not got, or whose fields or ids it would not take."""
    fields = FIELDS.get((method, path.removeprefix(API)))
    scores = body.get("scores", [])
    if fields is None or not set(body) <= fields or any(set(score) - SCORE for score in scores):
        return None
    if not all(score["name"].strip() for score in scores):
        return None
    rows = [body, *body.get("scores", []), *body.get("items", []), *body.get("experiment_items", [])]
    ids = [id for row in rows for name, id in row.items() if name.split("_")[-1] == "id" and name != "thread_id"]
    return {"id": DATASET} if all(UUID(id).version == 7 for id in ids) else None
