"""An exported folder has the template, ids and lengths of the checkpoint, whose config.json has all of them."""

import functools
import itertools
import json
import shutil
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import jinja2
import pytest
import xxhash
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from corpus.adapters.base import MARKUP_KEY
from corpus.adapters.conversation import Turn, answer_turns
from corpus.contract import CONDITION_TAGS, TEMPLATE, prefix_ids
from corpus.markup import Markup
from corpus.turns import LABELS, instruction_of
from model import export
from model.export import Template
from model.loading import CheckpointError, find_checkpoint, load, weights_hash
from tests.trainer.data.test_dataset import tree, upload
from tests.trainer.fixtures import write_dataset, write_manifest
from trainer.benchmarks.results import Score
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


@functools.cache
def compiled(template: str) -> jinja2.Template:
    def raise_exception(message: str) -> None:
        raise jinja2.TemplateError(message)

    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)  # as transformers sets it
    environment.globals["raise_exception"] = raise_exception
    return environment.from_string(template)


def render(template: str, content: str, **variables: Any) -> str:
    messages = [{"role": "user", "content": content}]
    return compiled(template).render(**({"messages": messages} | variables))


@pytest.mark.slow
def test_chat_template_gives_the_ids_of_the_pipeline_for_every_subset_of_conditions(
    trained: Path, exported: Path
) -> None:
    tokenizer = Tokenizer.from_file(str(exported / "tokenizer.json"))
    template = (exported / "chat_template.jinja").read_text()
    special = json.loads((find_checkpoint(trained) / "config.json").read_text())["special"]
    instruction = plain_tokenizer(tokenizer).encode("w16 w17 w30", add_special_tokens=False).ids
    for conditions in SUBSETS:
        prompt = render(template, "w16 w17 w30", condition=list(conditions))
        encoded = tokenizer.encode(prompt, add_special_tokens=False)
        assert encoded.ids == prefix_ids(special, conditions, instruction)
        assert set(encoded.type_ids) == {1}
    assert render(template, "w16") == render(template, "w16", condition=[])
    text = tokenizer.encode("w16 w17 w30")
    assert text.ids == prefix_ids(special, [], instruction)
    assert set(text.type_ids) == {1}


def test_default_conditions_are_those_of_prompts_without_any(trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "default"
    assert export.main([str(trained), str(folder), "--condition", "cot", "--condition", "synth"]) == 0
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    template = (folder / "chat_template.jinja").read_text()
    assert render(template, "w16") == "<|im_start|><|quad_end|><|object_ref_end|>w16<|im_end|>"
    assert render(template, "w16", condition=["direct"]) == "<|im_start|><|object_ref_start|>w16<|im_end|>"
    assert tokenizer.encode("w16").tokens == ["<|im_start|>", "<|quad_end|>", "<|object_ref_end|>", "w16", "<|im_end|>"]
    assert "Without `condition` a prompt has cot and synth." in (folder / "README.md").read_text()


ROLES = st.sampled_from(list(LABELS))
TEXTS = st.sampled_from(
    [
        "w16",
        " w17\n",
        "",
        "  ",
        "<think>a</think> w18",
        "a</think>w19",
        "x<think>y",
        "a</think><think>b</think>c",
        "'\"\\{{é",
    ]
)


@settings(deadline=None, max_examples=60)
@given(turns=st.lists(st.tuples(ROLES, TEXTS), min_size=1, max_size=6).filter(lambda t: t[-1][0] != "assistant"))
def test_conversation_is_one_instruction_in_chat_template_generation_and_build_alike(
    turns: list[tuple[str, str]],
) -> None:
    messages = [{"role": role, "content": text} for role, text in turns]
    expected = instruction_of(turns)
    template = Template(**TEMPLATE).chat_template()
    if not expected:
        with pytest.raises(jinja2.TemplateError, match="no text to answer"):
            render(template, "", messages=messages)
        return
    assert render(template, "", messages=messages) == f"<|im_start|>{expected}<|im_end|>"
    answered = [*messages, {"role": "assistant", "content": "<think>w30</think>w31"}]
    assert render(template, "", messages=answered).endswith("<|im_end|><think>w30</think>w31<|box_end|>")
    if any(role not in ("assistant", "call") for role, _ in turns):
        drafts, _ = answer_turns(
            [Turn(role, text) for role, text in [*turns, ("assistant", "w31")]], {MARKUP_KEY: Markup()}
        )
        assert drafts[-1].instruction == expected


def test_content_in_parts_is_joined_and_what_is_no_text_is_refused() -> None:
    template = Template(**TEMPLATE).chat_template()
    parts = [{"type": "text", "text": "w16"}, {"type": "text", "text": " w17"}]
    assert render(template, "", messages=[{"role": "user", "content": parts}]) == "<|im_start|>w16 w17<|im_end|>"
    for messages, message in (
        ([{"role": "user", "content": [{"type": "image", "url": "x"}]}], "has no text"),
        ([{"role": "assistant", "content": None, "tool_calls": [{}]}, {"role": "tool", "content": "1"}], "tool_calls"),
        (
            [{"role": "robot", "content": "w16"}],
            "unknown role robot: expected one of system, user, assistant, call, tool",
        ),
        ([], "no text to answer"),
    ):
        with pytest.raises(jinja2.TemplateError, match=message):
            render(template, "", messages=messages)


def test_checkpoint_of_an_earlier_version_takes_one_user_message() -> None:
    template = Template(**{key: value for key, value in TEMPLATE.items() if key != "labels"}).chat_template()
    assert render(template, "w16") == "<|im_start|>w16<|im_end|>"
    with pytest.raises(jinja2.TemplateError, match="unknown role system: expected one of user"):
        render(template, "", messages=[{"role": "system", "content": "w16"}, {"role": "user", "content": "w17"}])


def test_chat_template_refuses_unknown_conditions(exported: Path) -> None:
    template = (exported / "chat_template.jinja").read_text()
    with pytest.raises(
        jinja2.TemplateError, match=f"unknown condition x: expected some of {', '.join(CONDITION_TAGS)}"
    ):
        render(template, "w16", condition=["x"])


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


def test_model_card_has_the_data_the_steps_and_the_licence(trained: Path, tmp_path: Path) -> None:
    assert export.main([str(trained), str(tmp_path / "my-model"), "--license", "apache-2.0"]) == 0
    card = (tmp_path / "my-model" / "README.md").read_text()
    header = yaml.safe_load(card.split("---")[1])
    assert (header["license"], header["library_name"]) == ("apache-2.0", "transformers")
    plan = json.loads((find_checkpoint(trained) / "manifest.json").read_text())["plan"]
    assert f"`{plan['fingerprint']}`" in card
    assert "| steps | 1 |" in card
    assert "`<|quad_end|>` (synth), `<|quad_start|>` (noisy), `<|object_ref_end|>` (cot)" in card
    assert 'model="my-model", trust_remote_code=True' in card


def test_model_card_has_the_scores_of_these_weights_only(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = {
        "metric": "accuracy",
        "score": 0.5,
        "low": 0.25,
        "high": 0.75,
        "n": 1319,
        "deviations": ["fp32"],
        "groups": {},
    }
    assert task.keys() - {"deviations"} <= Score.__dataclass_fields__.keys()
    results = {"model": {"weights_xxh3_128": weights_hash(load(trained).model)}, "tasks": {"gsm8k": task}}
    file = tmp_path / "results.json"
    file.write_text(json.dumps(results))
    assert export.main([str(trained), str(tmp_path / "hf"), "--scores", str(file)]) == 0
    card = (tmp_path / "hf" / "README.md").read_text()
    assert "| gsm8k | accuracy | 50.0% | 25.0% to 75.0% | 1,319 | fp32 |" in card
    assert export.main([str(trained), str(tmp_path / "last"), "--scores", str(file), "--weights", "last"]) == 2
    assert f"has the scores of the weights {results['model']['weights_xxh3_128']}; these are" in capsys.readouterr().err
    file.write_text("[]")
    assert export.main([str(trained), str(tmp_path / "new"), "--scores", str(file)]) == 2
    assert "is not the results.json of trainer.benchmark" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_wrong_options_are_refused_before_anything_is_written(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for option in (["--license", "a\nb"], ["--condition", "fast"]):
        assert export.main([str(trained), str(tmp_path / "new"), *option]) == 2
    assert "unknown condition 'fast': expected some of synth, noisy, cot, direct" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_checkpoint_on_s3_is_exported_like_the_local_one(trained: Path, tmp_path: Path, bucket: str) -> None:
    if not entry_points(group=export.FETCH):
        pytest.skip("the installed metadata is of an earlier version: pip install -e .")
    upload(trained / "checkpoints", f"{bucket}/run")
    for number, place in enumerate((trained, f"{bucket}/run", f"{bucket}/run/step-00000001")):
        assert export.main([str(place), str(tmp_path / str(number) / "hf")]) == 0
    assert tree(tmp_path / "0") == {path.replace("/1/", "/0/"): digest for path, digest in tree(tmp_path / "1").items()}
    assert list(tree(tmp_path / "2").values()) == list(tree(tmp_path / "0").values())
    assert export.main([f"{bucket}/nothing", str(tmp_path / "new")]) == 1


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
