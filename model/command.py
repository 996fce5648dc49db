"""The command line of this package's commands, which does without `corpus.cli`."""

from collections.abc import Callable, Sequence

import typer


def run(function: Callable[..., None], arguments: Sequence[str] | None, *, program: str, epilog: str) -> int:
    """Run a command and return its exit code.

    Parameters
    ----------
    function
        Its parameters carry `typer.Argument` and `typer.Option`; it raises `typer.Exit` for an exit code other than 0.
    arguments
        `sys.argv[1:]` if None.
    program
        How the command is called, as its help shows it.
    epilog
        Printed below the options unchanged.
    """
    app = typer.Typer(
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    )
    app.command(epilog=f"\b\n{epilog.strip()}")(function)
    try:
        app(None if arguments is None else list(arguments), prog_name=program)
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else 1
    return 0
