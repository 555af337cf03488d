"""The settings of all parts and the file that tells of them agree."""

import re
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from pydantic_settings import BaseSettings

import app
from tests.conftest import ROOT, SETTINGS


def parts() -> list[type[BaseSettings]]:
    for module in iter_modules(app.__path__):
        import_module(f"app.{module.name}")
    return [part for part in BaseSettings.__subclasses__() if part.__module__.startswith("app.")]


def test_env_example_lists_the_settings_of_all_parts() -> None:
    declared = [field.upper() for part in parts() for field in part.model_fields]
    assert sorted(declared) == sorted(SETTINGS)


def test_its_examples_can_be_set(tmp_path: Path) -> None:
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    examples = tmp_path / ".env"
    examples.write_text(re.sub(r"^# (?=[A-Z_]+=)", "", text, flags=re.MULTILINE), encoding="utf-8")
    read = [part(_env_file=examples) for part in parts()]
    assert any(part.model_fields_set for part in read)
