"""A vocabulary above 65,536: its token ids are stored as uint32, which every reader takes."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from streaming import StreamingDataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

import corpus
import model
from corpus.contract import SPECIAL_TOKENS, DatasetError, parse_index
from corpus.dataset import open_dataset as open_any
from model import export
from pipeline.shards.tokenizer import FAST, REFERENCE, Encoder, load_given
from pipeline.verify import main as verify
from tests.pipeline.conftest import run_build
from tests.trainer.fixtures import write_manifest
from trainer.generate import main as generate
from trainer.train import main as train

pytestmark = pytest.mark.slow  # builds datasets

VOCABULARY = 131_072


def write_mix(folder: Path, vocab_size: int) -> Path:
    """A mix with a byte-level tokenizer whose tokens for bytes, and special tokens, have the largest ids."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    filler = [f"filler{n}" for n in range(vocab_size - len(alphabet) - len(SPECIAL_TOKENS))]
    vocabulary = {token: n for n, token in enumerate([*filler, *alphabet, *SPECIAL_TOKENS])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    tokenizer.save(str(folder / "tokenizer.json"))
    rows = [{"instruction": f"Square {n}.", "response": f"{n} × {n} = {n * n}"} for n in range(60)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    mix = {
        "name": "wide",
        "sources": [{"name": "squares", "path": "rows.jsonl", "condition": ["direct"]}],
        "near_dedup": {"enabled": False},
        "tokenizer": {"file": "tokenizer.json"},
        "shards": {"size": "2KiB"},
    }
    (folder / "mix.yaml").write_text(yaml.safe_dump(mix))
    return folder / "mix.yaml"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wide")
    run_build(write_mix(folder, VOCABULARY), folder / "out")
    return folder / "out"


def stored(out: Path) -> dict[bytes, tuple[Any, int]]:
    """Tokens and prefix length of each sample by its row id, as any reader of MDS gets them."""
    samples: Any = StreamingDataset(local=str(out / "shards"), batch_size=1)
    return {samples[n]["row_id"]: (samples[n]["tokens"], int(samples[n]["prefix_len"])) for n in range(len(samples))}


def test_tokens_are_uint32_and_decode_to_the_text_of_the_records(built: Path) -> None:
    info = json.loads((built / "dataset.json").read_text())["tokenizer"]
    assert (info["vocab_size"], info["token_dtype"]) == (VOCABULARY, "uint32")
    assert np.load(built / "lengths.npy").dtype == np.uint16
    tokenizer = Tokenizer.from_file(str(built / "tokenizer/tokenizer.json"))
    samples = stored(built)
    records = corpus.scan(str(built)).records.collect()
    assert records.height == len(samples) == 60
    for record in records.iter_rows(named=True):
        tokens, prefix = samples[bytes.fromhex(record["row_id"])]
        assert tokens.dtype == np.uint32
        assert tokens.min() > 2**16
        texts = [tokenizer.decode(part.tolist(), skip_special_tokens=False) for part in np.split(tokens, [prefix])]
        prompt = f"<|im_start|><|object_ref_start|>{record['instruction']}<|im_end|>"
        assert texts == [prompt, f"{record['response']}<|box_end|>"]
    assert verify([str(built)]) == 0


@pytest.mark.parametrize(("vocab_size", "dtype"), [(65_536, np.uint16), (65_537, np.uint32)])
def test_65_536_is_the_largest_vocabulary_of_uint16(tmp_path: Path, vocab_size: int, dtype: Any) -> None:
    write_mix(tmp_path, vocab_size)
    text = load_given(tmp_path / "tokenizer.json")
    found = [Encoder(text, engine).encode(["a ÿ", "b"])[0] for engine in (FAST, REFERENCE)]
    assert [ids.dtype for ids in found] == [dtype, dtype]
    assert found[0].tolist() == found[1].tolist()
    assert max(Encoder(text, FAST).special.values()) == vocab_size - 1


def test_training_resumes_and_exports_with_ids_above_65_536(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"batch": {"tokens": 128, "row_tokens": 64}, "schedule": {"k_start": 2, "k_end": 2}}
    manifest = write_manifest(tmp_path, built, epochs=None, steps=4, **settings)
    for arguments in ([f"out={tmp_path / 'whole'}"], ["steps=2"], []):
        assert train([str(manifest), *arguments]) == 0, capsys.readouterr().err
    losses = {}
    for run in ("whole", "run"):
        lines = map(json.loads, (tmp_path / run / "metrics.jsonl").read_text().splitlines())
        losses[run] = [line["loss"] for line in lines if line["kind"] == "step"]
    assert losses["run"] == losses["whole"]
    assert losses["run"][0] == pytest.approx(math.log(VOCABULARY), rel=0.1)
    assert generate([str(tmp_path / "run"), "Square 7.", "--max-new-tokens", "4"]) == 0
    assert export.main([str(tmp_path / "run"), str(tmp_path / "hf")]) == 0
    config = json.loads((tmp_path / "hf/config.json").read_text())
    assert config["vocab_size"] == VOCABULARY
    assert (
        config["eos_token_id"]
        == json.loads((built / "dataset.json").read_text())["tokenizer"]["special"]["<|box_end|>"]
    )
    ours, exported = model.load(tmp_path / "run"), model.load(tmp_path / "hf")
    tokens, prefix = next(iter(stored(built).values()))
    inputs = torch.from_numpy(tokens.astype(np.int64))[None]
    expected = ours.model.logits(inputs, prefix_len=torch.tensor([prefix]))
    assert torch.equal(exported.model.logits(inputs, prefix_len=torch.tensor([prefix])), expected)


def test_shards_of_another_type_than_the_vocabulary_needs_are_refused(built: Path) -> None:
    info = open_any(str(built)).info
    narrow = info.tokenizer.model_copy(update={"vocab_size": 60_000, "token_dtype": "uint16"})
    index = (built / "shards/index.json").read_bytes()
    with pytest.raises(DatasetError, match=r"index\.json: shard.*has uint32 tokens, expected uint16"):
        parse_index(index, "index.json", info=info.model_copy(update={"tokenizer": narrow}))
