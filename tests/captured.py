"""The output of a command, with that of the libraries and processes that it starts."""

import contextlib
import os
import tempfile

from corpus.cli import Main


def run_captured(main: Main, *arguments: object) -> tuple[int, str]:
    """Run a command in this process, and return its exit code and all that it writes to standard output and error."""
    with tempfile.TemporaryFile() as file, contextlib.ExitStack() as stack:
        for stream in (1, 2):
            kept = os.dup(stream)
            stack.callback(os.close, kept)
            stack.callback(os.dup2, kept, stream)
            os.dup2(file.fileno(), stream)
        text = stack.enter_context(open(os.dup(file.fileno()), "w", buffering=1, encoding="utf-8"))
        stack.enter_context(contextlib.redirect_stdout(text))
        stack.enter_context(contextlib.redirect_stderr(text))
        code = main([str(argument) for argument in arguments])
        text.flush()
        file.seek(0)
        return code, file.read().decode()
