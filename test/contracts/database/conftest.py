"""A database of its own for each test, by the tool of the project; the tests of the others stay out."""

import json
import sys
from collections.abc import AsyncIterator
from importlib import import_module
from pathlib import Path

import pytest

from app import database

TOOL = json.loads(Path("ai-stack.json").read_text(encoding="utf-8"))["tools"]["database"]
collect_ignore = [path.name for path in Path(__file__).parent.iterdir() if path.is_dir() and path.name != TOOL]
sys.path.insert(0, str(Path(__file__).with_name(TOOL)))
empty_database = import_module("fixture").empty_database


@pytest.fixture
async def opened(empty_database: None) -> AsyncIterator[None]:
    async with database.lifespan():
        yield
