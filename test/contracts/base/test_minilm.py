"""The built-in embedding model works by itself: it writes nothing, and so reports nothing."""

import os
import subprocess
import sys
from pathlib import Path

EMBED = "from embedded import minilm; print(len(minilm.embed(['Who is called at night?'])[0]))"


def test_the_model_leaves_nothing_in_the_home_folder(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    environment = {k: v for k, v in os.environ.items() if k not in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")} | home
    done = subprocess.run([sys.executable, "-c", EMBED], env=environment, capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("384", "")
    assert list(tmp_path.iterdir()) == []
