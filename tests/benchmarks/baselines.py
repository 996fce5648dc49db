"""`python -m tests.benchmarks.baselines`: HRM and its baselines at equal training cost on the embedded mix.

    manifests/mix.yaml ─ built once ─▶ dataset ─ trainer.train for each variant and seed ─▶ results.jsonl ─▶ tables

Every run has the cost of `--steps` steps of HRM (`model.flops`: projections, head and attention of all computed
positions, with the ramp of K), so cheaper models get more steps and more tokens. Warm-up and weight averaging span the
same share of each run; size, learning rate and all other settings are those of manifests/train.yaml and are tuned for
no model. Results are appended to FOLDER/results.jsonl as runs end; after a kill, the same command runs what is missing.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from rich.console import Console
from rich.table import Table

from corpus.config import load_manifest
from model.config import ModelConfig
from model.flops import same_cost_layers, training_flops
from trainer.config import TrainConfig
from trainer.schedule import gradient_depth

ROOT = Path(__file__).resolve().parents[2]
MANIFEST = ROOT / "manifests/train.yaml"
SHARE = 0.05
"""Share of the steps of a run for which the learning rate warms up and over which weights are averaged."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One of the compared models."""

    name: str
    architecture: str = "hrm"
    objective: str = "response"
    mask: str = "prefix_lm"
    deep: bool = False
    """Set the layers so that a step costs as much as one of HRM, instead of training for more steps."""


ARCHITECTURES = (
    Variant("hrm"),
    Variant("transformer", "transformer"),
    Variant("transformer_deep", "transformer", deep=True),
    Variant("looped", "looped"),
    Variant("rins", "rins"),
    Variant("trm_h2l1", "trm_h2l1"),
    Variant("trm_h2l3", "trm_h2l3"),
)
OBJECTIVES = (
    Variant("hrm"),
    Variant("hrm-response-causal", mask="causal"),
    Variant("hrm-all-causal", objective="all", mask="causal"),
    Variant("transformer", "transformer"),
    Variant("transformer-response-causal", "transformer", mask="causal"),
    Variant("transformer-all-causal", "transformer", objective="all", mask="causal"),
)
VARIANTS = {variant.name: variant for variant in (*ARCHITECTURES, *OBJECTIVES)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the missing runs and print the tables; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.baselines",
        description="Train HRM and its baselines at equal cost on the embedded mix; print loss and exact match.",
        epilog="example:\n  python -m tests.benchmarks.baselines --steps 600 --seeds 3 --jobs 2",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--folder", type=Path, default=Path("out/baselines"), help="data and results (out/baselines)")
    parser.add_argument("--steps", type=int, default=600, help="steps of HRM, whose cost all models get (default 600)")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each variant (default 3)")
    parser.add_argument("--only", nargs="+", default=list(VARIANTS), choices=list(VARIANTS), help="variants to run")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, each on one thread (default 1)")
    options = parser.parse_args(arguments)
    if min(options.steps, options.seeds, options.jobs) < 1:
        parser.error("--steps, --seeds and --jobs must be at least 1")
    folder: Path = options.folder.resolve()
    data = folder / "mix"
    if not (data / "dataset.json").exists():
        command = [sys.executable, "-m", "pipeline.build", str(ROOT / "manifests/mix.yaml"), "--out", str(data)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    results = folder / "results.jsonl"
    done = {(line["variant"], line["seed"]) for line in _results(results, options.steps)}
    todo = [
        (VARIANTS[name], seed)
        for seed in range(options.seeds)
        for name in dict.fromkeys(options.only)
        if (name, seed) not in done
    ]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.jobs, mp_context=context) as pool, results.open("a") as file:
        runs = [pool.submit(train, variant, seed, options.steps, folder) for variant, seed in todo]
        for run in as_completed(runs):
            line = run.result()
            file.write(json.dumps(line) + "\n")
            file.flush()
            print(
                f"{line['variant']} seed {line['seed']}: loss {line['loss']:.4f}  exact match "
                f"{line['macro_exact_match']:.4f}  {line['steps']} steps in {line['seconds']:.0f} s",
                flush=True,
            )
    show(_results(results, options.steps), options.steps)
    return 0


def train(variant: Variant, seed: int, hrm_steps: int, folder: Path) -> dict[str, Any]:
    """Train a variant at the cost of `hrm_steps` steps of HRM; returns its results."""
    from trainer.train import main as trainer_main  # heavy, and needed in the processes that train only

    data = folder / "mix"
    about = json.loads((data / "dataset.json").read_text())
    vocab_size = about["tokenizer"]["vocab_size"]
    targets = {"response": about["response_tokens"] / about["tokens"], "all": 1.0}
    hrm = load_manifest(MANIFEST, TrainConfig, [f"data={data}"])
    config = _configured(hrm, variant, vocab_size)
    budget = run_flops(hrm, hrm.model_config_for(vocab_size), hrm_steps, targets["response"])
    model = config.model_config_for(vocab_size)
    cost = run_flops(config, model, hrm_steps, targets[variant.objective])
    steps = round(hrm_steps * budget / cost)
    out = folder / f"{variant.name}-{seed}-{hrm_steps}"
    overrides = [f"model.{key}={value}" for key, value in config.model.items()]
    overrides += [f"data={data}", f"out={out}", f"objective={variant.objective}", f"seed={seed}", f"steps={steps}"]
    overrides += [f"schedule.warmup_steps={round(SHARE * steps)}", f"optimizer.ema={max(0.0, 1 - 1 / (SHARE * steps))}"]
    overrides += ["checkpoint.every=200", "checkpoint.keep=1", f"eval.every={steps}", "threads=1", "device=cpu"]
    began = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    with (out / "log.txt").open("a") as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        code = trainer_main([str(MANIFEST), *overrides])
    if code:
        raise RuntimeError(f"{variant.name}, seed {seed}: training ended with code {code}; see {out}/log.txt")
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    final = [line for line in lines if line["kind"] == "eval"][-1]
    families = {key.partition("/")[2]: value for key, value in final.items() if key.startswith("exact_match/")}
    shutil.rmtree(out)
    return {
        "variant": variant.name,
        "seed": seed,
        "hrm_steps": hrm_steps,
        "steps": steps,
        "flops": run_flops(config, model, steps, targets[variant.objective]),
        "tokens": sum(line["tokens"] for line in lines if line["kind"] == "step"),
        "core_parameters": model.core_parameters,
        "layers": model.num_layers,
        "loss": final["loss"],
        "macro_exact_match": mean(families.values()),
        "families": families,
        "seconds": time.perf_counter() - began,
    }


def _configured(hrm: TrainConfig, variant: Variant, vocab_size: int) -> TrainConfig:
    model = {**hrm.model, "architecture": variant.architecture, "mask": variant.mask}
    config = hrm.model_copy(update={"model": model, "objective": variant.objective})
    if variant.deep:
        reference, shallow = hrm.model_config_for(vocab_size), config.model_config_for(vocab_size)
        deep = same_cost_layers(shallow, reference, k=shallow.depths[1], reference_k=reference.depths[1])
        config = config.model_copy(update={"model": {**model, "num_layers": deep.num_layers}})
    return config


def run_flops(config: TrainConfig, model: ModelConfig, steps: int, target_share: float) -> float:
    """Operations of a run, counted for all positions of its rows including padding, with a dense mask.

    Parameters
    ----------
    config, model
        Configuration of the run and its model.
    steps
        Number of steps, over which K ramps up.
    target_share
        Targets per position.
    """
    batch, depths, ramp = config.batch, config.depths(model), config.schedule.k_ramp
    total = 0.0
    for step in range(steps):
        total += training_flops(
            model,
            k=gradient_depth(step, steps, depths=depths, ramp=ramp),
            tokens=batch.tokens,
            targets=batch.tokens * target_share,
            pairs=batch.tokens * batch.row_tokens,
        ).total
    return total


def _results(path: Path, hrm_steps: int) -> list[dict[str, Any]]:
    """Read the results of that cost; an incomplete last line is removed from the file."""
    if not path.exists():
        return []
    whole = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
    new = path.with_suffix(".new")
    new.write_text("".join(whole))
    os.replace(new, path)
    return [result for result in map(json.loads, whole) if result["hrm_steps"] == hrm_steps]


def show(results: Sequence[dict[str, Any]], hrm_steps: int) -> None:
    """Print the tables: mean and standard deviation over seeds."""
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(f"equal training cost: that of {hrm_steps:,} steps of hrm; mean ± standard deviation over seeds")
    for title, variants in (("architectures", ARCHITECTURES), ("objective × mask", OBJECTIVES)):
        table = Table(title=title, title_justify="left")
        for column in ("variant", "objective", "mask"):
            table.add_column(column)
        for column in ("layers", "core params", "TFLOPs", "steps", "tokens", "seeds", "held-out loss", "exact match"):
            table.add_column(column, justify="right")
        for variant in variants:
            lines = [line for line in results if line["variant"] == variant.name]
            if not lines:
                continue
            first = lines[0]
            table.add_row(
                variant.name.partition("-")[0],
                variant.objective,
                variant.mask,
                str(first["layers"]),
                f"{first['core_parameters']:,}",
                f"{first['flops'] / 1e12:,.2f}",
                f"{first['steps']:,}",
                f"{mean(line['tokens'] for line in lines):,.0f}",
                str(len(lines)),
                _spread([line["loss"] for line in lines], 4),
                _spread([100 * line["macro_exact_match"] for line in lines], 1) + " %",
            )
        if table.row_count:
            console.print(table)
    console.print("exact match: share of held-out questions answered exactly, mean over the task families")


def _spread(values: Sequence[float], digits: int) -> str:
    around = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{around}"


if __name__ == "__main__":
    sys.exit(main())
