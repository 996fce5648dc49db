"""Attacks on a training manifest."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from corpus.config import ConfigError, load_manifest
from tests.attacks.attack import Attack
from trainer.config import TrainConfig

SOUND = """data: data
out: out
model: {size: tiny}
batch: {tokens: 128, row_tokens: 32}
optimizer: {lr: 0.001}
checkpoint: {every: 5}
epochs: 2
seed: 1
device: cpu
"""


class Manifest:
    """A training manifest, read into its model."""

    errors = (ConfigError,)

    def __init__(self, folder: Path) -> None:
        self.sound = folder / "sound"
        self.sound.mkdir(parents=True)
        (self.sound / "train.yaml").write_text(SOUND)

    def read(self, folder: Path) -> object:
        """The model, as JSON."""
        return load_manifest(folder / "train.yaml", TrainConfig).model_dump_json()


def bomb(levels: int) -> str:
    """YAML of a few lines that expands to 10^levels values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, levels)]
    return "\n".join(lines)


def _attack(kind: str, name: str, change: Callable[[Path], object]) -> Attack:
    return Attack(kind=kind, name=name, damage=lambda folder: change(folder / "train.yaml") and None)


def attacks() -> list[Attack]:
    """All attacks."""
    documents = {
        "aliases": bomb(30),
        "a mapping in itself": "a: &a {b: *a}",
        "a list in itself": "data: &a [*a]",
        "a long list": "a: [" + "x," * 60_000 + "]",
        "large": "#" * 5_000_000,
        "deep list": "a: " + "[" * 5_000,
        "deep mapping": "a: " + "{b: " * 5_000,
        "a tag of Python": "data: !!python/object/apply:os.system ['true']",
        "an unknown tag": "data: !x 1",
        "twice the same key": SOUND + "data: other\n",
        "a list": "[1]",
        "a text": "text",
        "empty": "",
        "a control character": "data: \x07",
        "two documents": SOUND + "---\n" + SOUND,
        "an invalid date": "data: 2024-99-99",
        "a key that is a list": "[1, 2]: 3",
    }
    found = [_attack("document", name, partial(Path.write_text, data=text)) for name, text in documents.items()]
    found.append(_attack("document", "not UTF-8", partial(Path.write_bytes, data=b"\xff\xfe")))
    wrong = {
        "data": ("5", "[]", "{}", "null"),
        "out": ("5", "[x]", "null"),
        "batch": (
            "5",
            "null",
            "{tokens: -1, row_tokens: 32}",
            "{tokens: 128.5, row_tokens: 32}",
            "{tokens: 100, row_tokens: 32}",
        ),
        "optimizer": ("{lr: -1}", "{lr: x}", "{lr: .nan}", "{lr: .inf}", "[1]"),
        "checkpoint": ("{every: 0}", "{every: -5}", "{every: x}", "{color: red}"),
        "epochs": ("-1", "1.5", "x", "[2]", "{a: 1}"),
        "seed": ("x", "1.5", "[]"),
        "device": ("7", "null"),
        "model": ("{size: huge}", "{num_layers: -2}", "{hidden_size: 1.5}", "5"),
    }
    for key, values in wrong.items():
        line = next(line for line in SOUND.splitlines() if line.startswith(f"{key}:"))
        found += [
            _attack("value", f"{key}: {value}", partial(Path.write_text, data=SOUND.replace(line, f"{key}: {value}")))
            for value in values
        ]
    return found
