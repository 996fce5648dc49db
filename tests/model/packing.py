"""Samples, and batches into which they are packed."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from hypothesis import strategies as st

from model.batch import IGNORE, PackedBatch

VOCABULARY = 61


@dataclass(frozen=True, slots=True)
class Sample:
    """Token ids, the first `prefix` of which are the prefix."""

    tokens: tuple[int, ...]
    prefix: int

    def __len__(self) -> int:
        return len(self.tokens)


@st.composite
def samples(draw: st.DrawFn, longest: int = 12) -> Sample:
    """A sample; the prefix may be one token, the response may be empty."""
    prefix = draw(st.integers(1, longest))
    response = draw(st.integers(0, longest - prefix))
    seed = draw(st.integers(0, 10_000))
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, VOCABULARY, (prefix + response,), generator=generator)
    return Sample(tuple(tokens.tolist()), prefix)


def pack(rows: Sequence[Sequence[Sample]], length: int) -> PackedBatch:
    """Pack rows of samples from the start of each row; the rest of a row is padding."""
    tokens = torch.zeros(len(rows), length, dtype=torch.long)
    labels = torch.full_like(tokens, IGNORE)
    positions = torch.zeros_like(tokens)
    segments = []
    for r, row in enumerate(rows):
        begin = 0
        for sample in row:
            end = begin + len(sample)
            assert end <= length
            tokens[r, begin:end] = torch.tensor(sample.tokens)
            positions[r, begin:end] = torch.arange(len(sample))
            labels[r, begin + sample.prefix - 1 : end - 1] = tokens[r, begin + sample.prefix : end]
            segments.append((r, begin, sample.prefix, len(sample)))
            begin = end
    return PackedBatch(
        tokens=tokens,
        labels=labels,
        position_ids=positions,
        segments=torch.tensor(segments, dtype=torch.int32).reshape(-1, 4),
    )
