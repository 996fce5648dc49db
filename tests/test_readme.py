"""What the README promises to a newcomer, as far as it can be checked without installing anew."""

import re
from pathlib import Path

from tests.readme import matched

PACKAGES = ("corpus", "pipeline", "model", "trainer")
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


def test_every_block_has_an_entry_that_runs_it() -> None:
    assert matched(README)  # raises for a block without an entry, and an entry without a block


def test_messages_of_the_troubleshooting_page_are_messages_of_the_program() -> None:
    foreign = {"No space left on device", "CUDA out of memory"}
    page = (ROOT / ".github/TROUBLESHOOTING.md").read_text()
    messages = set(re.findall(r"^- `([^`]+)`", page, re.M)) - foreign
    sources = [path.read_text() for name in PACKAGES for path in (ROOT / name).rglob("*.py")]
    joined = "\n".join(re.sub(r'"\s*\n\s*f?"', "", source) for source in sources)
    assert len(messages) > 25
    assert [message for message in messages if message not in joined] == []
