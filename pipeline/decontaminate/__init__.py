"""Decontamination: train records that contain a question or a worked solution of an eval source are dropped."""

from pipeline.callable import make_callable

make_callable(__name__, "pipeline.library:decontaminate")
