# /// script
# requires-python = ">=3.11"
# ///
"""Check that docs/seams.md names what exists.

Every name in code font in a tool's column must resolve in the package versions that the
document pins for that tool, and parameters in parentheses must be in the signature:

    uv run scripts/check-seams.py [tool ...]

Exits with 1 and lists what does not resolve.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

DOCUMENT = Path(__file__).parent.parent / "docs" / "seams.md"
NAME = re.compile(r"(?P<path>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+)(?:\((?P<parameters>[\w, ]*)\))?")

# Importing these packages must neither report nor reach anything.
QUIET = {"DO_NOT_TRACK": "1", "OPIK_SENTRY_ENABLE": "false", "OPIK_TRACK_DISABLE": "true", "PYTHONWARNINGS": "ignore"}


def main(only: list[str]) -> int:
    packages, names = read(DOCUMENT.read_text(encoding="utf-8"))
    if unpinned := sorted(names.keys() - packages.keys()) or sorted(set(only) - names.keys()):
        print(f"no versions pinned, or no column, for: {', '.join(unpinned)}")
        return 1
    tools = [tool for tool in names if not only or tool in only]
    # Two at a time: more would only compete for the package cache.
    with ThreadPoolExecutor(2) as pool:
        results = pool.map(lambda tool: problems_of(packages[tool], names[tool]), tools)
        problems = [f"{tool}: {problem}" for tool, found in zip(tools, results, strict=True) for problem in found]
    print("\n".join(problems) or f"{sum(len(names[tool]) for tool in tools)} names of {len(tools)} tools resolve")
    return 1 if problems else 0


def read(document: str) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """The pinned packages and the names to check, by tool."""
    packages: dict[str, list[str]] = {}
    names: dict[str, list[str]] = {}
    header: list[str] = []
    for line in document.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []
        if not cells or not header:
            header = cells
        elif header[0] == "tool" and "==" in cells[1]:
            packages[cells[0]] = cells[1].split()
        elif header[0] == "function" and not set(cells[0]) <= set("-: "):
            for tool, cell in zip(header[1:], cells[1:], strict=True):
                found = names.setdefault(tool, [])
                found.extend(name for name in re.findall(r"`([^`]+)`", cell) if name not in found)
    return packages, names


def problems_of(packages: list[str], names: list[str]) -> list[str]:
    """Resolve the names in an environment that holds these packages alone."""
    requirements = [part for package in packages for part in ("--with", package)]
    command = ["uv", "run", "--quiet", "--isolated", "--no-project", *requirements, "python", __file__, "--resolve"]
    environment = {**os.environ, **QUIET}
    run = subprocess.run(
        command, check=False, input=json.dumps(names), capture_output=True, encoding="utf-8", env=environment
    )
    if run.returncode:
        return [f"could not be checked: {run.stderr.strip()}"]
    found: list[str] = json.loads(run.stdout.splitlines()[-1])
    return found


def resolve(name: str) -> str | None:
    """What is wrong with this name, if anything."""
    match = NAME.fullmatch(name)
    if not match:
        return f"{name} is not a dotted name"
    try:
        target = find(match["path"])
    except (ImportError, AttributeError) as error:
        return f"{name}: {error}"
    wanted = [parameter.strip() for parameter in (match["parameters"] or "").split(",") if parameter.strip()]
    missing = [parameter for parameter in wanted if parameter not in parameters_of(target)]
    return f"{name}: no parameter {', '.join(missing)}" if missing else None


def find(path: str) -> Any:
    parts = path.split(".")
    target = importlib.import_module(parts[0])
    for position, part in enumerate(parts[1:], start=1):
        if part in fields_of(target):
            return None
        if not hasattr(target, part) and inspect.ismodule(target):
            importlib.import_module(".".join(parts[: position + 1]))
        target = getattr(target, part)
    return target


def fields_of(target: Any) -> set[str]:
    """Fields that a class declares but does not hold as attributes: models, dataclasses, typed dictionaries."""
    classes = target.__mro__ if inspect.isclass(target) else []
    return {name for cls in classes for name in inspect.get_annotations(cls) if not hasattr(target, name)}


def parameters_of(target: Any) -> set[str]:
    try:
        return set(inspect.signature(target).parameters) | fields_of(target)
    except (TypeError, ValueError):
        return fields_of(target)


if __name__ == "__main__":
    if sys.argv[1:] == ["--resolve"]:
        print(json.dumps([problem for name in json.load(sys.stdin) if (problem := resolve(name))]))
    else:
        sys.exit(main(sys.argv[1:]))
