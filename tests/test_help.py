"""Help of every command appears at once: it needs none of the libraries that take long to import."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
COMMANDS = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["entry-points"]["millrace.commands"]
SLOW = ("torch", "numpy", "pyarrow", "polars", "numba", "fsspec", "tenacity", "jinja2", "huggingface_hub", "streaming")
CODE = """
import sys
from importlib import import_module
module, name, *slow = sys.argv[1:]
assert getattr(import_module(module), name)(["--help"]) == 0
print("imported:", *sorted(set(slow) & set(sys.modules)))
"""


@pytest.mark.parametrize("command", COMMANDS)
def test_help_imports_nothing_that_takes_long(command: str) -> None:
    module, name = COMMANDS[command].split(":")
    done = subprocess.run(
        [sys.executable, "-c", CODE, module, name, *SLOW], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert "Usage: " in done.stdout
    assert done.stdout.splitlines()[-1] == "imported:"
