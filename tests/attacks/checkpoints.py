"""Attacks on the files of a checkpoint. The hashes in COMMIT.json are those of the damaged files."""

import base64
import json
import pickle
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import xxhash
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, TensorStorageMetadata

import model
from corpus.contract import TEMPLATE
from model.config import config_for
from model.hrm import HRM
from model.loading import CheckpointError, weights_hash
from tests.attacks.attack import UNKNOWN_TAG, Attack, PassedOver, nested, put
from tests.trainer.fixtures import write_dataset
from trainer.checkpointing.checkpoint import Checkpoint
from trainer.checkpointing.manager import CheckpointManager
from trainer.data.dataset import open_dataset
from trainer.data.plan import PlanInputs
from trainer.position import Position

NEWEST = "step-00000002"
SMALL = {"num_layers": 2, "hidden_size": 32, "num_heads": 2, "head_dim": 16}


def _position(step: int) -> Position:
    return Position(step=step, updates=step, plan_key="k", plan_hash="h", epoch=0, chunk=0, next_batch=step)


def write_checkpoints(folder: Path) -> Path:
    """Write the checkpoints of the steps 1 and 2 of a small model, whose weights differ; return their folder."""
    dataset = open_dataset(str(write_dataset(folder / "data")), folder / "cache")
    small = HRM(config_for("tiny", dataset.vocab_size, **SMALL))
    inputs = PlanInputs(fingerprint="f", seed=0, batch_tokens=128, row_tokens=32, truncate=False)
    config = {
        "model": asdict(small.config),
        "special": dict(dataset.special),
        "template": dict(TEMPLATE),
        "max_positions": 32,
    }
    manifest = {"manifest": {"objective": "response", "init": None}, "plan": asdict(inputs)}
    manager = CheckpointManager(str(folder / "sound"), staging=folder / "staging", keep=2)
    for step in (1, 2):
        with torch.no_grad():
            small.lm_head.weight[0, 0] = step
        averaged = {name: parameter.detach() + 1 for name, parameter in small.named_parameters()}
        manager.save(
            _position(step),
            {"model": small.state_dict(), "ema": averaged},
            sidecars={
                "config.json": json.dumps(config),
                "manifest.json": json.dumps(manifest),
                "tokenizer.json": dataset.tokenizer_file.read_bytes(),
            },
        )
    manager.wait()
    return folder / "sound"


class Chosen:
    """The newest checkpoint, named by its folder, as the commands that use a model read it."""

    errors = (CheckpointError,)

    def __init__(self, folder: Path) -> None:
        self.sound = write_checkpoints(folder)

    def read(self, folder: Path) -> object:
        """Averaged and last weights, special tokens and the tokenizer."""
        averaged, last = (model.load(folder / NEWEST, ema=ema) for ema in (True, False))
        text = averaged.tokenizer.encode("w20 w21").ids
        return weights_hash(averaged.model), weights_hash(last.model), dict(averaged.special), text


class Resumed:
    """The checkpoints of a run, as the run reads the newest one to continue."""

    errors = (CheckpointError,)

    def __init__(self, folder: Path) -> None:
        self.sound = write_checkpoints(folder)

    def read(self, folder: Path) -> object:
        """Position, weights and random state; those of step 1 are `PassedOver`."""
        config = json.loads((self.sound / NEWEST / "config.json").read_text())["model"]
        small = HRM(model.config.ModelConfig(**config))
        averaged = {name: torch.zeros_like(parameter) for name, parameter in small.named_parameters()}

        def use(checkpoint: Checkpoint) -> None:
            checkpoint.load_into({"model": small.state_dict(), "ema": averaged})
            checkpoint.restore_random_state()

        manager = CheckpointManager(str(folder), staging=folder.parent / "staging", keep=2)
        checkpoint = manager.newest(use)
        assert checkpoint is not None
        if checkpoint.step == 1 and small.lm_head.weight[0, 0] == 1:
            raise PassedOver
        return (
            checkpoint.position,
            weights_hash(small),
            [tensor.sum().item() for tensor in averaged.values()],
            torch.get_rng_state().sum().item(),
        )


def sealed(folder: Path, name: str) -> None:
    """Record a file's present size and hash in COMMIT.json."""
    content = (folder / name).read_bytes()
    commit = json.loads((folder / "COMMIT.json").read_text())
    commit["files"][name] = {"bytes": len(content), "xxh3_128": xxhash.xxh3_128(content).hexdigest()}
    (folder / "COMMIT.json").write_text(json.dumps(commit))


def _attack(kind: str, name: str, what: str, damage: Callable[[Path], Any]) -> Attack:
    def apply(folder: Path) -> None:
        damage(folder / NEWEST / name)
        if name != "COMMIT.json":
            sealed(folder / NEWEST, name)

    return Attack(kind=kind, name=f"{name}: {what}", damage=apply)


def _value(name: str, at: str, new: Any) -> Attack:
    shown = "a function" if callable(new) else json.dumps(new)
    return _attack("value", name, f"{at} = {shown[:40]}", lambda path: put(path, at, new))


def _change(name: str, at: str, what: str, change: Callable[[Any], Any]) -> Attack:
    return _attack("value", name, what, lambda path: put(path, at, change))


def _table(what: str, change: Callable[[Any], Any]) -> Attack:
    def damage(path: Path) -> None:
        table = pickle.loads(path.read_bytes())
        changed = change(table)
        path.write_bytes(pickle.dumps(table if changed is None else changed))

    return _attack("table", ".metadata", what, damage)


def _entries(what: str, **fields: Any) -> Attack:
    """Change the entry of each stored tensor."""

    def change(table: Any) -> None:
        for index, entry in table.storage_data.items():
            new = {key: value(entry) if callable(value) else value for key, value in fields.items()}
            table.storage_data[index] = replace(entry, **new)

    return _table(what, change)


def _tensors(what: str, change: Callable[[TensorStorageMetadata], TensorStorageMetadata]) -> Attack:
    def apply(table: Any) -> None:
        for name, entry in table.state_dict_metadata.items():
            table.state_dict_metadata[name] = change(entry)

    return _table(what, apply)


def _chunk(offset: int, size: int) -> ChunkStorageMetadata:
    return ChunkStorageMetadata(offsets=torch.Size([offset]), sizes=torch.Size([size]))


def _table_attacks() -> Iterator[Attack]:
    yield _table("a string", lambda table: "x")
    yield _table("a number", lambda table: 5)
    yield _table("a list", lambda table: [table])
    yield _table("no tensors", lambda table: table.state_dict_metadata.clear())
    yield _table("no places", lambda table: table.storage_data.clear())
    yield _table("no place of one tensor", lambda table: table.storage_data.popitem() and None)
    yield _table("tensors are None", lambda table: setattr(table, "state_dict_metadata", None))
    yield _table("places are a list", lambda table: setattr(table, "storage_data", []))
    yield _table("places are None", lambda table: setattr(table, "storage_data", None))
    yield _table("planner data is a string", lambda table: setattr(table, "planner_data", "x"))
    yield _table("places by numbers", lambda table: setattr(table, "storage_data", dict(enumerate([1, 2]))))
    yield _entries("offset -5", offset=-5)
    yield _entries("offset 10^12", offset=10**12)
    yield _entries("offset of 1 more", offset=lambda entry: entry.offset + 1)
    yield _entries("offset text", offset="x")
    yield _entries("offset None", offset=None)
    yield _entries("length -1", length=-1)
    yield _entries("length 0", length=0)
    yield _entries("length 10^12", length=10**12)
    yield _entries("length 3 less", length=lambda entry: entry.length - 3)
    yield _entries("length 1.5", length=1.5)
    yield _entries("file of another name", relative_path="__9_9.distcp")
    yield _entries("file outside", relative_path="../step-00000001/__0_0.distcp")
    yield _entries("file is COMMIT.json", relative_path="COMMIT.json")
    yield _entries("file is a number", relative_path=5)
    yield _entries("unknown transform", transform_descriptors=["gzip"])
    yield _entries("transform of another type", transform_descriptors=5)
    yield _tensors("no chunks", lambda t: replace(t, chunks=[]))
    yield _tensors("size 10^12", lambda t: replace(t, size=torch.Size([10**12])))
    yield _tensors("size of 1", lambda t: replace(t, size=torch.Size([1]), chunks=[_chunk(0, 1)]))
    yield _tensors("chunk outside", lambda t: replace(t, chunks=[_chunk(10**6, 5)]))
    yield _tensors("chunk of 10^12", lambda t: replace(t, chunks=[_chunk(0, 10**12)]))
    yield _tensors("chunks are None", lambda t: replace(t, chunks=None))
    yield _tensors("chunks twice", lambda t: replace(t, chunks=[*t.chunks, *t.chunks]))
    yield _tensors("other dtype", lambda t: replace(t, properties=replace(t.properties, dtype=torch.int64)))
    yield _tensors("properties None", lambda t: replace(t, properties=None))
    for share in (0, 1, 10, 50, 90, 99):
        yield _attack(
            "table",
            ".metadata",
            f"{share} % of it",
            lambda path, share=share: path.write_bytes(path.read_bytes()[: path.stat().st_size * share // 100]),
        )
    yield _attack("table", ".metadata", "text", lambda path: path.write_bytes(b"hello world"))
    yield _attack("table", ".metadata", "JSON", lambda path: path.write_bytes(b"{}"))
    yield _attack(
        "table", ".metadata", "8 GB of bytes", lambda path: path.write_bytes(b"\x80\x04\x8e" + b"\0\0\0\0\2\0\0\0")
    )
    yield _attack(
        "table", ".metadata", "deep", lambda path: path.write_bytes(b"\x80\x04" + b"(" * 50_000 + b"t" * 50_000 + b".")
    )


def _tensor_file_attacks() -> Iterator[Attack]:
    damages: dict[str, Callable[[Path], Any]] = {
        "half of it": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        "cut": lambda path: path.write_bytes(path.read_bytes()[:-1]),
        "empty": lambda path: path.write_bytes(b""),
        "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
        "0xff": lambda path: path.write_bytes(b"\xff" * path.stat().st_size),
        "a pickle": lambda path: path.write_bytes(pickle.dumps({"weight": [1.0] * 5})),
        "a pickle at the begin": lambda path: path.write_bytes(
            (p := pickle.dumps({"weight": 1})) + path.read_bytes()[len(p) :]
        ),
        "another tensor": _with_other_tensor,
    }
    for what, damage in damages.items():
        yield _attack("tensors", "__0_0.distcp", what, damage)


def _with_other_tensor(path: Path) -> None:
    torch.save(torch.zeros(3), path)


LISTED = {
    "COMMIT.json: nested",
    "COMMIT.json: step = 1",
    "trainer.json: progress.step = -5",
    'trainer.json: progress.step = "x"',
    "trainer.json: progress.step = 1000000000000",
    "trainer.json: another key",
    "trainer.json: a key less",
    'trainer.json: random.cpu = "YWJj"',
    "trainer.json: progress.next_batch = -1",
    "trainer.json: nested",
    "config.json: nested",
    "config.json: special.<|im_end|> = -1",
    "config.json: special.<|im_end|> = 4000000000",
    "config.json: model.num_layers = 1000000000",
    "manifest.json: nested",
    "tokenizer.json: garbage",
    ".metadata: a string",
    ".metadata: 50 % of it",
    ".metadata: offset -5",
    ".metadata: length 10^12",
    ".metadata: unknown transform",
    ".metadata: no chunks",
    "__0_0.distcp: half of it",
    "__0_0.distcp: a pickle",
}
"""Names of the attacks that were first made by hand."""


def listed() -> list[Attack]:
    """The attacks of `LISTED`."""
    return [attack for attack in attacks() if attack.name in LISTED]


def attacks() -> list[Attack]:
    """All attacks."""
    found: list[Attack] = []
    for name in ("COMMIT.json", "trainer.json", "config.json", "manifest.json", "tokenizer.json"):
        found += [
            _attack("document", name, json.dumps(other), partial(Path.write_text, data=json.dumps(other)))
            for other in ([], "x", 3, None, {})
        ]
        found.append(_attack("document", name, "nested", nested))
        found.append(_attack("document", name, "not UTF-8", lambda path: path.write_bytes(b"\xff\xfe{}")))
        found.append(_attack("document", name, "empty", lambda path: path.write_bytes(b"")))
    for step in (-5, "x", None, 1.5, True, 10**12, 3, [2]):
        found.append(_value("trainer.json", "progress.step", step))
    for field in ("updates", "epoch", "chunk", "next_batch"):
        found += [_value("trainer.json", f"progress.{field}", value) for value in (-1, "x", None, 10**12, 1.5)]
    for field in ("plan_key", "plan_hash"):
        found += [_value("trainer.json", f"progress.{field}", value) for value in (5, None, ["k"])]
    random = [None, 5, "x", "AAAA", base64.b64encode(b"abc").decode(), base64.b64encode(bytes(5056)).decode(), "é"]
    found += [_value("trainer.json", "random.cpu", value) for value in random]
    found += [_value("trainer.json", "random.cuda", value) for value in (5, "AAAA", [1])]
    found += [
        _change("trainer.json", "progress", "another key", lambda progress: {**progress, "color": 1}),
        _change(
            "trainer.json",
            "progress",
            "a key less",
            lambda progress: {k: v for k, v in progress.items() if k != "epoch"},
        ),
        _value("trainer.json", "random", None),
        _value("trainer.json", "loss", "low"),
        _value("trainer.json", "format", "millrace-checkpoint/9"),
        _value("trainer.json", "format", ["millrace-checkpoint/3"]),
        _value("COMMIT.json", "step", 1),
        _value("COMMIT.json", "step", "2"),
        _value("COMMIT.json", "files", []),
        _value("COMMIT.json", "files", {}),
        _value("COMMIT.json", "files", lambda files: {**files, "../x": {"bytes": 1, "xxh3_128": "0"}}),
        _value("COMMIT.json", "files", lambda files: {name: {**file, "bytes": -1} for name, file in files.items()}),
        _value("COMMIT.json", "files", lambda files: {name: {**file, "bytes": "7"} for name, file in files.items()}),
        _value("COMMIT.json", "files", lambda files: {name: {**file, "bytes": 10**30} for name, file in files.items()}),
        _value("COMMIT.json", "files", lambda files: {name: {"bytes": 5} for name, file in files.items()}),
        _value("manifest.json", "plan", None),
        _value("manifest.json", "manifest", [1]),
        _value("config.json", "special", []),
        _value("config.json", "special", {}),
        _value("config.json", "special.<|im_end|>", -1),
        _value("config.json", "special.<|im_end|>", 1),
        _value("config.json", "special.<|im_end|>", 4 * 10**9),
        _value("config.json", "special.<|im_end|>", "2"),
        _value("config.json", "model", lambda m: {**m, "color": 1}),
        _value("config.json", "model", lambda m: {k: v for k, v in m.items() if k != "vocab_size"}),
        _value("config.json", "template", []),
        _value("config.json", "max_positions", -1),
        _value("config.json", "max_positions", "many"),
        _value("tokenizer.json", "added_tokens", []),
        _value("tokenizer.json", "post_processor", UNKNOWN_TAG),
        _value("tokenizer.json", "model", {"type": "BPE"}),
        _attack("document", "tokenizer.json", "garbage", lambda path: path.write_bytes(b"\x80\x02garbage")),
    ]
    for field in ("vocab_size", "num_layers", "hidden_size", "num_heads", "head_dim", "H_cycles", "L_cycles"):
        found += [_value("config.json", f"model.{field}", value) for value in (-2, "x", None, 2.5, 10**9, 10**13)]
    found += [_value("config.json", "model.rope_theta", value) for value in (-1, "x", True, 1e400, 0)]
    found += [_value("config.json", "model.architecture", value) for value in ("gpt", None, ["hrm"])]
    return [*found, *_table_attacks(), *_tensor_file_attacks()]
