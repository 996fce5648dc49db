"""`trainer.batches`: packed batches of a dataset for a training loop of one's own."""

from collections.abc import Iterator
from pathlib import Path

import torch

from model.batch import PackedBatch
from trainer.config import Objective
from trainer.data.dataset import open_dataset
from trainer.data.loader import Loader
from trainer.data.plan import Plan, PlanInputs, fit_lengths
from trainer.data.shards import ShardStore


def batches(
    path: str | Path,
    *,
    batch_tokens: int,
    row_tokens: int,
    seed: int = 0,
    epochs: int | None = 1,
    truncate: bool = False,
    objective: Objective = "response",
    cache: str | Path = "out/cache",
    prefetch_batches: int = 4,
    prefetch_bytes: int = 2**30,
) -> Iterator[PackedBatch]:
    """Iterate over the packed batches of a built dataset in one process.

    The batches, and their order, are those of a training run with the same dataset, seed, `batch_tokens` and
    `row_tokens`. A thread prepares them ahead; it ends with the iteration, or when the iterator is closed.

    Parameters
    ----------
    path
        Folder or fsspec URL of the dataset.
    batch_tokens
        Positions of a batch: a multiple of `row_tokens`.
    row_tokens
        Positions of a row; unless `truncate` is set, no sample may have more than one token more than this.
    seed
        Seed of the order.
    epochs
        Number of epochs; None: endless, for a dataset that was not built for a number of them.
    truncate
        Cut the end of the response of longer samples.
    objective
        Which tokens have labels: those of the response, or all of a sample except its first.
    cache
        Folder for the files of a remote dataset.
    prefetch_batches
        Number of batches prepared ahead.
    prefetch_bytes
        Bytes of shards of a remote dataset that are fetched ahead.

    Returns
    -------
    Iterator of model.batch.PackedBatch
        Tensors on the CPU: `tokens`, `labels` (-100 where there is no target) and `position_ids`, int64
        [batch_tokens / row_tokens, row_tokens], and `segments`, int32 [samples, 4]: row, begin, prefix length and
        number of positions of each sample. The last token of a sample is the label of its last position, and no input.

    Raises
    ------
    ValueError
        `batch_tokens` is not a positive multiple of `row_tokens`, or the dataset was built for fewer epochs.
    trainer.data.fetch.DatasetError
        The dataset cannot be read.
    trainer.data.draw.PlanError
        A sample does not fit into a row.

    Examples
    --------
    >>> import trainer
    >>> for batch in trainer.batches("out/mix", batch_tokens=128, row_tokens=32):
    ...     targets = int((batch.labels != -100).sum())
    >>> batch.tokens.shape
    torch.Size([4, 32])
    """
    if row_tokens <= 0 or batch_tokens <= 0 or batch_tokens % row_tokens:
        raise ValueError(
            f"batch_tokens is {batch_tokens} and row_tokens is {row_tokens}; expected a positive multiple of row_tokens"
        )
    dataset = open_dataset(str(path), Path(cache))
    if dataset.epochs is not None and (epochs is None or epochs > dataset.epochs):
        raise ValueError(
            f"epochs is {epochs}, but the dataset was built for {dataset.epochs}: ask for as many or fewer, or build "
            "it with a larger `epochs` (or epochs=null) in the mix"
        )
    inputs = PlanInputs(
        fingerprint=dataset.fingerprint,
        seed=seed,
        batch_tokens=batch_tokens,
        row_tokens=row_tokens,
        truncate=truncate,
    )
    lengths = fit_lengths(dataset.lengths, row_tokens=row_tokens, truncate=truncate)
    plan = Plan(inputs, dataset.strata, lengths)
    store = ShardStore(dataset)

    def iterate() -> Iterator[PackedBatch]:
        with Loader(
            plan,
            store,
            lengths,
            epochs=epochs,
            epoch=0,
            chunk=0,
            next_batch=0,
            rank=0,
            world_size=1,
            prefetch_batches=prefetch_batches,
            prefetch_bytes=prefetch_bytes,
            device=torch.device("cpu"),
            objective=objective,
        ) as loader:
            for step in loader:
                yield step.batch

    return iterate()
