"""Execute a generated program in a subprocess with limits.

The program runs in an empty temporary folder, without environment and input, as a process group of its own that is
killed at the end, with limits on time, memory, files and processes. That stops programs that run away. It is no
protection against malicious ones, which can read files and use the network: use a container for models that you do not
trust.
"""

import os
import resource
import secrets
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

SECONDS = 10.0
"""Largest run time; of CPU time one second more."""
MEMORY = 2 * 2**30
"""Largest address space in bytes."""
_FILE_BYTES = 2**20
_OPEN_FILES = 64
_MESSAGE = 300
"""Longest message in characters."""


def run_program(program: str, *, seconds: float = SECONDS) -> str | None:
    """Execute a Python program.

    Parameters
    ----------
    program
        Source text.
    seconds
        Largest run time.

    Returns
    -------
    str or None
        None if it ran to its end without an exception, otherwise why not.
    """
    end = secrets.token_hex(16)  # printed at the end, because a program may exit with code 0 before its tests
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as output:
        path = Path(folder) / "program.py"
        path.write_text(f"{program}\nprint({end!r})\n", encoding="utf-8", errors="replace")
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", path.name],
            cwd=folder,
            env={"PYTHONHASHSEED": "0"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=lambda: _limit(seconds),
        )
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            return f"no result after {seconds:g} s"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        output.seek(0)
        lines = output.read(_FILE_BYTES).decode(errors="replace").split("\n")
    if process.returncode == 0 and end in lines:
        return None
    last = next((line for line in reversed(lines) if line.strip()), "no message")
    return f"ended by signal {-process.returncode}" if process.returncode < 0 else last[:_MESSAGE]


def _limit(seconds: float) -> None:
    """Set the limits of the new process."""
    cpu = int(seconds) + 1
    for kind, value in (
        (resource.RLIMIT_CPU, cpu),
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_FSIZE, _FILE_BYTES),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
        (resource.RLIMIT_NPROC, 32),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(kind)
        lowest = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (lowest, lowest))
