"""HTML, PDF and Word files as Markdown, by xberg.

A file may be made to do harm. So it is read in a process of its own, which is this file run as a program, with limits
on its time, its memory and what it may write. That imports nothing else of the application, to be quick.
"""

import asyncio
import faulthandler
import os
import subprocess
import sys
import time
from contextlib import suppress
from threading import Thread

WORD = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
KINDS = {".html": "text/html", ".htm": "text/html", ".pdf": "application/pdf", ".docx": WORD}
MEMORY = 1_000_000_000  # bytes that reading a file may take, where the system can limit it: on Linux
AT_ONCE = asyncio.Semaphore(2)  # files that are read
FAULTS = {
    "password": "it is encrypted; save it without a password",
    "limit exceeded": "it unpacks to far more than its size, as a bomb does",
    "memory allocation": "it takes too much memory to read; split it",
    "Timeout (": "it takes longer than CONVERSION_SECONDS to read; split it, or raise that setting",
    "too long": "its text is longer than MAX_UPLOAD_BYTES; split it, or raise that setting",
    "": "it is damaged, or not what its suffix says; open it and save it anew",
}
"""What to say of a file, by words in what the process says of it; the first that fits."""


async def convert(suffix: str, content: bytes, seconds: float, limit: int) -> str:
    """Its Markdown: at most so many characters, in so many seconds. Raises ValueError that says what is wrong."""
    command = [sys.executable, "-I", __file__, KINDS[suffix], str(seconds), str(limit), str(os.getpid())]
    pipe = subprocess.PIPE
    async with AT_ONCE:
        # On Windows, this event loop runs no processes of its own.
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe)  # noqa: ASYNC220
        try:
            text, errors = await asyncio.to_thread(process.communicate, content)
        finally:  # the run may have been cancelled
            process.kill()
    if process.returncode:
        said = errors.decode(errors="replace")
        raise ValueError(next(fault for words, fault in FAULTS.items() if words in said))
    return text.decode().replace("\0", "")


def main(kind: str, seconds: str, limit: str, parent: str) -> None:
    faulthandler.dump_traceback_later(float(seconds), exit=True)
    Thread(target=_end_with, args=[int(parent)], daemon=True).start()
    if sys.platform != "win32":
        import resource

        for which, most in (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_DATA, MEMORY):
            with suppress(ValueError):  # macOS has no limit on data
                resource.setrlimit(which, (most, most))
    from xberg import ConversionOptions, ExtractInput, ExtractionConfig, extract

    config = ExtractionConfig(
        output_format="markdown",
        escape_markdown=False,
        html_options=ConversionOptions(extract_metadata=False, skip_images=True, exclude_selectors=["nav", "aside"]),
        max_archive_depth=0,
        disable_ocr=True,
        use_cache=False,
    )
    result = asyncio.run(extract(ExtractInput(kind="bytes", bytes=sys.stdin.buffer.read(), mime_type=kind), config))
    text = result.results[0].content
    if len(text) > int(limit):
        sys.exit("too long")
    sys.stdout.buffer.write(text.encode())
    sys.stdout.flush()
    os._exit(0)  # threads of xberg may crash the usual way out


def _end_with(parent: int) -> None:
    while os.getppid() == parent:  # on Windows, it stays the same: there, only the time ends it
        time.sleep(0.5)
    os._exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
