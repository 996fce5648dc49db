"""The checks of `pipeline.verify`, a module for each part of a dataset."""
