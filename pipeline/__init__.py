"""From a mix manifest to a curated, deduplicated, tokenized and sharded dataset that accounts for every row."""
