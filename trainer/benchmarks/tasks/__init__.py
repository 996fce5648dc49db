"""The tasks of the package, a module each, which defines `TASK`."""
