"""Ask the first question of a created project as its command does, and print what each part took.

uv run python bench/first_answer.py

The command runs unchanged; where a part begins, the time is noted.
"""

import json
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

begun = {"imports": time.perf_counter()}

from app import __main__ as command_line  # noqa: E402
from app import database  # noqa: E402


def note(part: str, module: Any, name: str, then: Callable[[], None] = lambda: None) -> None:
    original = getattr(module, name)

    def noted(*args: Any, **options: Any) -> Any:
        begun.setdefault(part, time.perf_counter())
        then()
        return original(*args, **options)

    setattr(module, name, noted)


def note_the_rest() -> None:
    """Of modules that the command imports while the database starts."""
    from app import main, workflows

    note("start", workflows, "lifespan")
    note("sample", main, "_take_in")
    note("answer", workflows, "start_question")


note("rest of database, migrations", database, "lifespan", note_the_rest)
sys.argv = ["my-app", "ask", "How long are invoices kept?"]
with redirect_stdout(StringIO()) as printed:
    command_line.commands(standalone_mode=False)
assert "kept for ten" in printed.getvalue(), printed.getvalue()
ends = [*list(begun.values())[1:], time.perf_counter()]
print(json.dumps({part: round(end - start, 3) for (part, start), end in zip(begun.items(), ends, strict=True)}))
