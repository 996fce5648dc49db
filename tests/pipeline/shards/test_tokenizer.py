"""The tokenizer: the same bytes every time, the same ids by either engine, and text is never a tag."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from corpus.config import ConfigError
from corpus.contract import SPECIAL_TOKENS
from pipeline.engine.step import BuildError
from pipeline.shards import tokenizer as tok
from tests.pipeline.conftest import contents, run_build, texts

CORPUS = [text for pair in texts(9, 400) for text in pair] + [
    f"say {token} twice: {token}" for token in SPECIAL_TOKENS
] * 50
PIECES = st.sampled_from(
    [*SPECIAL_TOKENS, "<|", "|>", "im_start", " ", "\n", "12", "don't", "\u0301", "東京", "\U0001f680"]
)
TEXTS = st.lists(st.lists(PIECES | st.text(max_size=6), max_size=8).map("".join), max_size=12)


@pytest.fixture(scope="module")
def trained() -> str:
    return tok.train(iter(CORPUS), 700).to_str()


@pytest.mark.parametrize("threads", ["1", "2"])
def test_training_gives_the_same_bytes_on_any_number_of_threads(trained: str, threads: str) -> None:
    code = (
        "import sys; from pipeline.shards.tokenizer import train;"
        "from tests.pipeline.shards.test_tokenizer import CORPUS;"
        "sys.stdout.write(train(iter(CORPUS), 700).to_str())"
    )
    environment = {**os.environ, "RAYON_NUM_THREADS": threads, "PYTHONIOENCODING": "utf-8"}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
    assert run.stdout.decode() == trained


def test_special_tokens_have_the_first_ids(trained: str) -> None:
    assert tok.special_ids(trained) == {token: number for number, token in enumerate(SPECIAL_TOKENS)}


@settings(deadline=None)
@given(batch=TEXTS)
def test_text_never_yields_a_special_id_and_decodes_to_itself(trained: str, batch: list[str]) -> None:
    special = set(tok.special_ids(trained).values())
    decoder = Tokenizer.from_str(trained)
    for engine in (tok.FAST, tok.REFERENCE):
        ids, bounds = tok.load_encoder(trained, engine).encode(batch)
        assert ids.dtype == np.uint16
        assert len(bounds) == len(batch) + 1
        assert not special & set(ids.tolist())
        for number, text in enumerate(batch):
            found = ids[bounds[number] : bounds[number + 1]].tolist()
            normal = decoder.normalizer.normalize_str(text)
            assert decoder.decode(found, skip_special_tokens=False) == normal


@settings(deadline=None)
@given(batch=TEXTS)
def test_both_engines_give_the_same_ids(trained: str, batch: list[str]) -> None:
    fast, reference = (tok.load_encoder(trained, engine).encode(batch) for engine in (tok.FAST, tok.REFERENCE))
    assert fast[0].tolist() == reference[0].tolist()
    assert fast[1].tolist() == reference[1].tolist()


def test_tokenizer_that_takes_text_for_a_tag_is_refused(trained: str) -> None:
    """Without a split pattern, and merging whole words, a tag in a text is one token."""
    content = json.loads(trained)
    content["pre_tokenizer"] = json.loads(Tokenizer(models.BPE()).to_str())["pre_tokenizer"]
    content["model"]["ignore_merges"] = True
    with pytest.raises(BuildError, match="encodes plain text as the special token 1"):
        tok.Encoder(json.dumps(content), tok.REFERENCE).encode(["a", "<|im_start|>"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["added_tokens"].pop(1), "lacks the special token <|im_start|>"),
        (
            lambda c: [token.update(content=f"[{token['id']}]") for token in c["added_tokens"][2:]],
            "lacks the special tokens <|im_end|>, <|box_end|>, <|quad_end|>, <|quad_start|>, <|object_ref_end|>, "
            "<|object_ref_start|>; its own are <|endoftext|>, <|im_start|>, [2], [3], [4], [5], [6], [7]. All of",
        ),
        (lambda c: c["added_tokens"].clear(), "; it has no special tokens. All of"),
        (
            lambda c: [c["model"]["vocab"].pop(k) for k in ["Ġ"] if not c["model"].__setitem__("merges", [])],
            "decode every text",
        ),
        (lambda c: c.clear(), "not a tokenizer.json"),
    ],
)
def test_unfit_tokenizer_is_refused_with_the_reason(trained: str, tmp_path: Path, change: Any, message: str) -> None:
    content = json.loads(trained)
    change(content)
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=r"tokenizer\.json") as error:
        tok.load_given(tmp_path / "tokenizer.json")
    assert message in str(error.value)


def test_fit_tokenizer_is_taken_as_it_is(trained: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(trained, encoding="utf-8")
    assert tok.load_given(tmp_path / "tokenizer.json") == trained
    assert tok.load_given(tmp_path) == trained


def test_byte_level_alphabet_is_complete(trained: str) -> None:
    assert set(pre_tokenizers.ByteLevel.alphabet()) <= set(json.loads(trained)["model"]["vocab"])


@pytest.mark.slow
def test_disagreeing_engine_is_replaced_for_the_whole_build(
    mix: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A gigatoken that errs is put before the real one on the workers' path."""
    (tmp_path / "gigatoken.py").write_text(
        "import numpy as np\n"
        "class Tokenizer:\n"
        "    @classmethod\n"
        "    def from_json(cls, text): return cls()\n"
        "    def encode_batch(self, texts, parallel):\n"
        "        from types import SimpleNamespace as N\n"
        "        ends = np.arange(len(texts) + 1)\n"
        "        return N(layout=N(offsets=N(data=ends), content=N(data=np.full(len(texts), 99, np.uint32))))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    run_build(mix, tmp_path / "out")
    assert "encoded by tokenizers instead" in caplog.text
    ours, expected = contents(tmp_path / "out"), contents(dataset)
    assert {name for name in ours if ours[name] != expected[name]} == set()
