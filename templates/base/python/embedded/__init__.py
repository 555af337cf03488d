"""Real parts that stand in on a laptop for the servers of production. `app` works without them."""

from pathlib import Path

from app.models import UserError


def make_folder(directory: Path, program: str) -> None:
    """Make a folder, for the user alone, that a program keeps its data in. Raises `UserError`."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o700)
    except OSError as error:
        raise UserError(f"{program} cannot keep its data there (DATA_DIR can name another folder): {error}") from error
