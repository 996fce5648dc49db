"""Claims about the memory of a rank by arithmetic, and about the manifests of the published runs."""

from pathlib import Path

import pytest

from corpus.config import load_manifest
from trainer.config import TrainConfig
from trainer.memory import MemoryPlan, memory_of

MANIFESTS = Path(__file__).parents[2] / "manifests"
VOCABULARY = 65_536
CARD = 80e9


def plan_of(name: str, ranks: int, *overrides: str) -> MemoryPlan:
    config = load_manifest(MANIFESTS / name, TrainConfig, list(overrides))
    assert config.batch.tokens // config.batch.row_tokens % ranks == 0, "the ranks cannot share the rows of a batch"
    return memory_of(config, config.model_config_for(VOCABULARY), ranks=ranks, targets=1.0, on_gpu=True)


@pytest.mark.parametrize(
    ("name", "ranks", "overrides"),
    [
        ("train_l.yaml", 1, []),
        ("train_l.yaml", 8, []),
        ("train_l.yaml", 16, ["batch.row_tokens=10752"]),
        ("train_xl.yaml", 1, []),
        ("train_xl.yaml", 8, []),
        ("train_xl.yaml", 16, []),
    ],
)
def test_published_runs_fit_into_80_gigabytes_by_arithmetic(name: str, ranks: int, overrides: list[str]) -> None:
    plan = plan_of(name, ranks, *overrides)
    assert plan.largest_micro_rows(CARD) >= plan.micro_rows == 1
    assert sum(plan.groups().values()) == pytest.approx(plan.peak())


def test_published_batches_do_not_fit_if_all_activations_are_kept() -> None:
    assert plan_of("train_l.yaml", 8, "recompute=none").largest_micro_rows(CARD) == 0
    assert plan_of("train_xl.yaml", 16, "recompute=none").largest_micro_rows(CARD) == 0


def test_sharding_and_moments_in_bf16_reduce_the_state() -> None:
    def state(*overrides: str) -> float:
        return sum(plan_of("train_xl.yaml", 8, *overrides).state.values())

    parameters = 4 * 5 * 1_183_000_000
    assert state() == pytest.approx(parameters, rel=0.01)
    assert state("optimizer.moments=bf16") == pytest.approx(parameters * 4 / 5, rel=0.01)
    assert state("distribution=fsdp2") == pytest.approx(parameters / 8 + parameters / 10, rel=0.01)
