"""An exported folder has the template, ids and lengths of the checkpoint, whose config.json has all of them."""

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import jinja2
import pytest
import xxhash
from tokenizers import Tokenizer

from corpus.contract import CONDITION_TAGS, TEMPLATE, prefix_ids
from model import export
from model.export import Template
from model.loading import CheckpointError, find_checkpoint
from tests.trainer.fixtures import write_dataset, write_manifest
from trainer.data.text import plain_tokenizer
from trainer.train import main as train

SUBSETS = [subset for size in range(5) for subset in itertools.permutations(CONDITION_TAGS, size)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run of one step."""
    folder = tmp_path_factory.mktemp("run")
    manifest = write_manifest(folder, write_dataset(folder / "data"), epochs=None, steps=1)
    assert train([str(manifest)]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def exported(trained: Path) -> Path:
    folder = trained.parent / "exported"
    assert export.main([str(trained), str(folder)]) == 0
    return folder


def render(template: str, content: str, **variables: Any) -> str:
    def raise_exception(message: str) -> None:
        raise jinja2.TemplateError(message)

    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)  # as transformers sets it
    environment.globals["raise_exception"] = raise_exception
    messages = [{"role": "user", "content": content}]
    return environment.from_string(template).render(**({"messages": messages} | variables))


def test_chat_template_gives_the_ids_of_the_pipeline_for_every_subset_of_conditions(
    trained: Path, exported: Path
) -> None:
    tokenizer = Tokenizer.from_file(str(exported / "tokenizer.json"))
    template = (exported / "chat_template.jinja").read_text()
    special = json.loads((find_checkpoint(trained) / "config.json").read_text())["special"]
    instruction = plain_tokenizer(tokenizer).encode("w16 w17 w30", add_special_tokens=False).ids
    for conditions in SUBSETS:
        prompt = render(template, "w16 w17 w30", condition=list(conditions))
        encoded = tokenizer.encode(prompt)
        assert encoded.ids == prefix_ids(special, conditions, instruction)
        assert set(encoded.type_ids) == {1}
    assert render(template, "w16") == render(template, "w16", condition=[])


def test_chat_template_refuses_unknown_conditions_and_turns(exported: Path) -> None:
    template = (exported / "chat_template.jinja").read_text()
    with pytest.raises(
        jinja2.TemplateError, match=f"unknown condition x: expected some of {', '.join(CONDITION_TAGS)}"
    ):
        render(template, "w16", condition=["x"])
    with pytest.raises(jinja2.TemplateError, match="one user message"):
        render(template, "w16", messages=[{"role": "system", "content": "w16"}])


def test_tags_with_quotes_and_backslashes_are_written_unchanged() -> None:
    odd = Template(**(dict(TEMPLATE) | {"start": "<'\"\\n{{é>", "conditions": [["a'b", "\\'\""]]}))
    assert render(odd.chat_template(), "x", condition=["a'b"]) == "<'\"\\n{{é>\\'\"x<|im_end|>"


def test_exported_configs_have_the_special_ids_and_the_longest_sample(trained: Path, exported: Path) -> None:
    config, generation, tokenizer = (
        json.loads((exported / name).read_text())
        for name in ("config.json", "generation_config.json", "tokenizer_config.json")
    )
    special = json.loads((find_checkpoint(trained) / "config.json").read_text())["special"]
    for found in (config, generation):
        assert found["bos_token_id"] == special["<|im_start|>"]
        assert found["eos_token_id"] == special["<|box_end|>"]
        assert found["pad_token_id"] == special["<|endoftext|>"]
    assert config["max_position_embeddings"] == tokenizer["model_max_length"] == 32


def test_export_reads_no_file_of_the_trainer(trained: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(find_checkpoint(trained), tmp_path / find_checkpoint(trained).name))
    rewrite(copy, "manifest.json", "{}")
    assert export.main([str(copy), str(tmp_path / "exported")]) == 0


def test_folder_that_exists_is_a_usage_error_and_a_missing_checkpoint_an_error(
    exported: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export.main([str(trained), str(exported)]) == 2
    assert export.main([str(tmp_path), str(tmp_path / "new")]) == 1
    assert "error: " in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_checkpoint_with_the_earlier_order_of_tags_is_refused_with_the_reason(trained: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(find_checkpoint(trained), tmp_path / find_checkpoint(trained).name))
    about = json.loads((copy / "trainer.json").read_text())
    rewrite(copy, "trainer.json", json.dumps(about | {"format": "millrace-checkpoint/2"}))
    with pytest.raises(CheckpointError, match=r"format 'millrace-checkpoint/2'.*another order of condition tags"):
        find_checkpoint(copy)


def rewrite(folder: Path, name: str, content: str) -> None:
    """Replace a file of a checkpoint and record it in the commit record."""
    (folder / name).write_text(content)
    commit = json.loads((folder / "COMMIT.json").read_text())
    commit["files"][name] = {"bytes": len(content), "xxh3_128": xxhash.xxh3_128(content.encode()).hexdigest()}
    (folder / "COMMIT.json").write_text(json.dumps(commit))
