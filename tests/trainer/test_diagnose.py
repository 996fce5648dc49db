"""Diagnostics: the measurements, the page, and that they do not change training."""

import copy
import math
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from model.architectures import ARCHITECTURES, possible_depths
from model.batch import PackedBatch
from model.config import ModelConfig
from model.hrm import HRM
from tests.model import reference
from tests.model.packing import VOCABULARY, Sample, pack
from tests.page import Tags
from tests.trainer.fixtures import write_dataset, write_manifest
from tests.trainer.processes import lines, log_of, run, steps
from trainer.diagnose import main
from trainer.diagnostics.depth import effective_depth
from trainer.diagnostics.gradients import EPSILON, gradient_statistics
from trainer.diagnostics.page import page
from trainer.diagnostics.report import Report, diagnose

pytestmark = pytest.mark.slow  # trains models

CONFIG = ModelConfig(
    vocab_size=VOCABULARY, num_layers=2, hidden_size=24, num_heads=3, head_dim=10, intermediate_size=40
)
SAMPLE = Sample((5, 3, 60, 0, 7, 9, 11, 2), 3)
STATISTICS = ("norm", "mean", "median", "log_spread", "tail")


@pytest.fixture(scope="module")
def batch() -> PackedBatch:
    return pack([[SAMPLE], [SAMPLE, Sample((1, 2, 3), 1)]], 12)


def states_by_hand(model: HRM, sample: Sample) -> list[torch.Tensor]:
    """Return the states that HRM's applications write at the labelled positions of a sample, in float64."""
    weights = {name: tensor.double() for name, tensor in model.state_dict().items()}
    high = weights["embed_tokens.weight"][list(sample.tokens)] * model.config.hidden_size**0.5
    low = weights["z_L_init"].expand_as(high)
    written = []
    for _ in range(2):
        for _ in range(3):
            low = reference.stack(low + high, weights, "L_module", sample.prefix, model.config)
            written.append(low)
        high = reference.stack(high + low, weights, "H_module", sample.prefix, model.config)
        written.append(high)
    return [state[sample.prefix - 1 : -1] for state in written]


def test_depth_equals_that_of_the_float64_reference_model() -> None:
    model = HRM(CONFIG, seed=3)
    found = effective_depth(model, pack([[SAMPLE]], 12))
    states = states_by_hand(model, SAMPLE)
    final = (states[-1] @ model.lm_head.weight.detach().double().T).log_softmax(-1)
    assert [at.stack for at in found] == [f"{letter}_module" for letter in "LLLHLLLH"]
    replaced = [None, 0, 1, None, 2, 4, 5, 3]  # the application that wrote the state before
    for number, at in enumerate(found):
        lens = (states[number] @ model.lm_head.weight.detach().double().T).log_softmax(-1)
        kl = (final.exp() * (final - lens)).sum(-1).mean().item()
        assert at.lens_kl == pytest.approx(kl, abs=1e-5)
        for change, before in (
            (at.from_previous, number - 1 if number else None),
            (at.from_replaced, replaced[number]),
        ):
            assert (change is None) == (before is None)
            if change is not None and before is not None:
                difference = (states[number] - states[before]).norm(dim=-1) / CONFIG.hidden_size**0.5
                cosine = F.cosine_similarity(states[number], states[before], dim=-1)
                assert change.norm == pytest.approx(difference.mean().item(), rel=1e-4)
                assert change.cosine == pytest.approx(cosine.mean().item(), abs=1e-4)
    assert found[-1].lens_kl == pytest.approx(0, abs=1e-6)
    assert found[-1].lens_agreement == 1


def test_gradient_statistics_are_those_of_the_gradients_that_backward_computes(batch: PackedBatch) -> None:
    model = HRM(CONFIG, seed=3)

    def gradients(k: int) -> dict[str, torch.Tensor]:
        twin = copy.deepcopy(model)
        nll, count = twin(batch, k=k)
        (nll / count).backward()
        return {name: p.grad.double() for name, p in twin.named_parameters() if p.grad is not None}

    full = gradients(8)
    found = gradient_statistics(model, batch)
    assert [at.k for at in found] == list(range(2, 9))
    for at in found:
        truncated_gradients = gradients(at.k)
        core = torch.cat([g.flatten() for name, g in truncated_gradients.items() if "_module." in name])
        size = core.abs()
        assert at.norm == pytest.approx(core.norm().item(), rel=1e-4)
        assert at.mean == pytest.approx(size.mean().item(), rel=1e-4)
        assert at.median == pytest.approx(size.quantile(0.5).item(), rel=1e-2)
        assert at.log_spread == pytest.approx((size + EPSILON).log().std().item(), rel=1e-3)
        assert at.tail == pytest.approx((size.quantile(0.999) / size.quantile(0.5)).item(), rel=5e-2)
        for part, similarity in at.similarity.items():
            names = [name for name in full if name.partition(".")[0] == part]
            if similarity is None:
                assert not any(name in truncated_gradients for name in names)
                continue
            truncated, whole = (torch.cat([g[name].flatten() for name in names]) for g in (truncated_gradients, full))
            assert similarity.cosine == pytest.approx(F.cosine_similarity(truncated, whole, dim=0).item(), abs=1e-4)
            assert similarity.norm_ratio == pytest.approx((truncated.norm() / whole.norm()).item(), rel=1e-4)
    assert found[0].similarity["embed_tokens"] is None
    assert all(one is not None and one.cosine == pytest.approx(1) for one in found[-1].similarity.values())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_is_measured_at_each_of_its_depths_and_is_not_changed(
    architecture: str, batch: PackedBatch
) -> None:
    model = HRM(replace(CONFIG, architecture=architecture))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    report = diagnose(model, batch)
    assert len(report.depth) == model.config.applications
    assert [at.k for at in report.gradients] == list(possible_depths(model.config.schedule))
    assert all(math.isfinite(getattr(at, name)) for at in report.gradients for name in STATISTICS)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert tags_of(report)["table"] == 3


def tags_of(report: Report) -> Counter[str]:
    """Return the tags that a report's page opens; a page that loads something fails."""
    found = Tags(page(report, title="a <b> & c"))
    assert {"src", "srcset", "data"}.isdisjoint(set().union(*found.attributes.values()))
    assert found.tags["b"] == 0
    assert 6 <= found.tags["svg"] <= 8
    return found.tags


def test_equal_reports_give_equal_pages(batch: PackedBatch) -> None:
    report = diagnose(HRM(CONFIG), batch)
    assert page(report, title="t") == page(report, title="t")


def test_training_with_diagnostics_gives_the_losses_of_training_without(data: Path, tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, data, epochs=None, steps=7)
    assert run(manifest, f"out={tmp_path}/plain") == 0
    assert run(manifest, f"out={tmp_path}/diagnosed", "diagnose={every: 3, rows_per_family: 2}") == 0
    plain, diagnosed = ([line["loss"] for line in steps(tmp_path / name)] for name in ("plain", "diagnosed"))
    assert plain == diagnosed
    found = lines(tmp_path / "diagnosed", "diagnosis")
    assert [line["step"] for line in found] == [3, 6]
    assert found[0]["depth/8/lens_kl"] < 1e-6 < found[0]["depth/1/lens_kl"]
    assert {f"gradient/{k}/median" for k in range(2, 9)} <= found[0].keys()
    pages = sorted(path.name for path in (tmp_path / "diagnosed/diagnostics").iterdir())
    assert pages == ["step-00000003.html", "step-00000006.html"]


def test_command_prints_the_tables_and_writes_the_page(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = write_manifest(tmp_path, data, epochs=None, steps=2)
    assert run(manifest) == 0
    where = tmp_path / "pages/diagnostics.html"
    assert main([str(tmp_path / "run"), str(data), "--page", str(where)]) == 0
    printed = capsys.readouterr().out
    assert re.findall(r"^│ (\d) [LH] ", printed, re.MULTILINE) == list("12345678")
    assert where.read_text(encoding="utf-8").startswith("<!doctype html>")
    other = write_dataset(tmp_path / "other", samples=90)
    assert main([str(tmp_path / "run"), str(other), "--page", str(where)]) == 1
    assert "has another tokenizer (106 tokens)" in capsys.readouterr().err
    assert main([str(tmp_path / "nothing"), str(data), "--page", str(where)]) == 1
    assert "no valid checkpoint" in capsys.readouterr().err


def test_diagnostics_of_sharded_weights_are_refused_with_what_to_do_instead(data: Path, tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, data)
    assert run(manifest, "diagnose.every=3", "distribution=fsdp2") == 2
    assert "run python -m trainer.diagnose on a checkpoint" in log_of(manifest).read_text()
