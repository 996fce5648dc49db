"""Quality rules on pairs: small, named, each with its own switch and thresholds in the manifest's `rules:`."""
