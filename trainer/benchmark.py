"""`python -m trainer.benchmark MODEL --tasks gsm8k,mmlu --data DIR --out DIR`: score a trained model on benchmarks."""

import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from corpus import cli

if TYPE_CHECKING:
    from trainer.benchmarks.results import Results

EXAMPLE = """
example:
  python -m trainer.benchmark out/train --tasks gsm8k,mmlu --data eval_sets --out out/benchmark
  python -m trainer.benchmark out/hf --task-file my_task.yaml
  python -m trainer.benchmark out/hf --tasks gsm8k --file gsm8k.test=hf://datasets/openai/gsm8k/main/test-*.parquet
  torchrun --nproc-per-node 8 -m trainer.benchmark out/hf --tasks gsm8k --data eval_sets

\b
tasks:
  as in HRM-Text's published evaluation: gsm8k, math, drop, mmlu, arc_c, hellaswag, winogrande, boolq
  others: mmlu_pro, aime, aqua, svamp, mawps, bbh, humaneval, mbpp, and entry points of the group millrace.tasks

\b
a run that was interrupted continues when it is started again"""


@cli.command("python -m trainer.benchmark", epilog=EXAMPLE, interrupted="interrupted; start again to continue")
def main(
    checkpoint: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="a checkpoint, a run's folder (its newest checkpoint), their URL, or a Hugging Face folder",
            show_default=False,
        ),
    ],
    tasks: Annotated[str, typer.Option(metavar="A,B", help="names of tasks", show_default=False)] = "",
    task_file: Annotated[
        list[Path] | None,
        typer.Option(help="a task from a YAML file, or a Python file that defines TASK; may be repeated"),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="folder or URL (s3://…, hf://…) in which the tasks find their files"),
    ] = None,
    file: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TASK.SPLIT=PATH", help="file, folder or glob of a task's split (test, dev, shots, …), or its URL"
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="folder or URL of the dataset of the training: reports what its build found of the tasks' questions",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="folder of the results")] = Path("out/benchmark"),
    shots: Annotated[
        list[str] | None,
        typer.Option(metavar="TASK=N", help="number of solved examples in a prompt, instead of the task's own"),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="ask only the first N questions of each task")
    ] = None,
    execute: Annotated[
        bool, typer.Option("--execute", help="allow tasks to execute the model's programs, in a subprocess with limits")
    ] = False,
    batch: Annotated[int, typer.Option(min=1, metavar="N", help="prompts that are decoded at once")] = 32,
    precision: Annotated[
        Literal["auto", "bf16", "fp32"], typer.Option(help="auto: bf16 on a GPU that computes in it, fp32 elsewhere")
    ] = "auto",
    weights: Annotated[
        Literal["averaged", "last"],
        typer.Option(help="the exponential moving average, or the weights of the last step"),
    ] = "averaged",
    seed: Annotated[int, typer.Option(min=0, help="of examples that are drawn, and of the confidence intervals")] = 0,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="where to compute")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="print the content of results.json")] = False,
) -> int:
    """Score a trained model on benchmarks.

    Writes results.json, questions.parquet and index.html.
    """
    names = [name.strip() for name in tasks.split(",") if name.strip()]
    if not names and not task_file:
        raise typer.BadParameter("no task: name some by --tasks or --task-file")
    from trainer.benchmarks.catalog import check_runnable, find_all

    found = find_all(names, task_file or [])
    known = {entry.task.name for entry in found}
    named = _named_files(file or [], known)
    shot_counts = _shot_counts(shots or [], known)
    for entry in found:
        check_runnable(entry.task, execute=execute)

    import torch

    from model.loading import CheckpointError
    from trainer.benchmarks.answerer import ModelAnswerer
    from trainer.benchmarks.contamination import read_findings
    from trainer.benchmarks.files import TaskDataError
    from trainer.benchmarks.identity import model_identity
    from trainer.benchmarks.results import results_of, write_results
    from trainer.benchmarks.run import UNIT_ROWS, prepare, run_task
    from trainer.checkpointing.load import load_model
    from trainer.devices import has_bf16
    from trainer.distributed.world import World
    from trainer.progress import Progress

    if device == "cuda" and not torch.cuda.is_available():
        raise typer.BadParameter("--device is cuda, but torch finds no CUDA device here")
    try:
        prepared = [
            prepare(
                entry,
                folder=data,
                named=named.get(entry.task.name),
                shots=shot_counts.get(entry.task.name),
                limit=limit,
                seed=seed,
            )
            for entry in found
        ]
        findings = None if dataset is None else read_findings(dataset)
        world = World.join(device)
        try:
            if world.is_main:
                cli.say(f"loading {checkpoint}", sys.stderr)
            model, tokenizer, special = load_model(checkpoint, ema=weights == "averaged")
            chosen = precision if precision != "auto" else ("bf16" if has_bf16(world.device) else "fp32")
            identity = model_identity(model, tokenizer, special, precision=chosen, device=world.device, batch=batch)
            model = model.to(world.device, torch.bfloat16 if chosen == "bf16" else torch.float32)
            answerer = ModelAnswerer(model, tokenizer, special, rows=batch, captured=world.device.type == "cuda")
            runs = [
                run_task(
                    task,
                    answerer,
                    model=identity,
                    folder=out / "journal",
                    unit=UNIT_ROWS * batch,
                    world=world,
                    report=Progress(task.task.name, len(task.questions), "questions") if world.is_main else None,
                )
                for task in prepared
            ]
            if world.is_main:
                results = results_of(
                    runs,
                    model={"location": cli.redact(checkpoint), "weights": weights, **identity},
                    seed=seed,
                    findings=findings,
                    deviations=[
                        *(["precision fp32 instead of bf16"] if chosen == "fp32" else []),
                        *(["weights of the last step instead of averaged ones"] if weights == "last" else []),
                    ],
                    versions={"millrace": version("millrace"), "torch": torch.__version__}
                    | {task.task.requires: version(task.task.requires) for task in prepared if task.task.requires},
                )
                paths = write_results(results, out)
                if as_json:
                    print(paths[0].read_text(encoding="utf-8"))
                else:
                    _print(results)
                    cli.say("\n".join(map(str, paths)))
            world.barrier()
        finally:
            world.leave()
    except torch.OutOfMemoryError as error:
        return cli.fail(f"no memory is left on the device: set a smaller --batch ({str(error).splitlines()[0]})")
    except (CheckpointError, TaskDataError, OSError) as error:
        return cli.fail(error)
    return 0


def _named_files(options: list[str], known: set[str]) -> dict[str, dict[str, str]]:
    """Parse TASK.SPLIT=PATH; TASK=PATH is the split `test`."""
    named: dict[str, dict[str, str]] = {}
    for option in options:
        name, equals, path = option.partition("=")
        task, _, split = name.partition(".")
        if not equals or task not in known:
            raise typer.BadParameter(f"--file is {option!r}; expected TASK.SPLIT=PATH with a task of this run")
        named.setdefault(task, {})[split or "test"] = path
    return named


def _shot_counts(options: list[str], known: set[str]) -> dict[str, int]:
    """Parse TASK=N."""
    counts = {}
    for option in options:
        task, _, count = option.partition("=")
        if task not in known or not count.isdecimal():
            raise typer.BadParameter(f"--shots is {option!r}; expected TASK=N with a task of this run")
        counts[task] = int(count)
    return counts


def _print(results: "Results") -> None:
    from rich.table import Table

    from corpus import terminal

    columns = ("task", "metric", "score", "95 % interval", "questions", "invalid")
    table = Table(*columns, "in training data", "differs from the protocol in")
    for name, score in results.scores.items():
        table.add_row(
            name,
            score.metric,
            f"{score.score:.1%}",
            f"{score.low:.1%} – {score.high:.1%}",
            f"{score.n:,}",
            f"{score.invalid / score.n:.1%}",
            results.contamination_of(name),
            "; ".join(results.deviations[name]),
        )
    terminal.console(140).print(table)


if __name__ == "__main__":
    sys.exit(main())
