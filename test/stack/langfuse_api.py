"""What Langfuse answers, beside taking in spans."""

from typing import Any

NOW = "2026-01-01T00:00:00Z"
DATASET = {"id": "dataset-1", "projectId": "demo", "metadata": None, "createdAt": NOW, "updatedAt": NOW}
ITEM = {"status": "ACTIVE", "datasetId": "dataset-1", "createdAt": NOW, "updatedAt": NOW, "mediaReferences": []}


def answer(method: str, path: str, body: Any, _address: str) -> Any:
    """By Langfuse's own models of the API: which project a key is for; datasets, of which one of the same name or id
    is the same; scores."""
    given = {name: value for name, value in body.items() if value is not None} if isinstance(body, dict) else {}
    match method, path:
        case "GET", "/api/public/projects":
            organization = {"id": "org", "name": "org"}
            return {"data": [{"id": "demo", "name": "demo", "metadata": {}, "organization": organization}]}
        case "POST", "/api/public/v2/datasets":
            return DATASET | given
        case "POST", "/api/public/dataset-items":
            return ITEM | {"expectedOutput": None, "metadata": None} | given
        case "POST", "/api/public/scores":
            return {"message": "Accepted"}
    return None
