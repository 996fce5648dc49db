"""Quality rules on pairs: one class per file, each with its keys in the manifest's `rules:`."""
