"""The settings of all parts, and the file that tells of them."""

import re
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from pydantic_settings import BaseSettings

import app
from app.settings import ROOT


def test_env_example_lists_all_settings_with_values_that_they_take(tmp_path: Path) -> None:
    for module in iter_modules(app.__path__):
        import_module(f"app.{module.name}")
    parts = [part for part in BaseSettings.__subclasses__() if part.__module__.startswith("app.")]
    text = re.sub(r"^# (?=[A-Z_]+=)", "", (ROOT / ".env.example").read_text(encoding="utf-8"), flags=re.MULTILINE)
    declared = [field.upper() for part in parts for field in part.model_fields]
    assert sorted(declared) == sorted(re.findall(r"^([A-Z_]+)=", text, re.MULTILINE))
    examples = tmp_path / ".env"
    examples.write_text(text, encoding="utf-8")
    for part in parts:
        part(_env_file=examples)
