"""Position of a run in its batch plan, counted at step boundaries."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where a run is after a step; a checkpoint stores it, and the next start continues from it."""

    step: int
    """Optimizer steps done, skipped ones included."""
    updates: int
    """Steps that changed the weights, i.e. whose loss and gradient were finite."""
    plan_key: str
    """Hash of the inputs of the batch plan; under another key `next_batch` would mean another batch."""
    plan_hash: str
    """Hash of the plan of this epoch's chunk."""
    epoch: int
    chunk: int
    """Chunk of the epoch; plans are made, and batches counted, per chunk (see `trainer.data.plan`)."""
    next_batch: int
    """First batch of the chunk that no step has used."""
