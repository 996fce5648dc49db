"""What all commands share: parsing, help, exit codes, error messages, logging; and `millrace`, which lists them.

    function with annotated parameters ─ command ─▶ main(arguments) -> exit code
    millrace build …  ─ entry point "build" of the group `millrace.commands` ─▶ pipeline.build:main

A command is a function whose parameters carry `typer.Argument` and `typer.Option`. Exit codes are the same everywhere:

    0    done
    1    failed: a dataset, checkpoint, run or store is missing or cannot be read, a check found problems, or the work
         ended with an error
    2    wrong usage: an argument, an option or a manifest cannot be used, or a file of scores, verdicts, prompts or
         tasks that an option names
    130  interrupted by Ctrl-C

A command may add codes of its own by returning them, as `trainer.train` does. Every help ends with the codes.
"""

import ast
import functools
import importlib.metadata
import importlib.util
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TextIO

import typer

from corpus.config import ConfigError, closest, shipped
from corpus.storage.redact import redact, remember, remember_environment
from corpus.terminal import printable

FAILED = 1
MISUSED = 2
INTERRUPTED = 130
EXIT_CODES = "exit codes: 0 done, 1 failed, 2 wrong usage or manifest, 130 interrupted"
"""Last line of every help; `model.command` has the same."""
COMMANDS = "millrace.commands"
"""Entry point group of the commands; a package adds a command to `millrace` by an entry point of this group."""


class Main(Protocol):
    """The entry point of a command."""

    def __call__(self, arguments: Sequence[str] | None = None, *, program: str | None = None) -> int:
        """Run the command with these arguments, `sys.argv[1:]` by default, and return its exit code."""
        ...


def command(
    program: str,
    *,
    errors: tuple[type[Exception], ...] = (OSError,),
    epilog: str = "",
    more_codes: str = "",
    interrupted: str = "interrupted",
) -> Callable[[Callable[..., int | None]], Main]:
    """Make a command of a function.

    Parameters
    ----------
    program
        How the command is called, as its help shows it: "python -m pipeline.build".
    errors
        Exceptions that end the command with exit code 1 and their message, which must say all that a user needs.
        `ConfigError` always ends it with exit code 2. Other exceptions are bugs and keep their traceback.
    epilog
        Examples, printed below the options as they are; the exit codes follow.
    more_codes
        Exit codes of this command alone: "75 stopped with a checkpoint".
    interrupted
        Message after Ctrl-C.

    Returns
    -------
    Callable
        Decorator that turns the function, which returns its exit code or None for 0, into a `Main`.
    """

    def decorate(function: Callable[..., int | None]) -> Main:
        @functools.wraps(function)
        def guarded(**parameters: object) -> None:
            try:
                code = function(**parameters)
            except typer.Exit:
                raise
            except typer.BadParameter as error:  # printed by typer as it is
                error.message = printable(redact(error.message))
                raise
            except ConfigError as error:
                code = fail(error, MISUSED)
            except errors as error:
                code = fail(error)
            except KeyboardInterrupt:
                print(f"\n{interrupted}", file=sys.stderr)
                code = INTERRUPTED
            raise typer.Exit(code or 0)

        app = typer.Typer(
            add_completion=False,
            rich_markup_mode=None,
            pretty_exceptions_enable=False,
            context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
        )
        codes = ",\n".join(filter(None, (EXIT_CODES, more_codes)))
        app.command(epilog="\n\n".join(f"\b\n{part}" for part in (epilog.strip(), codes) if part))(guarded)

        default_program = program

        def main(arguments: Sequence[str] | None = None, *, program: str | None = None) -> int:
            set_up_logging()
            remember_environment()
            remember(sys.argv if arguments is None else list(arguments))
            try:
                app(None if arguments is None else list(arguments), prog_name=program or default_program)
            except SystemExit as left:
                return left.code if isinstance(left.code, int) else FAILED
            return 0

        main.__doc__ = function.__doc__
        return main

    return decorate


def say(text: str, file: TextIO | None = None) -> None:
    """Print a text that may come from data or name a URL: without control characters and credentials."""
    print(printable(redact(text)), file=file or sys.stdout, flush=True)


def fail(error: Exception | str, code: int = FAILED) -> int:
    """Print `error: …` on standard error, without credentials, and return the exit code."""
    say(f"error: {error}", sys.stderr)
    return code


def set_up_logging() -> None:
    """Send what Millrace's packages log to standard error, a line each: warnings with a prefix, the rest plain."""
    root = logging.getLogger()
    if any(isinstance(handler, _StandardError) for handler in root.handlers):
        return
    handler = _StandardError()
    handler.setFormatter(_Formatter())
    for package in ("__main__", "corpus", "pipeline", "model", "trainer"):  # __main__: by `python -m`
        logging.getLogger(package).setLevel(logging.INFO)
    root.addHandler(handler)


class _StandardError(logging.StreamHandler):
    """Writes to whatever `sys.stderr` is at the time, as pytest and progress displays replace it."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> object:
        return sys.stderr


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        prefix = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        return printable(prefix + redact(record.getMessage()))


def millrace(arguments: Sequence[str] | None = None) -> int:
    """Entry point `millrace COMMAND …`; without a command it lists all of them."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    commands = {point.name: point for point in importlib.metadata.entry_points(group=COMMANDS)}
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: millrace COMMAND …\n\ncommands:")
        for name, point in sorted(commands.items()):
            print(f"  {name:<14} {_first_line(point.module)}")
        print("\n`millrace COMMAND --help` describes one. `millrace --version` prints the version.")
        if (manifest := shipped("mix.yaml")) is not None:
            print(f"Manifests to begin with are in {manifest.parent}.")
        return 0
    if arguments[0] == "--version":
        print(f"millrace {importlib.metadata.version('millrace')}")
        return 0
    name, *rest = arguments
    if name not in commands:
        return fail(f"unknown command {name!r}{closest(name, sorted(commands))}", MISUSED)
    main: Main = commands[name].load()
    return main(rest, program=f"millrace {name}")


def _first_line(module: str) -> str:
    """What a module's docstring says first, without importing it: that would take seconds for some commands."""
    package, _, name = module.rpartition(".")
    spec = importlib.util.find_spec(package)
    for place in (spec.submodule_search_locations or []) if spec is not None else []:
        path = Path(place) / f"{name}.py"
        if path.is_file():
            text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            line = text.partition("\n")[0]
            title = line.rpartition("`: ")[2] if line.startswith("`") else line
            return title[:1].upper() + title[1:]
    return ""
