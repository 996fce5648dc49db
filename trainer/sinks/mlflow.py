"""Metrics for MLflow, named KIND/KEY, with dots for more slashes; in OUT/mlruns unless MLFLOW_TRACKING_URI is set."""

import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.metrics import Values

EXPERIMENT = "millrace"
FOLDER_TAG = "millrace.out"
"""Tag of an MLflow run that names the run's folder, by which a resumed run finds it."""
_MAX_BATCH = 1000
"""Metrics that MLflow accepts at once."""
_MAX_VALUE = 6000
"""Characters of a parameter that MLflow accepts."""


class MLflow:
    """Sink that writes a run of MLflow; needs the package mlflow.

    A resumed run continues that of its folder; steps after the checkpoint are in it twice.

    Parameters
    ----------
    folder
        The run's folder, whose name is that of the run.
    config
        Recorded as parameters.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any]):
        self._folder, self._config = folder, config

    def start(self, step: int) -> None:
        """See `Sink.start`."""
        location = os.environ.get("MLFLOW_TRACKING_URI")
        if location is None:
            # MLflow 3 prefers a database, and refuses a folder without this variable.
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
            location = (self._folder / "mlruns").resolve().as_uri()
        from mlflow import MlflowClient

        self._client = MlflowClient(tracking_uri=location)
        experiment = self._client.get_experiment_by_name(EXPERIMENT)
        number = self._client.create_experiment(EXPERIMENT) if experiment is None else experiment.experiment_id
        out = str(self._folder.resolve())
        found = self._client.search_runs([number], f"tags.`{FOLDER_TAG}` = '{_quoted(out)}'") if step else []
        if found:
            self._run = found[0].info.run_id
            self._client.update_run(self._run, status="RUNNING")
            return
        run = self._client.create_run(number, run_name=self._folder.name, tags={FOLDER_TAG: out})
        self._run = run.info.run_id
        for key, value in self._config.items():
            self._client.log_param(self._run, key, str(value)[:_MAX_VALUE])

    def write(self, kind: str, step: int, values: Values) -> None:
        """See `Sink.write`."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(metric_name(kind, key), float(value), now, step) for key, value in values.items()]
        for first in range(0, len(metrics), _MAX_BATCH):
            self._client.log_batch(self._run, metrics=metrics[first : first + _MAX_BATCH])

    def close(self) -> None:
        """See `Sink.close`."""
        self._client.set_terminated(self._run)


def metric_name(kind: str, key: str) -> str:
    """Return the name of a metric for MLflow, in which characters that it does not allow are `_`.

    In its folders a name is a path, so that "exact_match" and "exact_match/units" exclude each other.
    """
    return re.sub(r"[^\w\-. /]", "_", f"{kind}/{key.replace('/', '.')}", flags=re.ASCII)


def _quoted(text: str) -> str:
    return text.replace("'", "\\'")
