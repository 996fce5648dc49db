"""Metrics for Weights & Biases, named KIND/KEY over the axis `global_step`; offline unless WANDB_MODE is set."""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.metrics import Values


class WandB:
    """Sink that writes a run of Weights & Biases; needs the package wandb.

    Offline, `wandb sync OUT/wandb/offline-run-*` uploads it. The parts of a run that was resumed have one id; steps
    after the checkpoint are in it twice.

    Parameters
    ----------
    folder
        The run's folder, whose name is that of the run.
    config
        Recorded with the run.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any]):
        self._folder, self._config = folder, config

    def start(self, step: int) -> None:
        """See `Sink.start`."""
        import wandb

        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "millrace"),
            name=self._folder.name,
            id=self._identity(step),
            resume="allow",
            dir=self._folder,
            config=dict(self._config),
            mode=os.environ.get("WANDB_MODE", "offline"),
            settings=wandb.Settings(console="off", silent=True),
        )
        self._run.define_metric("*", step_metric="global_step")

    def _identity(self, step: int) -> str:
        """Return the id of the folder's run: a new one for a run from the start."""
        file = self._folder / "wandb" / "run-id"
        if step and file.exists():
            return file.read_text()
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(secrets.token_hex(8))
        return file.read_text()

    def write(self, kind: str, step: int, values: Values) -> None:
        """See `Sink.write`."""
        self._run.log({"global_step": step, **{f"{kind}/{key}": value for key, value in values.items()}})

    def close(self) -> None:
        """See `Sink.close`."""
        self._run.finish()
