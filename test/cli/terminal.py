"""Runs a command in a pseudo-terminal, types when it sees what it waits for, and prints the outcome as JSON.

usage: terminal.py COLUMNS STEPS COMMAND...    where STEPS is JSON: [[text to wait for, keys to type or SIGTERM], ...]
"""

import fcntl
import json
import os
import pty
import select
import signal
import struct
import sys
import termios
import time

DEADLINE = time.monotonic() + float(os.environ.get("PATIENCE", "30"))


def main() -> None:
    columns, steps, command = int(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3:]
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvp(command[0], command)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    screen, seen = "", 0
    while time.monotonic() < DEADLINE:
        if steps and steps[0][0] in screen[seen:]:
            seen = len(screen)
            keys = steps.pop(0)[1]
            if keys == "SIGTERM":
                os.kill(pid, signal.SIGTERM)
            else:
                os.write(terminal, keys.encode())
        if not select.select([terminal], [], [], 0.1)[0]:
            continue
        try:
            data = os.read(terminal, 65536)
        except OSError:  # Linux reports the end of a terminal's other side as an error.
            data = b""
        if not data:
            _, status = os.waitpid(pid, 0)
            print(json.dumps({"exitCode": os.waitstatus_to_exitcode(status), "screen": screen, "left": steps}))
            return
        screen += data.decode(errors="replace")
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    print(json.dumps({"exitCode": None, "screen": screen, "left": steps}))


main()
