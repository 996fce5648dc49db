"""From a built dataset to a trained model: batch plan, shard store, training loop, checkpoints, evaluation."""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainer.data.batches import batches

__all__ = ["batches"]

# Threads of OpenMP that wait by spinning make a training step many times slower while another process uses one of the
# cores. OpenMP reads this when torch is imported; a value that the user has set is kept.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def __getattr__(name: str) -> Any:
    """Import `trainer.batches` on first use, because torch takes seconds to import."""
    if name == "batches":
        from trainer.data.batches import batches

        return batches
    raise AttributeError(f"module 'trainer' has no attribute {name!r}")
