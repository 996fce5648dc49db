"""An object of a module beside a manifest is found, loaded and hashed by its reference."""

import pickle
from pathlib import Path

import pytest

from corpus.plugins import find, load

MODULE = """
from dataclasses import dataclass

@dataclass
class Answer:
    value: "int"

def double(number):
    return Answer(2 * number)
"""


def test_reference_names_an_object_of_a_module_in_the_folder(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MODULE)
    assert load("mine:double", tmp_path)(2).value == 4


def test_pickled_plugin_runs_the_source_that_was_hashed(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MODULE)
    plugin = find("mine:double", tmp_path)
    (tmp_path / "mine.py").write_text("")
    assert pickle.loads(pickle.dumps(plugin)).load()(3).value == 6
    assert plugin.model_dump() == {"reference": "mine:double", "sha256": plugin.sha256}
    assert find("mine:double", tmp_path).sha256 != plugin.sha256


@pytest.mark.parametrize(
    ("reference", "source", "message"),
    [
        ("mine.double", MODULE, "expected module:name"),
        ("../mine:double", MODULE, "expected module:name"),
        ("other:double", MODULE, "other.py cannot be read: No such file or directory; expected the module beside"),
        ("mine:doubel", MODULE, "mine.py does not define 'doubel'; did you mean 'double'"),
        ("mine:double", "1 / 0", "mine.py cannot be executed: ZeroDivisionError: division by zero"),
        ("mine:double", "import beside", "a plugin is one file"),
        ("mine:double", "def double(", "mine.py cannot be executed: SyntaxError"),
    ],
)
def test_reference_that_leads_nowhere_is_an_error(reference: str, source: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(source)
    (tmp_path / "beside.py").write_text("")
    with pytest.raises(ValueError, match=message):
        load(reference, tmp_path)
