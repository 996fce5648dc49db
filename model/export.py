"""Export a checkpoint as a folder that transformers loads.

    checkpoint ─ averaged weights ────────▶ config.json, model.safetensors       (model.hf)
               ─ tokenizer.json ──────────▶ tokenizer.json, tokenizer_config.json    (model.escapes)
               ─ template of config.json ─▶ chat_template.jinja, generation_config.json
               ─ manifest.json ───────────▶ README.md, the model card            (model.card)

A prompt is written the way the model was trained on, by the chat template and, of a plain text, by the tokenizer:

    <|im_start|> condition tags… instruction <|im_end|>

    tokenizer.apply_chat_template([{"role": "user", "content": "2 + 2?"}], condition=["direct"], return_dict=True, …)

Both mark its tokens by `token_type_ids` 1, from which transformers knows the prefix. `pipeline()` and lm-eval do not
pass these marks on; with `trust_remote_code=True` transformers uses modeling_prefix_lm.py, which needs none. Without it
`pipeline()` refuses the folder, and lm-eval's `hf` has wrong scores without a warning; `model.lm_eval` needs neither.

A tag that a message spells stays text: the template escapes it, and the tokenizer restores it. A plain text given to
the tokenizer needs `trust_remote_code=True` (tokenization_prefix_lm.py) or `split_special_tokens=True` for that.
"""

import json
import shutil
import string
import sys
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from model.command import fail, printable, run
from model.escapes import NO_ESCAPES, Escapes, escapes_of, quoted, with_escapes

if TYPE_CHECKING:
    from model.loading import LoadedModel

EXAMPLE = """example:
  python -m model.export out/train out/hf
  python -m model.export out/train/checkpoints/step-00002500 out/hf-last --weights last
  python -m model.export s3://bucket/run out/hf --condition direct --license apache-2.0 --push USER/NAME"""


FETCH = "millrace.fetch_checkpoint"
"""Entry point group of a function of a URL and a folder that fetches the newest valid checkpoint into the folder and
returns its path; the trainer has one. This package reads no URLs."""
_CHAT_TEMPLATE = Path(__file__).with_name("chat_template.jinja")
_REMOTE_CODE = Path(__file__).with_name("modeling_prefix_lm.py")
_TOKENIZER_CODE = Path(__file__).with_name("tokenization_prefix_lm.py")
"""Code in the exported folder; transformers imports it if it is trusted."""
_ONE_ROLE = {"user": "User"}
"""Roles of checkpoints of earlier versions, which know no labels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """How a prompt is written as tokens, from the config.json of a checkpoint."""

    start: str
    """First tag of a prefix."""
    end_of_prefix: str
    end_of_response: str
    pad: str
    conditions: Sequence[tuple[str, str]]
    """Condition and its tag, in the order in which a prefix has them after `start`."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Role to its label in an instruction of several turns; checkpoints of earlier versions have none."""

    def tags(self, names: Collection[str]) -> list[str]:
        """Return the tags of conditions, in the order of a prefix.

        Raises
        ------
        ValueError
            A name is not a condition.
        """
        known = [name for name, _ in self.conditions]
        for name in names:
            if name not in known:
                raise ValueError(f"unknown condition {name!r}: expected some of {', '.join(known)}")
        return [tag for name, tag in self.conditions if name in names]

    def chat_template(self, default: Sequence[str] = (), escapes: Escapes = NO_ESCAPES) -> str:
        """Return a jinja chat template.

        Its variable `condition` is a list of condition names, `default` unless it is given. The messages are the turns
        of an instruction; if the last is of the assistant, it is the response and follows the prefix. Texts are escaped
        by `escapes`, unless the variable `escape` is false.
        """
        tags = ", ".join(f"{json.dumps(name)}: {json.dumps(tag)}" for name, tag in self.conditions)
        return string.Template(_CHAT_TEMPLATE.read_text(encoding="utf-8")).substitute(
            tags=f"{{{tags}}}",
            labels=json.dumps(dict(self.labels or _ONE_ROLE)),
            default=json.dumps(list(default)),
            spellings=quoted(list(escapes.spellings)),
            codes=quoted([list(pair) for pair in escapes.codes]),
            start=json.dumps(self.start),
            end_of_prefix=json.dumps(self.end_of_prefix),
            end_of_response=json.dumps(self.end_of_response),
        )


def export(
    loaded: "LoadedModel",
    folder: Path,
    *,
    template: Template,
    max_positions: int,
    condition: Sequence[str] = (),
    card: str | None = None,
) -> None:
    """Write a trained model as a folder that transformers loads.

    Parameters
    ----------
    loaded
        The model of a checkpoint.
    folder
        Created; appears when it is complete.
    template
        How prompts are written.
    max_positions
        Tokens of the longest sample that the model was trained on.
    condition
        Names of the conditions of a prompt that does not name its own.
    card
        Content of README.md; None: no such file.

    Raises
    ------
    model.hf.FormatError
        The model is a baseline, which the format hrm_text cannot describe.
    FileExistsError
        `folder` exists.
    ValueError
        A name is not a condition; or an added token of the tokenizer has characters that `model.escapes` needs.
    """
    from model import hf

    if folder.exists():
        raise FileExistsError(f"{folder} exists; name a new folder, or remove it")
    before, after = [template.start, *template.tags(condition)], template.end_of_prefix
    tokenizer = json.loads(loaded.tokenizer_json)
    chat_template = template.chat_template(condition, escapes_of(tokenizer))
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    tokens = {"bos": template.start, "eos": template.end_of_response, "pad": template.pad}
    ids = {f"{name}_token_id": loaded.special[token] for name, token in tokens.items()}
    files: dict[str, Mapping[str, Any]] = {
        "generation_config.json": {"do_sample": False, **ids},
        "tokenizer.json": _with_prefix(with_escapes(tokenizer), before, after, loaded.special),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            **{f"{name}_token": token for name, token in tokens.items()},
            "clean_up_tokenization_spaces": False,
            "model_max_length": max_positions,
            "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
            "padding_side": "left",
            "auto_map": {"AutoTokenizer": [None, f"{_TOKENIZER_CODE.stem}.HrmTextTokenizer"]},
        },
    }
    try:
        hf.save(
            loaded.model,
            partial,
            max_positions=max_positions,
            token_ids={**ids, "end_of_prefix_token_id": loaded.special[after]},
            remote_code={
                "auto_map": {"AutoModelForCausalLM": f"{_REMOTE_CODE.stem}.HrmTextForCausalLM"},
                # Without this entry pipeline() would use the class of transformers, and mask the prompt causally; with
                # it pipeline() refuses a folder whose code is not trusted.
                "custom_pipelines": {
                    "text-generation": {"impl": f"{_REMOTE_CODE.stem}.AnswerPipeline", "pt": ["AutoModelForCausalLM"]}
                },
            },
        )
        for name, content in files.items():
            (partial / name).write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        (partial / "chat_template.jinja").write_text(chat_template, encoding="utf-8")
        for code in (_REMOTE_CODE, _TOKENIZER_CODE):
            shutil.copyfile(code, partial / code.name)
        if card is not None:
            (partial / "README.md").write_text(card, encoding="utf-8")
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _with_prefix(
    tokenizer: dict[str, Any], before: Sequence[str], after: str, ids: Mapping[str, int]
) -> dict[str, Any]:
    """Return a tokenizer.json that makes a text a prompt and gives its tokens, tags or not, the type id 1."""
    tags, texts = {*before, after}, [{"Sequence": {"id": name, "type_id": 1}} for name in "AB"]
    start, end = ([{"SpecialToken": {"id": tag, "type_id": 1}} for tag in side] for side in (before, [after]))
    template = {
        "type": "TemplateProcessing",
        "single": [*start, texts[0], *end],
        "pair": [*start, *texts, *end],
        "special_tokens": {tag: {"id": tag, "ids": [ids[tag]], "tokens": [tag]} for tag in sorted(tags)},
    }
    return {**tokenizer, "post_processor": template}


class Weights(StrEnum):
    """Which weights of a checkpoint."""

    AVERAGED = "averaged"
    LAST = "last"


def _export(
    checkpoint: Annotated[
        str,
        typer.Argument(
            help="a checkpoint's folder, a run's folder, or a URL of its checkpoints: the newest one is exported"
        ),
    ],
    folder: Annotated[Path, typer.Argument(help="folder to create")],
    weights: Annotated[
        Weights, typer.Option(help="the exponential moving average, or the weights of the last step")
    ] = Weights.AVERAGED,
    condition: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="condition of a prompt that does not name its own, such as direct; may be repeated",
            show_default=False,
        ),
    ] = None,
    license: Annotated[str, typer.Option(metavar="ID", help="licence in the model card")] = "unknown",
    scores: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="results.json of trainer.benchmark on these weights, for the model card",
            show_default=False,
        ),
    ] = None,
    push: Annotated[
        str | None,
        typer.Option(
            metavar="USER/NAME",
            help="also upload the folder to this repository of the Hugging Face Hub, which is private if it is new",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write a checkpoint as a folder that transformers (5.9 or later) loads by from_pretrained."""
    from model.card import LICENSE

    if folder.exists():
        raise typer.BadParameter(f"{folder} exists; name a new folder, or remove it")
    if not LICENSE.fullmatch(license):
        raise typer.BadParameter(f"--license is {license!r}; expected an identifier such as apache-2.0")
    from model import hf
    from model import push as hub
    from model.loading import CheckpointError

    if push is not None:
        try:
            hub.check(push)
        except hub.PushError as error:
            raise typer.BadParameter(f"--push: {error}") from None
    try:
        with tempfile.TemporaryDirectory() as staging:
            found, loaded = _loaded(checkpoint, Path(staging), ema=weights is Weights.AVERAGED)
            _export_checkpoint(found, loaded, folder, weights, condition or [], license, scores)
        print(printable(f"{folder}: the {weights} weights of {found.name}"))
        if push is not None:
            print(f"uploaded: {hub.push(folder, push)}")
    except (CheckpointError, hf.FormatError, hub.PushError, OSError) as error:
        raise fail(error) from None
    print(
        "warning: lm-eval's model hf scores this folder wrongly unless it has trust_remote_code=True, which pipeline() "
        "needs too: see README.md"
    )


def _export_checkpoint(
    found: Path,
    loaded: "LoadedModel",
    folder: Path,
    weights: Weights,
    condition: Sequence[str],
    license: str,
    scores: Path | None,
) -> None:
    from model.card import ScoresError, card, read_scores
    from model.loading import CheckpointError, read_config, read_manifest, read_trainer_state, weights_hash

    config = read_config(found).content
    for name in ("template", "max_positions"):
        if name not in config:
            raise CheckpointError(f"{found}/config.json lacks the field {name}; export a checkpoint of this version")
    template = Template(**config["template"])
    try:
        template.tags(condition)
    except ValueError as error:
        raise typer.BadParameter(f"--condition: {error}") from None
    try:
        found_scores = None if scores is None else read_scores(scores, weights_hash(loaded.model))
    except ScoresError as error:
        raise typer.BadParameter(f"--scores: {error}") from None
    readme = card(
        folder.resolve().name,
        license=license,
        weights=weights,
        config=config,
        model=loaded.model.config,
        step=read_trainer_state(found).position["step"],
        manifest=read_manifest(found),
        condition=condition,
        scores=found_scores,
    )
    export(
        loaded,
        folder,
        template=template,
        max_positions=config["max_positions"],
        condition=condition,
        card=readme,
    )


def _loaded(location: str, staging: Path, *, ema: bool) -> "tuple[Path, LoadedModel]":
    """Load the newest valid checkpoint of a location; that of a URL is fetched by the entry point of `FETCH`.

    Returns
    -------
    folder, loaded
        The checkpoint's folder on this machine, which is in `staging` if it was fetched, and its model.
    """
    from model.loading import CheckpointError, load_checkpoint, use_newest

    def use(folder: Path) -> "tuple[Path, LoadedModel]":
        return folder, load_checkpoint(folder, ema=ema)

    if "://" not in location.removeprefix("file://"):
        return use_newest(Path(location.removeprefix("file://")).expanduser(), use)
    for point in entry_points(group=FETCH):
        found: tuple[Path, LoadedModel] = point.load()(location, staging, use)
        return found
    raise CheckpointError(
        "the checkpoint is at a URL, and no installed package fetches them: install millrace, or copy it here"
    )


def main(arguments: Sequence[str] | None = None, *, program: str | None = None) -> int:
    """Run the command and return its exit code."""
    return run(_export, arguments, program=program or "python -m model.export", epilog=EXAMPLE)


if __name__ == "__main__":
    sys.exit(main())
