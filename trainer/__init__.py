"""From a built dataset to a trained model: batch plan, shard store, training loop, checkpoints, evaluation."""

import os

# OpenMP's threads wait for each other by spinning, which makes a training step many times slower when another process
# uses one of the cores. OpenMP looks this up when torch is imported; what the user has set stays.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
