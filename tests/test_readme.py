"""What the README promises to a newcomer, as far as it can be checked without installing anew."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


def test_commands_name_modules_and_manifests_that_exist() -> None:
    for module in set(re.findall(r"python -m ((?:corpus|pipeline|model|trainer|tests)[\w.]*)", README)):
        assert (ROOT / (module.replace(".", "/") + ".py")).is_file(), module
    for manifest in set(re.findall(r"\bmanifests/[\w.]+", README)):
        assert (ROOT / manifest).is_file(), manifest
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_ci_finds_the_test_command() -> None:
    block = re.search(r"<!-- test-command -->\n```sh\n(.+)\n```", README)
    assert block is not None
    assert "pytest" in block[1]
