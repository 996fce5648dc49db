"""Metrics as TensorBoard scalars, named KIND/KEY."""

from pathlib import Path

from trainer.metrics import Values


class TensorBoard:
    """Sink that writes TensorBoard event files; needs the package tensorboard.

    Parameters
    ----------
    folder
        Log directory.
    """

    def __init__(self, folder: Path):
        self._folder = folder

    def start(self, step: int) -> None:
        """See `Sink.start`."""
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(self._folder), purge_step=step + 1)

    def write(self, kind: str, step: int, values: Values) -> None:
        """See `Sink.write`."""
        for key, value in values.items():
            self._writer.add_scalar(f"{kind}/{key}", value, step)

    def close(self) -> None:
        """See `Sink.close`."""
        self._writer.close()
