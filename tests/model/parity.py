"""Compares our model with transformers'; runs in an environment that has transformers 5.9 or later.

    python -m tests.model.parity FOLDER

FOLDER holds folders `exported`, `asked` and `spelled` that `model.export` wrote, `questions.json`, `chats.json` and
`spelled.json`. Prints the measurements as one JSON object; test_parity.py asserts their bounds.
"""

import io
import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import transformers
from torch import Tensor
from transformers.utils.chat_template_utils import Chat

from model import hf
from model.batch import IGNORE, PackedBatch
from model.config import ModelConfig
from model.generate import generate
from model.hrm import HRM

SHAPES = {
    "even": {"num_layers": 4, "hidden_size": 64, "num_heads": 4, "head_dim": 16, "intermediate_size": 128},
    "odd": {"num_layers": 2, "hidden_size": 45, "num_heads": 3, "head_dim": 14, "intermediate_size": 77},
    "deep": {"num_layers": 10, "hidden_size": 96, "num_heads": 2, "head_dim": 32, "intermediate_size": 256},
}
VOCABULARY = 211
LENGTH = 33
NEW_TOKENS = 64
ASKED_TOKENS = 5
FEWER = 25
"""Chats that the ways of asking one at a time are tried on."""


class Collector(logging.Handler):
    """Collects the messages of a logger."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextmanager
def collected_warnings() -> Iterator[list[str]]:
    """Collect the warnings of Python and of transformers' logger."""
    collector = Collector()
    logger = logging.getLogger("transformers")
    logger.addHandler(collector)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield collector.messages
    collector.messages += [str(warning.message) for warning in caught]
    logger.removeHandler(collector)


def load_theirs(folder: Path) -> tuple[Any, list[str]]:
    """Model of transformers, and all warnings of loading it."""
    with collected_warnings() as messages:
        model, report = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    return model.eval(), messages + [f"{kind}: {found}" for kind, found in report.items() if found]


def tokens_and_prefixes() -> tuple[Tensor, Tensor]:
    """A row for each prefix length from 1 to `LENGTH`."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, VOCABULARY, (LENGTH, LENGTH), generator=generator)
    return tokens, torch.arange(1, LENGTH + 1)


def their_logits(theirs: Any, tokens: Tensor, prefix: Tensor) -> Tensor:
    marks = (torch.arange(LENGTH) < prefix[:, None]).long()
    return theirs(input_ids=tokens, token_type_ids=marks, use_cache=False).logits


@torch.no_grad()
def logit_difference(ours: HRM, theirs: Any) -> float:
    tokens, prefix = tokens_and_prefixes()
    return (ours.logits(tokens, prefix) - their_logits(theirs, tokens, prefix)).abs().max().item()


@torch.no_grad()
def continuations_differ(ours: HRM, theirs: Any) -> int:
    """Number of greedy answers that differ, for prompts of several lengths."""
    tokens, _ = tokens_and_prefixes()
    prompts = [tokens[row, : 1 + row].tolist() for row in (0, 1, 6, 17, LENGTH - 1)]
    our_answers = generate(ours, prompts, max_new_tokens=NEW_TOKENS, end_id=VOCABULARY)
    differing = 0
    for prompt, answer in zip(prompts, our_answers, strict=True):
        ids = torch.tensor([prompt])
        out = theirs.generate(
            ids,
            token_type_ids=torch.ones_like(ids),
            attention_mask=torch.ones_like(ids),
            max_new_tokens=NEW_TOKENS,
            do_sample=False,
        )
        differing += out[0, len(prompt) :].tolist() != answer
    return differing


def gradient_difference(ours: HRM, theirs: Any) -> float:
    """Largest |g - g'| / |g'| over the weight tensors, for the loss of the responses at K = 5."""
    tokens, prefix = tokens_and_prefixes()
    tokens, prefix = tokens[:-1], prefix[:-1]  # the last row has no response
    labels = tokens.roll(-1, 1).masked_fill(torch.arange(LENGTH) < prefix[:, None] - 1, IGNORE)
    labels[:, -1] = IGNORE
    rows = torch.arange(len(tokens))
    segments = torch.stack((rows, 0 * rows, prefix, 0 * rows + LENGTH), 1).int()
    positions = torch.arange(LENGTH).expand(len(tokens), -1)
    batch = PackedBatch(tokens=tokens, labels=labels, position_ids=positions, segments=segments)
    ours.zero_grad()
    ours.train()
    ours(batch, k=5)[0].backward()
    theirs.zero_grad()
    theirs.train()
    logits = their_logits(theirs, tokens, prefix)
    F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORE, reduction="sum").backward()
    found = dict(theirs.named_parameters())
    worst = 0.0
    for name, p in ours.named_parameters():
        expected = torch.cat([found[part].grad for part in their_parts(name)])
        worst = max(worst, ((p.grad - expected).norm() / expected.norm()).item())
    ours.eval()
    theirs.eval()
    return worst


def their_parts(name: str) -> list[str]:
    """Names of the parameters into which transformers splits one of our parameters."""
    if name.startswith("lm_head."):
        return [name]
    if "gqkv" in name:
        stem = f"model.{name}".removesuffix("attn.gqkv_proj.weight")
        return [f"{stem}self_attn.{part}_proj.weight" for part in ("gate", "q", "k", "v")]
    if "gate_up" in name:
        stem = f"model.{name}".removesuffix("gate_up_proj.weight")
        return [f"{stem}{part}_proj.weight" for part in ("gate", "up")]
    return [f"model.{name}".replace(".attn.", ".self_attn.")]


def compare(ours: HRM, theirs: Any) -> dict[str, float]:
    return {
        "logits": logit_difference(ours, theirs),
        "continuations": continuations_differ(ours, theirs),
        "gradients": gradient_difference(ours, theirs),
    }


def from_ours(shape: dict[str, int], folder: Path) -> dict[str, Any]:
    ours = HRM(ModelConfig(vocab_size=VOCABULARY, **shape), seed=1).eval()
    folder.mkdir()
    hf.save(ours, folder, max_positions=LENGTH + NEW_TOKENS)
    theirs, warnings_ = load_theirs(folder)
    return {**compare(ours, theirs), "warnings": warnings_}


def from_theirs(shape: dict[str, int], folder: Path, **written: Any) -> dict[str, Any]:
    torch.manual_seed(2)
    config = transformers.AutoConfig.for_model(
        "hrm_text",
        vocab_size=VOCABULARY,
        num_hidden_layers=shape["num_layers"] // 2,
        hidden_size=shape["hidden_size"],
        num_attention_heads=shape["num_heads"],
        head_dim=shape["head_dim"],
        intermediate_size=shape["intermediate_size"],
        L_bp_cycles=[0, 3],
        initializer_range=shape["hidden_size"] ** -0.5,
        embedding_scale=shape["hidden_size"] ** 0.5,
    )
    theirs = transformers.AutoModelForCausalLM.from_config(config).eval()
    theirs.save_pretrained(folder, **written)
    return {**compare(hf.load(folder), theirs), "warnings": []}


def answers(folder: Path) -> dict[str, Any]:
    """Answers of the exported model to the questions, through the API of transformers."""
    questions = json.loads((folder / "questions.json").read_text())
    model, loading = load_theirs(folder / "exported")
    with collected_warnings() as prompting:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "exported")
        prompts, answers = [], []
        for question in questions:
            inputs = tokenizer.apply_chat_template(
                [{"role": "user", "content": question["instruction"]}],
                condition=question["condition"],
                return_dict=True,
                return_tensors="pt",
            )
            out = model.generate(**inputs, max_new_tokens=8)
            prompts.append(inputs["input_ids"][0].tolist())
            answers.append(out[0, len(prompts[-1]) :].tolist())
    return {"warnings": loading + prompting, "prompts": prompts, "answers": answers}


def printed_by_the_card(folder: Path) -> str:
    """What the model card's first example prints."""
    card = (folder / "exported" / "README.md").read_text()
    example = card.split("```python\n")[1].split("```")[0]
    os.chdir(folder)
    with redirect_stdout(io.StringIO()) as printed:
        exec(example, {})
    return printed.getvalue()


def ways_of_asking(folder: Path) -> dict[str, Any]:
    """Greedy answers of one model to all chats, by each way of asking it; and what the ways warn of.

    `unmarked` lacks the prefix's marks: the class of transformers without `token_type_ids`.
    """
    chats = json.loads((folder / "chats.json").read_text())
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "asked")
    ours = transformers.AutoModelForCausalLM.from_pretrained(folder / "asked", trust_remote_code=True).eval()
    plain, _ = load_theirs(folder / "asked")
    pipe = transformers.pipeline("text-generation", str(folder / "asked"), trust_remote_code=True)
    inputs = [
        tokenizer.apply_chat_template(
            chat["messages"], condition=chat["condition"], return_dict=True, return_tensors="pt"
        )
        for chat in chats
    ]

    def generated(model: Any, encoded: Any, **options: Any) -> list[list[int]]:
        out = model.generate(**encoded, max_new_tokens=ASKED_TOKENS, min_new_tokens=ASKED_TOKENS, **options)
        return out[:, encoded["input_ids"].shape[1] :].tolist()

    def alone(model: Any, keys: tuple[str, ...], **options: Any) -> list[list[int]]:
        kept = ({key: value for key, value in encoded.items() if key in keys} for encoded in inputs[:FEWER])
        return [answer for encoded in kept for answer in generated(model, encoded, **options)]

    def batched(size: int) -> list[list[int]]:
        answers = []
        for begin in range(0, len(inputs), size):
            rows = [{"input_ids": encoded["input_ids"][0].tolist()} for encoded in inputs[begin : begin + size]]
            padded = tokenizer.pad(rows, return_tensors="pt")
            answers += generated(ours, {key: padded[key] for key in ("input_ids", "attention_mask")})
        return answers

    def piped(pipe: Any) -> list[list[int]]:
        answers = []
        for chat in chats[:FEWER]:
            (found,) = pipe(
                chat["messages"],
                max_new_tokens=ASKED_TOKENS,
                min_new_tokens=ASKED_TOKENS,
                tokenizer_encode_kwargs={"condition": chat["condition"]},
                return_tensors=True,
            )
            answers.append(found["generated_token_ids"][-ASKED_TOKENS:])
        return answers

    unseen = ("input_ids", "attention_mask")
    with collected_warnings() as messages:
        ways = {
            "all inputs": alone(plain, (*unseen, "token_type_ids")),
            "remote code, no marks": alone(ours, unseen),
            "remote code, all inputs": alone(ours, (*unseen, "token_type_ids")),
            "remote code, padded batches": batched(16),
            "remote code, static cache": alone(ours, unseen, cache_implementation="static", disable_compile=True),
            "remote code, no cache": alone(ours, unseen, use_cache=False),
            "pipeline with remote code": piped(pipe),
            "is_causal=False": alone(plain, unseen, is_causal=False),
        }
    return {
        "prompts": [encoded["input_ids"][0].tolist() for encoded in inputs],
        "ways": ways,
        "warnings": messages,
        "unmarked": alone(plain, unseen),
        "untrusted pipeline": _refusal(folder / "asked"),
        "loss": _losses(ours, inputs[:FEWER]),
    }


def spelled(folder: Path) -> dict[str, Any]:
    """Token ids of prompts of texts that spell tags, by each way of writing them, for each class of the tokenizer."""
    texts = json.loads((folder / "spelled.json").read_text())
    chats = [[{"role": "user", "content": text}] for text in texts]
    place = folder / "spelled"
    pipe = transformers.pipeline("text-generation", str(place), trust_remote_code=True)
    found: dict[str, Any] = {
        "pipeline, chat": [pipe.preprocess(Chat(chat))["input_ids"][0].tolist() for chat in chats],
        "pipeline, text": [pipe.preprocess(text)["input_ids"][0].tolist() for text in texts],
    }
    plain = transformers.AutoTokenizer.from_pretrained(place)
    trusted = transformers.AutoTokenizer.from_pretrained(place, trust_remote_code=True)
    for name, tokenizer in (("plain", plain), ("trusted", trusted)):
        rendered = tokenizer.apply_chat_template(chats, tokenize=False)
        found |= {
            f"{name}, chat": [tokenizer.apply_chat_template(chat)["input_ids"] for chat in chats],
            f"{name}, chats": tokenizer.apply_chat_template(chats)["input_ids"],
            f"{name}, rendered": tokenizer(rendered, add_special_tokens=False)["input_ids"],
            f"{name}, text": [tokenizer(text)["input_ids"] for text in texts],
            f"{name}, split": [tokenizer(text, split_special_tokens=True)["input_ids"] for text in texts],
        }
    trusted.save_pretrained(folder / "saved")
    saved = transformers.AutoTokenizer.from_pretrained(folder / "saved", trust_remote_code=True)
    found |= {
        "trusted, texts": trusted(texts)["input_ids"],
        "trusted, pairs": trusted(texts, texts)["input_ids"],
        "trusted, encode": [trusted.encode(text) for text in texts],
        "saved, chats": saved.apply_chat_template(chats)["input_ids"],
        "saved, text": [saved(text)["input_ids"] for text in texts],
    }
    return found


def _refusal(folder: Path) -> str:
    """Message of the pipeline of a folder whose code is not trusted; empty if there is none."""
    try:
        transformers.pipeline("text-generation", str(folder))
    except ValueError as error:
        return str(error)
    return ""


@torch.no_grad()
def _losses(ours: Any, inputs: list[Any]) -> list[float]:
    """Loss of five tokens after each prompt, in one pass without a cache, as lm-eval scores options."""
    losses = []
    for encoded in inputs:
        prompt = encoded["input_ids"]
        rest = torch.arange(20, 25)[None]
        labels = torch.cat((torch.full_like(prompt, IGNORE), rest), 1)
        losses.append(ours(input_ids=torch.cat((prompt, rest), 1), labels=labels).loss.item())
    return losses


def main() -> None:
    """Entry point."""
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    found: dict[str, Any] = {
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "ours to theirs": {name: from_ours(shape, folder / f"ours-{name}") for name, shape in SHAPES.items()},
        "theirs to ours": {
            "even": from_theirs(SHAPES["even"], folder / "theirs-even"),
            "odd": from_theirs(SHAPES["odd"], folder / "theirs-odd"),
            "deep": from_theirs(SHAPES["deep"], folder / "theirs-deep", max_shard_size="200KB"),
        },
        "exported": answers(folder),
        "asked": ways_of_asking(folder),
        "spelled": spelled(folder),
        "card": printed_by_the_card(folder),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
