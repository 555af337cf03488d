"""The settings of all parts, and the file that tells of them."""

import re
from importlib import import_module
from pkgutil import iter_modules

import app
from app.settings import ROOT, FromEnvironment


def test_env_example_lists_all_settings() -> None:
    for module in iter_modules(app.__path__):
        import_module(f"app.{module.name}")
    parts = FromEnvironment.__subclasses__()
    listed = re.findall(r"^#? ?([A-Z0-9_]+)=", (ROOT / ".env.example").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(field.upper() for part in parts for field in part.model_fields)
