"""Claims about lm-eval's model `millrace`. lm-eval is not a dependency: without it these tests are skipped."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from corpus.contract import SPECIAL_TOKENS, TEMPLATE, prefix_ids
from model.config import ModelConfig
from model.export import Template, export
from model.generate import generate
from model.hrm import HRM
from model.loading import LoadedModel

pytest.importorskip("lm_eval", reason="lm-eval is not installed")

from lm_eval.api.registry import get_model

from model.lm_eval import MillraceLM

TEXTS = ["What is 2 + 2?", "a", "<|im_end|> is a tag", "Which one?\nA. x\nB. y"]


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> MillraceLM:
    """The registered model on an exported folder with random weights and the condition direct."""
    torch.set_num_threads(1)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*SPECIAL_TOKENS, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    shape = {"num_layers": 2, "hidden_size": 32, "num_heads": 2, "head_dim": 16, "intermediate_size": 48}
    loaded = LoadedModel(
        model=HRM(ModelConfig(vocab_size=len(vocabulary), **shape), seed=4).eval(),
        tokenizer_json=tokenizer.to_str(),
        special={tag: vocabulary[tag] for tag in SPECIAL_TOKENS},
    )
    folder = tmp_path_factory.mktemp("lm") / "hf"
    export(loaded, folder, template=Template(**TEMPLATE), max_positions=60, condition=["direct"])
    found = get_model("millrace").create_from_arg_string(f"pretrained={folder}", {"batch_size": 3, "device": "cpu"})
    assert isinstance(found, MillraceLM)
    return found


def requests(*arguments: tuple[Any, ...]) -> list[SimpleNamespace]:
    return [SimpleNamespace(args=found) for found in arguments]


def prefix(lm: MillraceLM, text: str) -> list[int]:
    """Ids of a prompt, by the contract of datasets."""
    return prefix_ids(lm.chat.loaded.special, ["direct"], lm.chat.text_ids(text))


def test_answers_are_those_of_the_model_with_and_without_the_chat_template(lm: MillraceLM) -> None:
    options = {"until": ["\x00"], "max_gen_toks": 8, "do_sample": False}
    rendered = [lm.apply_chat_template([{"role": "user", "content": text}]) for text in TEXTS]
    found = lm.generate_until(requests(*((text, options) for text in TEXTS)))
    assert found == lm.generate_until(requests(*((text, options) for text in rendered)))
    for text, answer in zip(TEXTS, found, strict=True):
        (ids,) = generate(lm.model, [prefix(lm, text)], max_new_tokens=8, end_id=lm.end_id)
        assert answer == lm.chat.loaded.tokenizer.decode(ids, skip_special_tokens=False).partition("\x00")[0]


def test_answers_end_before_the_first_stop_text_and_at_the_context(lm: MillraceLM) -> None:
    (whole,) = lm.generate_until(requests(("a", {"max_gen_toks": 8})))
    stop = whole[2:4]
    (cut,) = lm.generate_until(requests(("a", {"max_gen_toks": 8, "until": [stop, "never"]})))
    assert cut == whole.partition(stop)[0]
    assert lm.generate_until(requests(("x" * 70, {"max_gen_toks": 8}))) == [""]


def test_likelihoods_are_of_the_answer_after_the_whole_prompt(lm: MillraceLM) -> None:
    found = lm.loglikelihood(requests(*((text, " yes") for text in TEXTS)))
    for text, (total, _) in zip(TEXTS, found, strict=True):
        prompt, answer = prefix(lm, text), lm.chat.text_ids("yes")
        with torch.no_grad():
            logits = lm.model.logits(torch.tensor([[*prompt, *answer]]), torch.tensor([len(prompt)]))[0]
        chances = logits[len(prompt) - 1 : -1].log_softmax(-1)
        assert total == pytest.approx(sum(chances[i, token].item() for i, token in enumerate(answer)), abs=1e-4)


def test_what_the_model_cannot_do_is_refused(lm: MillraceLM) -> None:
    with pytest.raises(ValueError, match="answers greedily"):
        lm.generate_until(requests(("a", {"do_sample": True})))
    with pytest.raises(ValueError, match="scores texts without one"):
        lm.loglikelihood(requests(("", " yes")))
    with pytest.raises(NotImplementedError, match="no likelihood of a text"):
        lm.loglikelihood_rolling(requests(("a",)))
    with pytest.raises(ValueError, match="gen_prefix"):
        lm.apply_chat_template([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])
    with pytest.raises(ValueError, match="unknown condition quick"):
        MillraceLM(lm.name, condition="quick")
    with pytest.raises(ValueError, match="expected one of averaged, last"):
        MillraceLM(lm.name, weights="best")
