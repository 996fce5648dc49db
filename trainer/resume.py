"""Saving and restoring a run: its position, weights, optimizer state and random state."""

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from corpus.config import ConfigError
from corpus.contract import TEMPLATE
from corpus.storage.redact import redact
from model.loading import CheckpointError
from trainer.build import EVALUATION_ROW_TOKENS, Run
from trainer.checkpointing.checkpoint import Checkpoint
from trainer.folder import claim, differences, listed
from trainer.initialize import initialize
from trainer.position import Position

logger = logging.getLogger(__name__)

COMPARED = ("objective", "init", "init_weights")
"""Keys of the manifest that must be those of the checkpoint."""
CHANGEABLE = ("optimizer", "schedule", "precision", "float8")
"""Keys of the manifest that decide the result of a step and may change between two starts of a run, with `--allow`."""


def save(run: Run, position: Position, loss: float | None) -> None:
    """Start writing a checkpoint; called on all ranks.

    Parameters
    ----------
    run, position
        The run, and where it is.
    loss
        Of the last step, for information.

    Raises
    ------
    model.loading.CheckpointError
        The checkpoint before this one could not be written.
    """
    config = {
        "model": asdict(run.model.config),
        "special": dict(run.dataset.special),
        "template": dict(TEMPLATE),
        # Rows that are longer than this are so to hold more samples.
        "max_positions": min(run.config.batch.row_tokens, max(run.dataset.max_tokens, EVALUATION_ROW_TOKENS)),
    }
    manifest = {"manifest": run.config.redacted(), "plan": asdict(run.plan.inputs)}
    run.checkpoints.save(
        position,
        {"model": run.model.state_dict(), **run.optimizer.named_state()},
        loss=loss if loss is not None and math.isfinite(loss) else None,
        sidecars={
            "config.json": json.dumps(config, indent=1),
            "manifest.json": json.dumps(manifest, indent=1),
            "tokenizer.json": run.dataset.tokenizer_file.read_bytes(),
        },
    )


def restore(run: Run, *, allow: bool = False) -> Position:
    """Load the newest valid checkpoint into the run's parts and return its position; called on all ranks.

    Parameters
    ----------
    run
        Its folder is recorded as belonging to it.
    allow
        Continue although settings of the training (`CHANGEABLE`) are not those of the checkpoint.

    Returns
    -------
    Position
        That of the beginning if there is no checkpoint; the weights are then those of `init`, if it is set.

    Raises
    ------
    ConfigError
        The checkpoint, or the folder, belongs to a run of another manifest or dataset, or `init` to another model or
        tokenizer.
    LeaseError
        Another run is writing to the same location.
    """
    inputs = run.plan.inputs
    run.checkpoints.check_writable()
    run.checkpoints.own()
    if run.world.is_local_main:
        run.checkpoints.clean()

    def use(checkpoint: Checkpoint) -> None:
        _check_same_run(run, checkpoint)
        _check_settings(run, checkpoint, allow=allow)
        tensors = {"model": run.model.state_dict(), **run.optimizer.named_state()}
        checkpoint.load_into(tensors, group=run.world.saving)
        checkpoint.restore_random_state()

    checkpoint = run.checkpoints.newest(use)
    identity = {"checkpoint.path": redact(run.config.checkpoint_url), **_identity(run)}
    if checkpoint is None:
        run.world.broadcast_from_main(lambda: claim(run.config.out, identity, is_continued=False))
        initialize(run)
        first = run.plan.chunk(0, 0).hash
        return Position(step=0, updates=0, plan_key=inputs.key, plan_hash=first, epoch=0, chunk=0, next_batch=0)
    run.world.broadcast_from_main(lambda: claim(run.config.out, identity, is_continued=True))
    for state in run.optimizer.state.values():
        state["step"].fill_(checkpoint.position.updates)
    return checkpoint.position


def _identity(run: Run) -> dict[str, Any]:
    """What must be the same whenever the run continues, by key."""
    manifest = run.config.redacted()
    return {
        **asdict(run.plan.inputs),
        **{key: manifest[key] for key in COMPARED},
        "model": asdict(run.model.config),
    }


def _check_settings(run: Run, checkpoint: Checkpoint, *, allow: bool) -> None:
    """Name the settings that have changed since the checkpoint, and raise unless that is allowed."""
    before, now = (_settings(manifest) for manifest in (checkpoint.manifest, run.config.redacted()))
    differing = differences(before, {key: value for key, value in now.items() if key in before})
    if not differing:
        return
    if not allow:
        raise ConfigError(
            f"{checkpoint.folder} was trained with other settings: restore these values, or add --allow to continue "
            f"with the new ones:{listed(differing)}"
        )
    if run.world.is_main:
        logger.warning("continuing with other settings than those of %s:%s", checkpoint.folder, listed(differing))


def _settings(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The `CHANGEABLE` keys of a manifest that it has, with their values."""
    found: dict[str, Any] = {}
    for section in CHANGEABLE:
        value = manifest.get(section)
        if isinstance(value, Mapping):
            found |= {f"{section}.{key}": inner for key, inner in value.items()}
        elif section in manifest:
            found[section] = value
    return found


def _check_same_run(run: Run, checkpoint: Checkpoint) -> None:
    here = _identity(run)
    defaults = {"init": None, "init_weights": "averaged"}  # of checkpoints from before these keys
    there = {
        **checkpoint.plan,
        **{key: {**defaults, **checkpoint.manifest}.get(key) for key in COMPARED},
        "model": asdict(checkpoint.model),
    }
    position = checkpoint.position
    differing = [key for key in here if here[key] != there.get(key)]
    if differing or position.plan_key != run.plan.inputs.key:
        if "fingerprint" in differing:
            raise ConfigError(
                f"{checkpoint.folder} was trained on another dataset than the one that is now at "
                f"{redact(run.config.data)}, which was rebuilt or replaced: its fingerprint was "
                f"{there.get('fingerprint')} and is {here['fingerprint']}. "
                "Restore the earlier dataset to continue the run, or set another out= to begin a new one"
            )
        if not differing:
            raise ConfigError(
                f"{checkpoint.folder} was written by another version of Millrace, whose batch plan has another "
                "format: continue the run with that version, or set another out= to begin a new one, from these "
                "weights with init=PATH"
            )
        raise ConfigError(
            f"{checkpoint.folder} belongs to another run: restore these values to continue it, or set another out= to "
            f"begin a new run:{listed(differences(there, here))}"
        )
    if position.chunk >= run.plan.chunks:
        raise CheckpointError(
            f"{checkpoint.folder}/trainer.json: progress.chunk is {position.chunk:,}, expected less than the "
            f"{run.plan.chunks:,} chunks of an epoch"
        )
    chunk = run.plan.chunk(position.epoch, position.chunk)
    planned = chunk.hash
    if planned == position.plan_hash and position.next_batch > chunk.batches:
        raise CheckpointError(
            f"{checkpoint.folder}/trainer.json: progress.next_batch is {position.next_batch:,}, expected at most the "
            f"{chunk.batches:,} batches of the chunk"
        )
    if planned != position.plan_hash:
        raise ConfigError(
            f"{checkpoint.folder} counts batches of another plan of epoch {position.epoch}, chunk {position.chunk} "
            f"({position.plan_hash}) than this version makes ({planned}): continue it with the version that began it, "
            f"or set another out= to begin a new run"
        )
