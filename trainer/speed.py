"""Speed of training: tokens and operations per second, share of the device's peak, device memory.

    seconds of a step, its samples, K ─ SpeedMeter ─▶ tokens/s, TFLOP/s of a device, MFU, GB

MFU (model FLOPs utilization) is the operations of `model.flops` for the tokens of the samples, padding not counted,
divided by the time and by the peak of the devices for dense bf16 products by their data sheet, also with float8. What a
device recomputes or computes for masked pairs does not count.
"""

import numpy as np
import torch

from model.flops import peak_flops, training_flops, visible_pairs
from trainer.build import Run
from trainer.data.loader import Step


class SpeedMeter:
    """Computes the speed of the steps of a run.

    Parameters
    ----------
    run
        Its device decides whether MFU and memory are known.
    """

    def __init__(self, run: Run):
        self._run = run
        device = run.world.device
        self._cuda = device if device.type == "cuda" else None
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
        self._peak = peak_flops(name) if run.config.precision == "bf16" else None

    def values(self, step: Step, *, k: int, seconds: float) -> dict[str, float]:
        """Named values for the metrics.

        Parameters
        ----------
        step
            The data of the step.
        k
            Number of applications that carried gradients.
        seconds
            Duration of the step.

        Returns
        -------
        dict
            `tokens_per_second` of all devices, `tflops` of one; `mfu` where the peak is known; `memory_gb`, the peak
            of allocated memory of the first device since the last call, on CUDA.
        """
        run = self._run
        samples = run.plan.chunk(step.epoch, step.chunk).batch(step.index)
        prefix, response = torch.from_numpy(run.lengths[samples].astype(np.int64)).unbind(1)
        pairs = visible_pairs(prefix, prefix + response - 1, run.model.config.mask)
        flops = training_flops(run.model.config, k=k, tokens=step.tokens, targets=step.targets, pairs=pairs).total
        speed = flops / seconds / run.world.size
        values = {"tokens_per_second": step.tokens / seconds, "tflops": speed / 1e12}
        if self._peak is not None:
            values["mfu"] = speed / self._peak
        if self._cuda is not None:
            values["memory_gb"] = torch.cuda.max_memory_allocated(self._cuda) / 1e9
            torch.cuda.reset_peak_memory_stats(self._cuda)
        return values
