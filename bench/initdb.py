"""Time initdb alone, with the options of a created project: in that, `python bench/initdb.py NEW_FOLDER`."""

import json
import os
import sys
import time
from pathlib import Path

from embedded import postgres

folder = Path(sys.argv[1])
folder.mkdir()
os.chdir(folder)
data, password = Path("data"), Path("password")
data.mkdir()
password.write_text("secret", encoding="utf-8")
started = time.perf_counter()
if postgres.run("initdb", f"--pwfile={password}", *postgres.INITDB, data=data):
    sys.exit(postgres.read(postgres.LOG))
print(json.dumps({"initdb": round(time.perf_counter() - started, 3)}))
