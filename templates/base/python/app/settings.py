"""Settings that every stack has. Each seam declares its own beside itself, in the same way."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, Json, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, ValidationError
from pydantic.functional_validators import field_validator
from pydantic_core.core_schema import ValidationInfo
from pydantic_settings import BaseSettings

ROOT = Path(__file__).resolve().parent.parent
DOTENV = os.environ.get("ENV_FILE", ROOT / ".env")
LOOPBACK = {"127.0.0.1", "localhost", "::1"}


problems: list[str] = []
"""What is wrong with settings. `doctor` tells it and goes on with their defaults; all else ends."""
IS_DOCTOR = sys.argv[1:2] == ["doctor"]


class FromEnvironment(BaseSettings, env_file=DOTENV, env_file_encoding="utf-8", env_ignore_empty=True, extra="ignore"):
    """Read at import: where one is wrong, this says so and ends the process."""

    def __init__(self) -> None:
        try:
            super().__init__()
        except (OSError, UnicodeError) as error:
            problems.append(f"{DOTENV} cannot be read: {error}")
            if IS_DOCTOR:
                super().__init__(_env_file=None)
        if problems and not IS_DOCTOR:
            sys.exit("\n".join(problems))

    @field_validator("*", mode="wrap")
    @classmethod
    def _or_default(cls, value: Any, parse: Callable[[Any], Any], info: ValidationInfo) -> Any:
        try:
            return parse(value)
        except ValidationError as error:
            name = str(info.field_name)
            problems.append(f"{name.upper()}={value}: {error.errors()[0]['msg']}")
            return cls.model_fields[name].default


class Settings(FromEnvironment):
    data_dir: Path = ROOT / ".data"
    """Folder for all that the embedded parts keep."""
    host: str = "127.0.0.1"
    """Address that `serve` binds. Any address other than loopback needs an API_KEY."""
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    """Port of `dev` and `serve`."""
    load_sample: bool = False
    """Take in data/sample where there are no documents; `dev` sets it."""
    api_key: str = ""
    """Key that clients send as `Authorization: Bearer <key>`."""
    cors_origins: Json[list[str]] = Field(default=[], validate_default=False)
    """Web origins that may call the API from a browser, as a JSON list."""
    llm_model: str = ""
    """Model that answers. Without one, answers are sentences quoted from the documents."""
    llm_api_key: str = ""
    """Key of the model's provider."""
    llm_base_url: str = ""
    """Base URL of an OpenAI-compatible API. Empty: OpenAI."""
    llm_reasoning_effort: str = ""
    """How long the model shall think, in its provider's words. Empty: as it likes."""
    llm_timeout_seconds: PositiveFloat = 60
    """Time that one call to the model may take."""
    embedding_model: str = ""
    """Embedding model of the OpenAI-compatible API. Empty: the one that is built in."""
    worker_concurrency: NonNegativeInt = 8
    """Runs that a process works on at once. 0: `serve` works on none and leaves them to `worker`."""
    drain_seconds: NonNegativeInt = 20
    """Time that what has begun has to end when `serve` or `worker` is stopped. Others take over the rest."""
    run_retention_days: Annotated[float, Field(ge=0, le=36_500)] = 30
    """Days that ended runs are kept, with the text that they worked on. 0: for ever."""
    agent_max_steps: PositiveInt = 8
    """Calls to the model that one question may take."""
    agent_max_seconds: PositiveFloat = 120
    """Time that a question may take once it is worked on, waits between attempts included."""
    agent_max_cost_usd: NonNegativeFloat = 0.5
    """Money that one question may cost, where the model's price is known."""
    max_upload_bytes: PositiveInt = 10_000_000
    """Largest document that is taken in."""
    conversion_seconds: PositiveFloat = 60
    """Time that reading one HTML, PDF or Word file may take."""
    trace_content: bool = True
    """Whether traces hold what was asked, found and answered."""
    trace_console: bool = False
    """Print the spans. `dev --trace` sets it."""


settings = Settings()
