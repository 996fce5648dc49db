"""Metrics for trackio, named KIND/KEY; in OUT/trackio unless TRACKIO_DIR says otherwise."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.metrics import Values


class Trackio:
    """Sink that writes a run of trackio; needs the package trackio. `trackio show --project millrace` shows it.

    A resumed run continues that of its folder; steps after the checkpoint are in it twice.

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
        os.environ.setdefault("TRACKIO_DIR", str(self._folder / "trackio"))
        import trackio

        self._run = trackio.init("millrace", name=self._folder.name, config=dict(self._config), resume="allow")

    def write(self, kind: str, step: int, values: Values) -> None:
        """See `Sink.write`."""
        self._run.log({f"{kind}/{key}": value for key, value in values.items()}, step=step)

    def close(self) -> None:
        """See `Sink.close`."""
        self._run.finish()
