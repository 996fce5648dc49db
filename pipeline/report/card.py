"""The dataset card: README.md, with the metadata that the Hugging Face Hub and `datasets` read."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from corpus.contract import SPECIAL_TOKENS, DatasetInfo
from corpus.pages.render import render_card
from corpus.terminal import printable


def card(info: DatasetInfo, sources: Sequence[Mapping[str, Any]], license: str | None) -> str:
    """Return the card.

    Parameters
    ----------
    info
        Content of dataset.json.
    sources
        For each source: source, role, rows, pairs, kept, dropped and tokens.
    license
        The mix's licence; None: not stated.
    """
    return render_card(
        __package__,
        "card.md.jinja",
        front_matter=_front_matter(info, license),
        info=info,
        sources=sources,
        special_tokens=SPECIAL_TOKENS,
        license=license,
    )


def _front_matter(info: DatasetInfo, license: str | None) -> str:
    """Return the card's metadata as the Hugging Face Hub and `datasets` read it: which files are which split."""
    types = {"row_id": "string", "source": "string", "task": "string", "instruction": "large_string"}
    features = [
        *({"name": name, "dtype": dtype} for name, dtype in types.items()),
        {"name": "response", "dtype": "large_string"},
        {"name": "condition", "list": "string"},
        {"name": "meta", "dtype": "string"},
    ]
    metadata = {
        "pretty_name": printable(" ".join(info.name.split())),
        "license": printable(license or "unknown"),
        "task_categories": ["text-generation"],
        "size_categories": [_size_category(info.samples)],
        "tags": ["instruction-tuning", "millrace"],
        # One format for all splits, so the JSON lines of eval sources can be none of them.
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "curated/*.parquet"}]}],
        "dataset_info": {"config_name": "default", "features": features},
    }
    return yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True)


def _size_category(samples: int) -> str:
    """Return the Hub's name for a number of samples."""
    limits = {1_000: "1K", 10_000: "10K", 100_000: "100K", 1_000_000: "1M", 10_000_000: "10M", 100_000_000: "100M"}
    limits |= {1_000_000_000: "1B", 10_000_000_000: "10B", 100_000_000_000: "100B", 1_000_000_000_000: "1T"}
    below = ""
    for limit, name in limits.items():
        if samples < limit:
            return f"{below}<n<{name}" if below else f"n<{name}"
        below = name
    return "n>1T"
