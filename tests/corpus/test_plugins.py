"""An object of a module beside a manifest is found, loaded and hashed by its reference."""

import pickle
from pathlib import Path

import pytest

from corpus.plugins import find

MODULE = """
from dataclasses import dataclass

@dataclass
class Answer:
    value: "int"

def double(number):
    return Answer(2 * number)
"""


def test_reference_names_an_object_of_a_module_in_the_folder(tmp_path: Path) -> None:
    (tmp_path / "answers.py").write_text(MODULE)
    assert find("answers:double", tmp_path).load()(2).value == 4


def test_pickled_plugin_runs_the_source_that_was_hashed(tmp_path: Path) -> None:
    (tmp_path / "answers.py").write_text(MODULE)
    plugin = find("answers:double", tmp_path)
    (tmp_path / "answers.py").write_text("")
    assert pickle.loads(pickle.dumps(plugin)).load()(3).value == 6
    assert plugin.model_dump() == {"reference": "answers:double", "sha256": plugin.sha256}
    assert find("answers:double", tmp_path).sha256 != plugin.sha256


@pytest.mark.parametrize(
    ("reference", "source", "message"),
    [
        ("answers.double", MODULE, "expected module:name"),
        ("../answers:double", MODULE, "expected module:name"),
        ("other:double", MODULE, "other.py cannot be read: No such file or directory; expected the module beside"),
        ("answers:doubel", MODULE, "answers.py does not define 'doubel'; did you mean 'double'"),
        ("answers:double", "1 / 0", "answers.py cannot be executed: ZeroDivisionError: division by zero"),
        ("answers:double", "import beside", "a plugin is one file"),
        ("answers:double", "def double(", "answers.py cannot be executed: SyntaxError"),
    ],
)
def test_reference_that_leads_nowhere_is_an_error(reference: str, source: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "answers.py").write_text(source)
    (tmp_path / "beside.py").write_text("")
    with pytest.raises(ValueError, match=message):
        find(reference, tmp_path).load()
