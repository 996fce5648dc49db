"""Reports of training runs: metrics.jsonl of one or several runs → numbers, curves and a page."""
