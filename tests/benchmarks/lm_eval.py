"""`python -m tests.benchmarks.lm_eval RUN DATASET --python PYTHON`: lm-eval's scores of an exported model against ours.

    python -m venv hf && hf/bin/pip install torch==2.13.0 'transformers>=5.9' 'lm-eval[hf]'
    python -m tests.benchmarks.lm_eval out/train out/mix --python hf/bin/python

Held-out families of the dataset become tasks of lm-eval: answers are generated and compared, or the family's few
answers are options whose likelihoods are compared. lm-eval scores the folder that `model.export` writes, zero-shot and
with two examples: by its model `hf` with the folder's code and without, and by the model `millrace` of `model.lm_eval`,
with the chat template and without. `pipeline()` of transformers answers the same instructions. Ours are the answers to
the same prompts by `model.generate`, and the likelihoods by `HRM.logits`.
"""

import argparse
import json
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from corpus.contract import CONDITION_TAGS, END_OF_PREFIX, END_OF_RESPONSE, START, prefix_ids
from model.export import main as export
from model.generate import generate
from model.loading import LoadedModel, load
from trainer.data.text import plain_tokenizer

GENERATED = ("reversal-heldout", "units-heldout", "date_formats-heldout")
CHOSEN = ("logic-heldout",)
CONDITION = "direct"
NEW_TOKENS = 16
"""Together with a prompt at most the model's context, or lm-eval cuts the prompt's beginning off."""


PIPELINE = """
import json, sys, transformers
ask = transformers.pipeline("text-generation", sys.argv[1], trust_remote_code=True, device="cpu", dtype="float32")
chats = [[{"role": "user", "content": text}] for text in json.load(sys.stdin)]
found = (ask(chat, max_new_tokens=int(sys.argv[2]), return_full_text=False) for chat in chats)
print(json.dumps([answers[0]["generated_text"] for answers in found]))
"""


def write_tasks(dataset: Path, folder: Path, *, rows: int) -> dict[str, list[str]]:
    """Write tasks and their rows; returns the options of each task, none of a generated one."""
    tasks = {}
    for name in (*GENERATED, *CHOSEN):
        lines = (dataset / f"eval/{name}.jsonl").read_text().splitlines()
        found = [row for row in map(json.loads, lines) if row["condition"] == [CONDITION]]
        options = sorted({row["response"] for row in found}) if name in CHOSEN else []
        task = name.replace("-", "_")
        data = folder / f"{task}.data.jsonl"
        data.write_text(
            "".join(json.dumps({key: row[key] for key in ("instruction", "response")}) + "\n" for row in found[:rows])
        )
        content: dict[str, Any] = {
            "task": task,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(data)}},
            "test_split": "test",
            "fewshot_config": {"sampler": "first_n"},
            "doc_to_text": "{{instruction}}",
            "doc_to_target": "{{response}}",
        }
        if options:
            content |= {"output_type": "multiple_choice", "doc_to_choice": options}
            content["metric_list"] = [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}]
        else:
            content |= {
                "output_type": "generate_until",
                "generation_kwargs": {"until": [END_OF_RESPONSE], "max_gen_toks": NEW_TOKENS, "do_sample": False},
                "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
            }
        (folder / f"{task}.yaml").write_text(json.dumps(content))
        tasks[task] = options
    return tasks


WAYS = {
    "lm-eval": ("lm_eval", "hf", ",trust_remote_code=True", True),
    "hf without the folder's code": ("lm_eval", "hf", "", True),
    "millrace": ("model.lm_eval", "millrace", "", True),
    "millrace, no template": ("model.lm_eval", "millrace", "", False),
}
"""Column to the command's module, lm-eval's model, its further arguments, and whether the chat template is applied."""


def run_lm_eval(python: Path, model: Path, tasks: Path, names: Sequence[str], *, shots: int, way: str) -> Any:
    """Run lm-eval; returns its results, and the logged samples by task."""
    module, kind, more, has_template = WAYS[way]
    out = tasks / f"out-{shots}-{way}".replace(" ", "-")
    settings = {
        "model": kind,
        "model_args": f"pretrained={model},dtype=float32{more}",
        "tasks": ",".join(names),
        "include_path": str(tasks),
        "num_fewshot": str(shots),
        "device": "cpu",
        "batch_size": "16",
        "output_path": str(out),
    }
    named = [word for key, value in settings.items() for word in (f"--{key}", value)]
    subprocess.run(
        [python, "-m", module, *named, "--log_samples", *(["--apply_chat_template"] if has_template else [])],
        env={
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_CACHE": str(tasks / "cache"),
            "OMP_NUM_THREADS": "1",
        },
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    (results,) = out.rglob("results_*.json")
    samples = {
        name: [json.loads(line) for line in next(out.rglob(f"samples_{name}_*.jsonl")).read_text().splitlines()]
        for name in names
    }
    return json.loads(results.read_text())["results"], samples


def piped_score(python: Path, model: Path, samples: Sequence[Mapping[str, Any]]) -> float:
    """Share of the answers of `pipeline()` to the instructions of logged samples that are right."""
    instructions = [instruction_of(sample["arguments"]["gen_args_0"]["arg_0"]) for sample in samples]
    done = subprocess.run(
        [python, "-c", PIPELINE, str(model), str(NEW_TOKENS)],
        input=json.dumps(instructions),
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        check=True,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    return sum(a == sample["doc"]["response"] for a, sample in zip(found, samples, strict=True)) / len(samples)


def instruction_of(prompt: str) -> str:
    """Instruction of a prompt that the chat template wrote."""
    tag = CONDITION_TAGS[CONDITION]
    instruction = prompt.removeprefix(START).removeprefix(tag).removesuffix(END_OF_PREFIX)
    assert prompt == f"{START}{tag}{instruction}{END_OF_PREFIX}", prompt
    return instruction


def prefix_of(loaded: LoadedModel, prompt: str) -> list[int]:
    """Ids of a prompt that the chat template wrote, by our own encoding of its instruction."""
    ids = plain_tokenizer(loaded.tokenizer).encode(instruction_of(prompt), add_special_tokens=False).ids
    return prefix_ids(loaded.special, [CONDITION], ids)


def compare(loaded: LoadedModel, samples: Sequence[Mapping[str, Any]], options: Sequence[str]) -> tuple[float, int]:
    """Share of our answers to the prompts of logged samples that are right, and number that differ from lm-eval's."""
    prompts = [prefix_of(loaded, sample["arguments"]["gen_args_0"]["arg_0"]) for sample in samples]
    right = [sample["doc"]["response"] for sample in samples]
    if options:
        answers = [options[best_option(loaded, prompt, options)] for prompt in prompts]
        likelihoods = [[float(response[0]) for response in sample["filtered_resps"]] for sample in samples]
        theirs = [options[found.index(max(found))] for found in likelihoods]
    else:
        end = loaded.special[END_OF_RESPONSE]
        ids = generate(loaded.model, prompts, max_new_tokens=NEW_TOKENS, end_id=end)
        answers = [loaded.tokenizer.decode(answer, skip_special_tokens=False) for answer in ids]
        theirs = [sample["resps"][0][0] for sample in samples]
    score = sum(answer == wanted for answer, wanted in zip(answers, right, strict=True)) / len(right)
    return score, sum(answer != other for answer, other in zip(answers, theirs, strict=True))


@torch.no_grad()
def best_option(loaded: LoadedModel, prompt: Sequence[int], options: Sequence[str]) -> int:
    """Index of the option with the largest log-likelihood, summed over its tokens."""
    plain = plain_tokenizer(loaded.tokenizer)
    totals = []
    for option in options:
        ids = plain.encode(option, add_special_tokens=False).ids
        logits = loaded.model.logits(torch.tensor([[*prompt, *ids]]), torch.tensor([len(prompt)]))[0]
        chosen = logits[len(prompt) - 1 : -1].log_softmax(-1).gather(1, torch.tensor(ids)[:, None])
        totals.append(chosen.sum().item())
    return totals.index(max(totals))


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--python", type=Path, required=True, help="of an environment with transformers and lm-eval")
    parser.add_argument("--rows", type=int, default=60, help="questions of each family")
    options = parser.parse_args()
    torch.set_num_threads(1)
    loaded = load(options.run)
    table = Table("shots", "family", "ours", *WAYS, "pipeline()", "answers of lm-eval that differ", box=None)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        assert export([str(options.run), str(folder / "hf"), "--condition", CONDITION]) == 0
        tasks = write_tasks(options.dataset, folder, rows=options.rows)
        for shots in (0, 2):
            found = {
                way: run_lm_eval(options.python, folder / "hf", folder, [*tasks], shots=shots, way=way) for way in WAYS
            }
            for name, choices in tasks.items():
                metric = "acc,none" if choices else "exact_match,none"
                ours, differing = compare(loaded, found["lm-eval"][1][name], choices)
                scores = [f"{score:.1%}" for score in (ours, *(found[way][0][name][metric] for way in WAYS))]
                logged = found["lm-eval"][1][name]
                piped = "-" if choices else f"{piped_score(options.python, folder / 'hf', logged):.1%}"
                table.add_row(str(shots), name, *scores, piped, str(differing))
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
