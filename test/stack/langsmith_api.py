"""What LangSmith answers, beside taking in spans: about its projects, its datasets and their examples."""

from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

TENANT = "0b8f7d3e-5d0c-4c5e-9f0e-6f6c1a5b2d11"

projects: dict[str, dict[str, Any]] = {}
datasets: dict[str, dict[str, Any]] = {}
examples: dict[str, dict[str, Any]] = {}


def answer(method: str, path: str, body: Any, _address: str) -> Any:
    where, asked = urlsplit(path).path, parse_qs(urlsplit(path).query)
    if (method, where) == ("GET", "/sessions"):
        return _found(projects, asked)
    if (method, where) == ("POST", "/sessions"):
        return _add_project(body)
    if (method, where) == ("GET", "/datasets"):
        return _found(datasets, asked)
    if (method, where) == ("POST", "/datasets"):
        assert body["name"] not in datasets
        return datasets.setdefault(body["name"], {**_dated(), "id": str(uuid4()), "name": body["name"]})
    if (method, where) == ("GET", "/examples"):
        return [example for example in examples.values() if [example["dataset_id"]] == asked["dataset"]]
    if (method, where) == ("POST", "/examples"):
        assert body["id"] not in examples
        return examples.setdefault(body["id"], {**_dated(), **body})
    if (method, where) == ("POST", "/runs"):
        assert body["session_name"] in projects
    if (method, where) == ("POST", "/runs/multipart"):
        _add_project({"name": "default"})
    return {} if where.partition("/")[2].partition("/")[0] in {"info", "runs", "feedback"} else None


def _add_project(body: Any) -> dict[str, Any]:
    new = {"id": str(uuid4()), "reference_dataset_id": None, **body, "tenant_id": TENANT}
    return projects.setdefault(body["name"], new)


def _found(kept: dict[str, dict[str, Any]], asked: dict[str, list[str]]) -> list[dict[str, Any]]:
    names = asked.get("name", list(kept))
    return [each for each in kept.values() if each["name"] in names]


def _dated() -> dict[str, str]:
    return {"created_at": "2026-11-01T00:00:00+00:00"}
