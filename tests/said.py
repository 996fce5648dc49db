"""What a command prints, itself and by libraries and processes that it starts."""

import contextlib
import os
import tempfile

from corpus.cli import Main


def said(main: Main, *arguments: object) -> tuple[int, str]:
    """Run a command in this process; its exit code, and all that reaches standard output and standard error."""
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
