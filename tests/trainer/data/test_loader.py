"""Claims about packed batches and their loader."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model.batch import IGNORE, PackedBatch
from model.config import config_for
from model.hrm import HRM
from tests.trainer.fixtures import FIRST
from trainer.config import Objective
from trainer.data.dataset import Dataset, open_dataset
from trainer.data.fetch import DatasetError
from trainer.data.loader import Loader
from trainer.data.plan import Plan, PlanInputs, fit_lengths
from trainer.data.shards import ShardStore

ROW, ROWS = 32, 4


def loader_for(dataset: Dataset, *, row_tokens: int = ROW, truncate: bool = False, **where: Any) -> Loader:
    inputs = PlanInputs(
        fingerprint=dataset.fingerprint,
        seed=0,
        batch_tokens=ROWS * row_tokens,
        row_tokens=row_tokens,
        truncate=truncate,
    )
    lengths = fit_lengths(dataset.lengths, row_tokens=row_tokens, truncate=truncate)
    settings = {
        "epochs": 1,
        "epoch": 0,
        "chunk": 0,
        "next_batch": 0,
        "rank": 0,
        "world_size": 1,
        "prefetch_batches": 2,
        "prefetch_bytes": 1 << 20,
        **where,
    }
    return Loader(
        Plan(inputs, dataset.strata, lengths),
        ShardStore(dataset),
        lengths,
        device=torch.device("cpu"),
        **settings,
    )


@pytest.fixture
def dataset(data: Path, tmp_path: Path) -> Dataset:
    return open_dataset(str(data), tmp_path)


def samples_in(batch: Any) -> list[int]:
    """Samples of a batch, identified by their tokens."""
    return [int(batch.tokens[row, begin]) - FIRST for row, begin, _, _ in batch.segments.tolist()]


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_epoch_holds_every_sample_once_over_all_ranks(dataset: Dataset, world_size: int) -> None:
    batches: dict[int, list[int]] = {}
    for rank in range(world_size):
        with loader_for(dataset, rank=rank, world_size=world_size) as loader:
            for step in loader:
                assert step.batch.tokens.shape == (ROWS // world_size, ROW)
                batches.setdefault(step.index, []).extend(samples_in(step.batch))
    assert sorted(i for batch in batches.values() for i in batch) == list(range(120))
    with loader_for(dataset) as loader:
        assert {step.index: sorted(samples_in(step.batch)) for step in loader} == {
            index: sorted(batch) for index, batch in batches.items()
        }


def test_labels_are_the_next_response_tokens_and_positions_restart(dataset: Dataset) -> None:
    with loader_for(dataset) as loader:
        for step in loader:
            batch = step.batch
            inside = np.zeros((ROWS, ROW), bool)
            for row, begin, prefix, length in batch.segments.tolist():
                sample = int(batch.tokens[row, begin])
                here = slice(begin, begin + length)
                assert not inside[row, here].any()
                inside[row, here] = True
                response = length + 1 - prefix  # its last token is a label and no input
                assert (prefix, response) == tuple(dataset.lengths[sample - FIRST])
                assert set(batch.tokens[row, here].tolist()) == {sample}
                assert batch.position_ids[row, here].tolist() == list(range(length))
                labels = [IGNORE] * (prefix - 1) + [sample] * response
                assert batch.labels[row, here].tolist() == labels
            assert (batch.labels.numpy()[~inside] == IGNORE).all()
            assert (batch.labels != IGNORE).sum() == step.targets
            assert inside.sum() == step.tokens


@pytest.mark.parametrize("objective", ["response", "all"])
def test_loss_and_gradients_are_those_of_samples_with_a_position_for_every_token(
    dataset: Dataset, objective: Objective
) -> None:
    store, model = ShardStore(dataset), HRM(config_for("tiny", dataset.vocab_size))
    with loader_for(dataset, objective=objective) as loader:
        step = next(iter(loader))
    samples = [store.read(sample) for sample in samples_in(step.batch)]
    shape = (len(samples), max(len(sample.tokens) for sample in samples))
    tokens, labels = torch.zeros(shape, dtype=torch.long), torch.full(shape, IGNORE)
    for row, sample in enumerate(samples):
        tokens[row, : len(sample.tokens)] = torch.from_numpy(sample.tokens.astype(np.int64))
        first = sample.prefix_len if objective == "response" else 1
        labels[row, first - 1 : len(sample.tokens) - 1] = tokens[row, first : len(sample.tokens)]
    whole = PackedBatch(
        tokens=tokens,
        labels=labels,
        position_ids=torch.arange(shape[1]).expand(shape),
        segments=torch.tensor([(row, 0, s.prefix_len, len(s.tokens)) for row, s in enumerate(samples)]),
    )
    found = []
    for batch in (step.batch, whole):
        model.zero_grad()
        nll, count = model(batch)
        nll.backward()
        found.append((nll.detach(), count, [p.grad for p in model.parameters()]))
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)
    assert found[0][1] == step.targets


def test_truncated_samples_keep_their_prefix_and_as_much_response_as_fits(dataset: Dataset) -> None:
    longest_prefix = int(dataset.lengths[:, 0].max())
    with loader_for(dataset, row_tokens=longest_prefix, truncate=True) as loader:
        seen = {}
        for step in loader:
            assert step.batch.segments[:, 3].max() <= longest_prefix
            seen.update(zip(samples_in(step.batch), step.batch.segments[:, 2].tolist(), strict=True))
    assert seen == dict(enumerate(dataset.lengths[:, 0].tolist()))


def test_resuming_after_any_batch_gives_the_rest_of_the_uninterrupted_sequence(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.data.plan.CHUNK_BATCHES", 4)

    def sequence(**start: int) -> list[tuple[int, int, int, list[int]]]:
        with loader_for(dataset, epochs=2, **start) as loader:
            return [(step.epoch, step.chunk, step.index, samples_in(step.batch)) for step in loader]

    whole = sequence()
    assert {chunk for _, chunk, _, _ in whole} == {0, 1, 2}
    for number, (epoch, chunk, index, _) in enumerate(whole, 1):
        assert sequence(epoch=epoch, chunk=chunk, next_batch=index + 1) == whole[number:]


def test_error_of_the_thread_is_raised_in_the_loop(data: Path, dataset: Dataset) -> None:
    (data / "shards" / "shard.00003.mds").write_bytes(b"")
    with loader_for(dataset) as loader, pytest.raises(DatasetError, match=r"shard\.00003\.mds"):
        list(loader)


def test_loader_closes_while_its_queue_is_full(dataset: Dataset) -> None:
    loader_for(dataset, epochs=None).close()
