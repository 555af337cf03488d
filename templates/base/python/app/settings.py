"""Settings that every stack has. Each seam declares its own beside itself, in the same way."""

import os
from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict

ROOT = Path(__file__).resolve().parent.parent
DOTENV = os.environ.get("ENV_FILE", ROOT / ".env")
FROM_ENVIRONMENT = SettingsConfigDict(env_file=DOTENV, env_file_encoding="utf-8", env_ignore_empty=True, extra="ignore")


class Settings(BaseSettings):
    model_config = FROM_ENVIRONMENT

    data_dir: Path = ROOT / ".data"
    """Folder for all that the embedded parts keep."""
    host: str = "127.0.0.1"
    """Address that `serve` binds. Any address other than loopback needs an API_KEY."""
    port: int = 8000
    """Port of `dev` and `serve`."""
    load_sample: bool = False
    """Take in data/sample where there are no documents; `dev` sets it."""
    api_key: str = ""
    """Key that clients send as `Authorization: Bearer <key>`."""
    cors_origins: list[str] = []
    """Web origins that may call the API from a browser, as a JSON list."""
    llm_model: str = ""
    """Model that answers. Without one, answers are sentences quoted from the documents."""
    llm_api_key: str = ""
    """Key of the model's provider."""
    llm_base_url: str = ""
    """Base URL of an OpenAI-compatible API. Empty: OpenAI."""
    llm_timeout_seconds: float = 60
    """Time that one call to the model may take."""
    embedding_model: str = ""
    """Embedding model of the OpenAI-compatible API. Empty: the one that is built in."""
    worker_concurrency: int = 8
    """Runs that a process works on at once. 0: `serve` works on none and leaves them to `worker`."""
    drain_seconds: int = 20
    """Time that runs under way have to end when `serve` or `worker` is stopped. Others take over the rest."""
    run_retention_days: float = 30
    """Days that ended runs are kept, with the text that they worked on. 0: for ever."""
    agent_max_steps: int = 8
    """Calls to the model that one question may take."""
    agent_max_seconds: float = 120
    """Time that the steps of one question may take together."""
    agent_max_cost_usd: float = 0.5
    """Money that one question may cost."""
    max_upload_bytes: int = 10_000_000
    """Largest document that is taken in."""


settings = Settings()
