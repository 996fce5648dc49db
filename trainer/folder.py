"""The folder of a run: which run it belongs to, so that another one does not overwrite its metrics.

OUT/run.json ─ compared with what identifies the run ─▶ written, or an error that names what differs
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from corpus.config import ConfigError
from trainer.sinks.jsonl import FILE

RUN = "run.json"


_MANIFEST_KEYS = {"batch_tokens": "batch.tokens", "row_tokens": "batch.row_tokens"}
"""Keys of the manifest whose values other names have in a plan."""


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return "KEY was X and is Y" for every key of `now`, and of mappings in it, that has another value before."""
    found: list[str] = []
    for key, value in now.items():
        name, earlier = _MANIFEST_KEYS.get(key, key), before.get(key)
        if isinstance(value, Mapping) and isinstance(earlier, Mapping):
            found += [f"{name}.{line}" for line in differences(earlier, value)]
        elif value != earlier:
            found.append(f"{name} was {earlier} and is {value}")
    return found


def listed(differing: Sequence[str]) -> str:
    """Return the differences for the end of a message, a line each."""
    return "".join(f"\n  {line}" for line in differing)


def claim(folder: Path, identity: Mapping[str, Any], *, is_continued: bool) -> None:
    """Record that a folder belongs to a run; called on rank 0.

    Parameters
    ----------
    folder
        The run's `out`.
    identity
        What distinguishes the run from others: values by manifest key.
    is_continued
        Whether the run continues from a checkpoint, which identifies it.

    Raises
    ------
    ConfigError
        The folder belongs to another run.
    """
    from corpus.storage.store import Store

    content = json.dumps(identity, indent=1)
    if not is_continued:
        _refuse_another_run(folder, json.loads(content))
    Store(str(folder)).write(RUN, content.encode())


def _refuse_another_run(folder: Path, identity: Mapping[str, Any]) -> None:
    try:
        before = json.loads((folder / RUN).read_bytes())
    except (FileNotFoundError, ValueError):
        before = None
    if not isinstance(before, dict):
        metrics = folder / FILE
        if metrics.exists() and metrics.stat().st_size:
            raise ConfigError(
                f"{metrics} is from an earlier run, and no checkpoint of it was found, so this run would overwrite it: "
                "set another out=, or move the file away"
            )
    elif differing := differences(before, identity):
        raise ConfigError(
            f"{folder} belongs to another run, whose metrics this one would overwrite: set another out= to begin a new "
            f"run, or restore these values to continue that one:{listed(differing)}"
        )
