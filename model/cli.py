"""Command line of this package's commands, which run without the rest of Millrace.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
"""

import functools
import sys
from collections.abc import Callable, Sequence
from typing import Protocol

import typer


class Main(Protocol):
    """The entry point of a command."""

    def __call__(self, arguments: Sequence[str] | None = None, *, program: str | None = None) -> int:
        """Run the command with these arguments, `sys.argv[1:]` by default, and return its exit code."""
        ...


def command(
    program: str, *, errors: tuple[type[Exception], ...] = (OSError,), epilog: str = ""
) -> Callable[[Callable[..., None]], Main]:
    """Turn a function with typer's annotations into a command.

    Parameters
    ----------
    program
        How the command is called, as its help shows it: "python -m model.flops".
    errors
        Exceptions that end the command with exit code 1 and their message.
    epilog
        Examples, printed below the options.
    """

    def decorate(function: Callable[..., None]) -> Main:
        @functools.wraps(function)
        def guarded(**parameters: object) -> None:
            try:
                function(**parameters)
            except errors as error:
                print(f"error: {error}", file=sys.stderr)
                raise typer.Exit(1) from None
            except KeyboardInterrupt:
                print("\ninterrupted", file=sys.stderr)
                raise typer.Exit(130) from None

        app = typer.Typer(
            add_completion=False,
            rich_markup_mode=None,
            pretty_exceptions_enable=False,
            context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
        )
        app.command(epilog=f"\b\n{epilog.strip()}")(guarded)
        default_program = program

        def main(arguments: Sequence[str] | None = None, *, program: str | None = None) -> int:
            try:
                app(None if arguments is None else list(arguments), prog_name=program or default_program)
            except SystemExit as left:
                return left.code if isinstance(left.code, int) else 1
            return 0

        main.__doc__ = function.__doc__
        return main

    return decorate
