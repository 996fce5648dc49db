"""Number of graphs that torch.compile makes, and the seconds that takes.

The blocks share three graphs: without gradients, with gradients, and with gradients of the weights only. None of
them depends on K. `trainer.step.compile_ahead` has all of them compiled before the first step; what is compiled later,
if anything, is reported at its step.
"""

import time

from torch._dynamo import callback
from torch._dynamo.utils import counters


class CompilationMonitor:
    """Observes torch.compile from its construction until `close`."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._began = 0.0
        self._graphs = self._count()
        callback.callback_handler.register_start_callback(self._started)
        callback.callback_handler.register_end_callback(self._ended)

    def collect(self) -> tuple[int, float]:
        """Number of graphs that were compiled since the last call, and the seconds that took."""
        graphs, seconds = self._count() - self._graphs, self._seconds
        self._graphs, self._seconds = self._count(), 0.0
        return graphs, seconds

    def close(self) -> None:
        """Observe no longer."""
        callback.callback_handler.remove_start_callback(self._started)
        callback.callback_handler.remove_end_callback(self._ended)

    def _started(self, _: callback.CallbackArgs) -> None:
        self._began = time.perf_counter()

    def _ended(self, _: callback.CallbackArgs) -> None:
        self._seconds += time.perf_counter() - self._began

    @staticmethod
    def _count() -> int:
        return int(counters["stats"]["unique_graphs"])
