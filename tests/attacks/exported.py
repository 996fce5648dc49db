"""Attacks on a folder in the Hugging Face format, which has no hashes, and on a tokenizer given to a build."""

import json
import struct
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from corpus.config import ConfigError
from model.export import main as export
from model.loading import CheckpointError, weights_hash
from pipeline.shards.tokenizer import REFERENCE, Encoder, load_given
from tests.attacks.attack import UNKNOWN_TAG, Attack, nested, put
from tests.attacks.checkpoints import NEWEST, write_checkpoints
from trainer.checkpointing.load import load

TENSORS = "model.safetensors"
TEXTS = ["w20 w21", "<|im_start|>\N{ROCKET}", ""]


class Exported:
    """An exported folder, as the commands that use a model read it."""

    errors = (CheckpointError,)

    def __init__(self, folder: Path) -> None:
        self.sound = folder / "hf"
        assert export([str(write_checkpoints(folder) / NEWEST), str(self.sound)]) == 0

    def read(self, folder: Path) -> object:
        """Weights, special tokens, and the ids of some texts, all of which the model has."""
        loaded = load(folder)
        ids = [loaded.tokenizer.encode(text).ids for text in TEXTS]
        assert max(max(text, default=0) for text in ids) < loaded.model.config.vocab_size
        return weights_hash(loaded.model), dict(loaded.special), ids


class Given:
    """A tokenizer.json that a mix names, read as a build does."""

    errors = (ConfigError,)

    def __init__(self, folder: Path) -> None:
        self.sound = folder / "given"
        self.sound.mkdir(parents=True)
        from pipeline.shards.tokenizer import train

        text = train(iter(["What is one and one? It is two. w20 w21"] * 9), 300).to_str()
        (self.sound / "tokenizer.json").write_text(text)

    def read(self, folder: Path) -> object:
        """Ids of some texts and of the special tokens."""
        encoder = Encoder(load_given(folder), REFERENCE)
        return [encoder.reference.encode(text).ids for text in TEXTS], encoder.special


def _attack(kind: str, name: str, what: str, damage: Callable[[Path], Any]) -> Attack:
    return Attack(kind=kind, name=f"{name}: {what}", damage=lambda folder: damage(folder / name) and None)


def _value(name: str, at: str, new: Any) -> Attack:
    shown = "a function" if callable(new) else json.dumps(new)
    return _attack("value", name, f"{at} = {shown[:40]}", lambda path: put(path, at, new))


def _header(what: str, change: Callable[[dict[str, Any]], Any]) -> Attack:
    """Change the header of the file of tensors, which keeps its data."""

    def damage(path: Path) -> None:
        content = path.read_bytes()
        size = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + size])
        changed = change(header)
        text = json.dumps(header if changed is None else changed).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + size :])

    return _attack("tensors", TENSORS, what, damage)


def _offsets(begin: int, end: int) -> Callable[[dict[str, Any]], None]:
    """Set the bounds of the head's data."""

    def change(header: dict[str, Any]) -> None:
        header["lm_head.weight"]["data_offsets"] = [begin, end]

    return change


def _swapped(header: dict[str, Any]) -> None:
    first, second, *_ = (name for name in header if name != "__metadata__")
    header[first]["data_offsets"], header[second]["data_offsets"] = (
        header[second]["data_offsets"],
        header[first]["data_offsets"],
    )


def _overlapping(header: dict[str, Any]) -> None:
    for name in header:
        if name != "__metadata__":
            size = header[name]["data_offsets"][1] - header[name]["data_offsets"][0]
            header[name]["data_offsets"] = [0, size]


def _head(field: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda header: header["lm_head.weight"].update({field: value})


def _tensor_attacks() -> Iterator[Attack]:
    yield _header("data below the begin", _offsets(-8, 100))
    yield _header("data beyond the end", _offsets(0, 10**12))
    yield _header("data that ends before it begins", _offsets(100, 0))
    yield _header("all data at one place", _overlapping)
    yield _header("two tensors of other sizes swapped", _swapped)
    yield _header("a hole", lambda header: header.pop("lm_head.weight") and None)
    yield _header("a shape of 10^12", _head("shape", [10**12, 10**12]))
    yield _header("a shape below zero", _head("shape", [-1, -32]))
    yield _header("a shape of text", _head("shape", "x"))
    yield _header("a shape of none", _head("shape", []))
    yield _header("an unknown type", _head("dtype", "F99"))
    yield _header("another type", _head("dtype", "F64"))
    yield _header("type of an index", _head("dtype", "I32"))
    yield _header("another tensor", lambda header: header.update(extra=header["lm_head.weight"]))
    yield _header("a list", lambda header: [header])
    yield _header("nothing", lambda header: {})
    yield _header("metadata that is a list", lambda header: header.update(__metadata__=[1]))
    yield _header("a name of control characters", lambda header: header.update({"\x1b[2J": header["lm_head.weight"]}))
    damages: dict[str, Callable[[Path], Any]] = {
        "half of it": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        "cut": lambda path: path.write_bytes(path.read_bytes()[:-1]),
        "longer": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
        "empty": lambda path: path.write_bytes(b""),
        "a header of 10^18 bytes": lambda path: path.write_bytes(struct.pack("<Q", 10**18) + path.read_bytes()[8:]),
        "a header of 0 bytes": lambda path: path.write_bytes(bytes(8) + path.read_bytes()[8:]),
        "a header nested deep": lambda path: path.write_bytes(
            struct.pack("<Q", 200_000) + b"[" * 100_000 + b"]" * 100_000
        ),
        "a pickle": lambda path: path.write_bytes(b"\x80\x02cos\nsystem\n(S'true'\ntR."),
        "a folder": lambda path: (path.unlink(), path.mkdir()),
        "missing": lambda path: path.unlink(),
        "only pytorch_model.bin": lambda path: path.rename(path.with_name("pytorch_model.bin")),
    }
    for what, damage in damages.items():
        yield _attack("tensors", TENSORS, what, damage)
    maps: dict[str, Any] = {
        "a file outside": {"weight_map": {"lm_head.weight": "../hf/model.safetensors"}},
        "an absolute path": {"weight_map": {"lm_head.weight": "/etc/passwd"}},
        "a missing file": {"weight_map": {"lm_head.weight": "other.safetensors"}},
        "a number": {"weight_map": {"lm_head.weight": 5}},
        "a list": {"weight_map": ["model.safetensors"]},
        "no map": {},
        "itself": {"weight_map": {"lm_head.weight": "model.safetensors.index.json"}},
        "the config": {"weight_map": {"lm_head.weight": "config.json"}},
    }
    for what, content in maps.items():

        def damage(path: Path, content: Any = content) -> None:
            (path.parent / TENSORS).rename(path.parent / "all.safetensors")
            path.write_text(json.dumps(content))

        yield _attack("tensors", f"{TENSORS}.index.json", what, damage)


def _documents(name: str) -> Iterator[Attack]:
    for other in ([], "x", 3, None, {}):
        yield _attack("document", name, json.dumps(other), partial(Path.write_text, data=json.dumps(other)))
    yield _attack("document", name, "nested", nested)
    yield _attack("document", name, "not UTF-8", lambda path: path.write_bytes(b"\xff\xfe\0"))
    yield _attack("document", name, "empty", lambda path: path.write_bytes(b""))
    yield _attack("document", name, "missing", lambda path: path.unlink())
    yield _attack("document", name, "cut", lambda path: path.write_bytes(path.read_bytes()[:-50]))
    yield _attack("document", name, "a folder", lambda path: (path.unlink(), path.mkdir()))


def _vocabulary(change: Callable[[dict[str, int]], Any]) -> Callable[[Any], Any]:
    def changed(found: dict[str, Any]) -> dict[str, Any]:
        vocab = dict(found["vocab"])
        return {**found, "vocab": change(vocab) or vocab}

    return changed


def _tokenizers() -> Iterator[Attack]:
    """Tokenizers that no text can be encoded with, or only some."""
    name = "tokenizer.json"
    yield from _documents(name)
    yield _value(name, "model", {"type": "BPE"})
    yield _value(name, "model", {"type": "WordPiece", "vocab": {"a": 0}, "unk_token": "[UNK]"})
    yield _value(name, "model", {"type": "WordLevel", "vocab": {}, "unk_token": "x"})
    yield _value(name, "model.type", "Unknown")
    yield _value(name, "model.vocab", [])
    yield _value(name, "model.vocab", _twice)
    yield _value(name, "added_tokens", [])
    yield _value(name, "added_tokens", lambda tokens: tokens[:1])
    yield _value(name, "added_tokens.0.id", -1)
    yield _value(name, "added_tokens.0.id", 2**40)
    yield _value(name, "added_tokens.0.content", "")
    yield _value(name, "added_tokens.0.content", 5)
    yield _value(name, "added_tokens", lambda tokens: [*tokens, {**tokens[0], "id": 7}])
    yield _value(name, "post_processor", UNKNOWN_TAG)
    yield _value(name, "post_processor", {"type": "Sequence", "processors": [UNKNOWN_TAG]})
    yield _value(name, "pre_tokenizer", {"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated"})
    yield _value(name, "pre_tokenizer", {"type": "Unknown"})
    yield _value(name, "normalizer", {"type": "Precompiled", "precompiled_charsmap": "AAAA"})
    yield _value(name, "normalizer", {"type": "Replace", "pattern": {"Regex": "*"}, "content": ""})
    yield _value(name, "decoder", {"type": "Unknown"})
    yield _value(name, "truncation", {"max_length": 0, "strategy": "LongestFirst", "stride": 5, "direction": "Right"})


def _twice(vocab: Any) -> Any:
    return dict.fromkeys(vocab, 0) if isinstance(vocab, dict) else vocab


def exported() -> list[Attack]:
    """Attacks on an exported folder."""
    config, tokenizer = "config.json", "tokenizer.json"
    found = [*_documents(config), *_tensor_attacks(), *_tokenizers()]
    found += [
        _value(config, "model_type", "llama"),
        _value(config, "auto_map", {"AutoModel": "evil.Model"}),
        _value(config, "tie_word_embeddings", True),
        _value(config, "rope_parameters", {"rope_type": "yarn", "rope_theta": 1.0}),
        _value(config, "rope_parameters", {"rope_theta": -1}),
        _value(config, "rope_parameters", []),
        _value(config, "embedding_scale", float("nan")),
        _value(config, "prefix_lm", "yes"),
        _value(config, "rms_norm_eps", -1),
        _value(tokenizer, "model", lambda model: {**model, "vocab": {t: n + 10**6 for t, n in model["vocab"].items()}}),
    ]
    for field in ("vocab_size", "num_hidden_layers", "hidden_size", "num_attention_heads", "head_dim", "H_cycles"):
        found += [_value(config, field, value) for value in (-2, "x", 2.5, 10**9, 10**13)]
    return found


def given() -> list[Attack]:
    """Attacks on a given tokenizer."""
    return [
        *_tokenizers(),
        _value("tokenizer.json", "pre_tokenizer", {"type": "Whitespace"}),
        _value("tokenizer.json", "normalizer", {"type": "Lowercase"}),
        _value("tokenizer.json", "decoder", None),
        _value("tokenizer.json", "model.vocab", lambda vocab: {t: n + 2**31 for t, n in vocab.items()}),
    ]
