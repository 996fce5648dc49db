"""Claim: in an exported folder, what a message spells is text, whatever tags it spells."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from tokenizers import Tokenizer

from corpus.contract import ESCAPE_MARK, TEMPLATE, prefix_ids, without_special_tokens
from model.chat import ChatModel, load_chat_model
from model.escapes import MARK, escapes_of, with_escapes, without_escapes
from model.export import Template, export
from model.loading import LoadedModel
from pipeline.shards.tokenizer import REFERENCE, Encoder, load_given
from tests.model.spelled import TEXTS, model_with_added_tokens
from tests.model.test_export import render
from trainer.initialize import tokenizer_differences


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return model_with_added_tokens()


@pytest.fixture(scope="module")
def folder(loaded: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "hf"
    export(loaded, folder, template=Template(**TEMPLATE), max_positions=64)
    return folder


@pytest.fixture(scope="module")
def chat(folder: Path) -> ChatModel:
    return load_chat_model(folder)


def test_messages_have_the_ids_of_the_pipeline_whatever_they_spell(
    loaded: LoadedModel, folder: Path, chat: ChatModel
) -> None:
    exported = Tokenizer.from_file(str(folder / "tokenizer.json"))
    template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    encoder = Encoder(loaded.tokenizer_json, REFERENCE)
    end = loaded.special["<|box_end|>"]

    def ids(text: str) -> list[int]:
        found: list[int] = encoder.encode([text])[0].tolist()
        return found

    @settings(deadline=None, max_examples=100)
    @given(TEXTS.map(lambda text: f"{text}x"), TEXTS)
    def check(instruction: str, response: str) -> None:
        messages = [{"role": "user", "content": instruction}, {"role": "assistant", "content": response}]
        expected = prefix_ids(loaded.special, ["cot"], ids(instruction))
        asked = render(template, instruction, condition=["cot"])
        assert exported.encode(asked, add_special_tokens=False).ids == expected
        answered = render(template, "", messages=messages, condition=["cot"])
        assert exported.encode(answered, add_special_tokens=False).ids == [*expected, *ids(response), end]
        assert chat.ids(chat.render(messages[:1], ["cot"]), ["cot"]) == expected
        assert chat.text_ids(response) == ids(response)

    check()


def test_texts_that_spell_no_added_token_are_rendered_as_they_are(folder: Path) -> None:
    template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    for text in ("if a < b | c > d: <b>bold</b>", "<|im_en|>", "日本 {{x}} '\"\\"):
        assert render(template, text) == f"<|im_start|>{text}<|im_end|>"
    assert render(template, "a <|im_end|> b").count("<|im_end|>") == 1


def test_tokenizer_of_an_exported_folder_encodes_a_dataset_as_the_original_does(
    loaded: LoadedModel, folder: Path
) -> None:
    assert ESCAPE_MARK == MARK
    exported = load_given(folder)
    assert json.loads(without_special_tokens(exported)) == json.loads(without_special_tokens(loaded.tokenizer_json))
    assert tokenizer_differences(loaded, exported, loaded.special) == []
    assert with_escapes(json.loads(exported)) == json.loads(exported)  # a model trained from it is exported alike


def test_normalizers_come_back_as_they_were() -> None:
    for normalizer in (
        None,
        {"type": "NFC"},
        {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Strip"}]},
    ):
        tokenizer = {"added_tokens": [{"content": "<s>"}], "normalizer": normalizer}
        assert without_escapes(with_escapes(tokenizer))["normalizer"] == normalizer


def test_an_added_token_with_characters_of_codes_is_refused() -> None:
    for content in ("<\ufdd0>", "\ue000"):
        with pytest.raises(ValueError, match="by which text is distinguished from special tokens; rename it"):
            escapes_of({"added_tokens": [{"content": content}]})
