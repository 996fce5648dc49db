"""Saving and restoring a run: its position, weights, optimizer state and random state."""

import json
import math
from dataclasses import asdict

from corpus.config import ConfigError
from corpus.contract import TEMPLATE
from corpus.storage.redact import redact
from trainer.build import Run
from trainer.checkpointing.checkpoint import Checkpoint
from trainer.initialize import initialize
from trainer.position import Position


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
        "max_positions": run.config.batch.row_tokens,
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


def restore(run: Run) -> Position:
    """Load the newest valid checkpoint into the run's parts and return its position; called on all ranks.

    Returns
    -------
    Position
        That of the beginning if there is no checkpoint; the weights are then those of `init`, if it is set.

    Raises
    ------
    ConfigError
        The checkpoint belongs to a run of another manifest or dataset, or `init` to another model or tokenizer.
    LeaseError
        Another run is writing to the same location.
    """
    inputs = run.plan.inputs
    run.checkpoints.check_writable()
    run.checkpoints.own()
    if run.world.is_local_main:
        run.checkpoints.clean()
    checkpoint = run.checkpoints.newest()
    if checkpoint is None:
        initialize(run)
        first = run.plan.chunk(0, 0).hash
        return Position(step=0, updates=0, plan_key=inputs.key, plan_hash=first, epoch=0, chunk=0, next_batch=0)
    _check_same_run(run, checkpoint)
    position = checkpoint.position
    tensors = {"model": run.model.state_dict(), **run.optimizer.named_state()}
    checkpoint.load_into(tensors, group=run.world.saving)
    for state in run.optimizer.state.values():
        state["step"].fill_(position.updates)
    checkpoint.restore_random_state()
    return position


def _check_same_run(run: Run, checkpoint: Checkpoint) -> None:
    made_with = checkpoint.sidecar("manifest.json")
    manifest, compared = run.config.redacted(), ("objective", "init", "init_weights")
    here = {**asdict(run.plan.inputs), **{key: manifest[key] for key in compared}, "model": asdict(run.model.config)}
    defaults = {"init": None, "init_weights": "averaged"}  # of checkpoints from before these keys
    there = {
        **made_with["plan"],
        **{key: ({**defaults, **made_with["manifest"]})[key] for key in compared},
        "model": checkpoint.sidecar("config.json")["model"],
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
        what = "; ".join(f"{key} was {there.get(key)} and is {here[key]}" for key in differing)
        raise ConfigError(
            f"{checkpoint.folder} belongs to another run: {what or 'its batch plan has another format'}. "
            f"Restore these values to continue it, or set another out= to begin a new run"
        )
    planned = run.plan.chunk(position.epoch, position.chunk).hash
    if planned != position.plan_hash:
        raise ConfigError(
            f"{checkpoint.folder} counts batches of another plan of epoch {position.epoch}, chunk {position.chunk} "
            f"({position.plan_hash}) than this version makes ({planned}): continue it with the version that began it, "
            f"or set another out= to begin a new run"
        )
