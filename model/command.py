"""Command line of this package's commands, which do not depend on `corpus.cli`."""

import functools
import sys
from collections.abc import Callable, Sequence

import typer

EXIT_CODES = "exit codes: 0 done, 1 failed, 2 wrong usage or manifest, 130 interrupted"
"""Last line of every help; `corpus.cli` has the same, and says what each means."""


def printable(text: str) -> str:
    """Replace each character with which data could control a terminal by U+FFFD; tabs and line ends are kept."""
    return "".join(c if c.isprintable() or c in "\t\n" else "\ufffd" for c in text)


def fail(error: Exception) -> typer.Exit:
    """Print `error: …` on standard error, and return the exit with code 1, to be raised."""
    print(printable(f"error: {error}"), file=sys.stderr)
    return typer.Exit(1)


def run(function: Callable[..., None], arguments: Sequence[str] | None, *, program: str, epilog: str) -> int:
    """Run a command and return its exit code, one of `EXIT_CODES`.

    Parameters
    ----------
    function
        Its parameters carry `typer.Argument` and `typer.Option`; it raises `typer.Exit` for other exit codes than 0.
    arguments
        `sys.argv[1:]` if None.
    program
        How the command is called, as its help shows it.
    epilog
        Examples, printed below the options as they are; the exit codes follow.
    """

    @functools.wraps(function)
    def interruptible(**parameters: object) -> None:
        try:
            function(**parameters)
        except KeyboardInterrupt:
            print("\ninterrupted", file=sys.stderr)
            raise typer.Exit(130) from None

    app = typer.Typer(
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    )
    app.command(epilog=f"\b\n{epilog.strip()}\n\n\b\n{EXIT_CODES}")(interruptible)
    try:
        app(None if arguments is None else list(arguments), prog_name=program)
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else 1
    return 0
