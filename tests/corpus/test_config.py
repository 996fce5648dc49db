"""A manifest is read strictly: errors name the place and the closest valid key."""

import re
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field

from corpus.config import Config, ConfigError, load_manifest
from tests.attacks.manifests import bomb


class Source(Config):
    name: str
    rows: int = 1


class Tokenizer(Config):
    vocab_size: Annotated[int, Field(ge=256)] = 4096
    file: str | None = None


class Manifest(Config):
    out: str
    seed: int = 0
    tokenizer: Tokenizer = Tokenizer()
    sources: list[Source] = []  # noqa: RUF012 - pydantic copies defaults


TEXT = "out: here\nsources:\n- {name: a, rows: 2}\n- {name: b}\n"


def load(folder: Path, text: str, *overrides: str) -> Manifest:
    path = folder / "mix.yaml"
    path.write_text(text, encoding="utf-8")
    return load_manifest(path, Manifest, overrides)


def test_items_may_share_keys_by_yaml_merge(tmp_path: Path) -> None:
    manifest = load(tmp_path, "out: here\nsources:\n- &base {name: a, rows: 2}\n- {<<: *base, name: b}\n")
    assert manifest.sources == [Source(name="a", rows=2), Source(name="b", rows=2)]


def error(folder: Path, text: str, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(folder, text, *overrides)
    return str(caught.value)


def test_manifest_becomes_a_model_that_cannot_be_changed(tmp_path: Path) -> None:
    manifest = load(tmp_path, TEXT)
    assert [source.rows for source in manifest.sources] == [2, 1]
    with pytest.raises(ValueError, match="frozen"):
        manifest.seed = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("out: x\nsede: 1\n", "unknown key sede; did you mean 'seed'?"),
        ("out: x\ntokenizer: {vocab: 1}\n", "unknown key tokenizer.vocab; did you mean 'vocab_size'?"),
        ("out: x\nsources: [{name: a, row: 1}]\n", "unknown key sources.0.row; did you mean 'rows'?"),
        ("out: x\nzzz: 1\n", "unknown key zzz; known: out, seed, sources, tokenizer"),
        ("seed: 1\n", "out: Field required"),
        ("out: x\nseed: many\n", "seed: Input should be a valid integer"),
        ("out: x\nseed: many\n", "(found 'many')"),
        ("out: x\ntokenizer: {vocab_size: 3}\n", "tokenizer.vocab_size: Input should be greater than or equal to 256"),
        ("out: x\nseed: 1\nseed: 2\n", "the key 'seed' occurs twice"),
        ("out: x\ntokenizer:\n  file: a\n  file: b\n", "the key 'file' occurs twice"),
        ("out: [x\n", "is not valid YAML"),
        ("out: !!python/name:os.system\n", "is not valid YAML"),
        ("[1]: 2\n", "a key that is not a plain value"),
        ("out: 2001-99-99\n", "is not valid YAML"),
        ("seed: " + "9" * 5000 + "\n", "is not valid YAML"),
        ("out: " + "[" * 5000 + "]" * 5000 + "\n", "is nested too deep"),
        ("1: x\n", "1: Keys should be strings"),
        ("- a\n", "holds list; expected a mapping"),
        ("", "holds NoneType; expected a mapping"),
    ],
)
def test_mistake_in_a_manifest_is_named_with_its_place(text: str, message: str, tmp_path: Path) -> None:
    found = error(tmp_path, text)
    assert message in found
    assert "mix.yaml" in found


def test_every_mistake_is_reported_at_once(tmp_path: Path) -> None:
    assert len(error(tmp_path, "out: x\nsede: 1\nseed: many\n").splitlines()) == 2


def test_manifest_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no\.yaml: there is no such manifest"):
        load_manifest(tmp_path / "no.yaml", Manifest)
    with pytest.raises(ConfigError, match="is a folder"):
        load_manifest(tmp_path, Manifest)
    (tmp_path / "bytes.yaml").write_bytes(b"out: \xff")
    with pytest.raises(ConfigError, match=r"is not UTF-8 text \(byte 5\)"):
        load_manifest(tmp_path / "bytes.yaml", Manifest)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (bomb(30), "line 5, column .*: more than 50,000 values, aliases expanded"),
        ("a: &a {b: *a}", "line 1, column 11: an alias of a value that contains it"),
        ("a: &a [*a]", "an alias of a value that contains it"),
        (
            "a: &a {b: 1}\n" + "".join(f"c{n}: &c{n} {{<<: [{'*a, ' * 9}*a]}}\n" for n in range(2_600)),
            "more than 50,000",
        ),
        ("x" * 5_000_000, "is larger than 4,194,304 bytes"),
        ("a: " + "[" * 5_000, "is nested too deep"),
        ("a: " + "{b: " * 5_000, "is nested too deep"),
    ],
    ids=["aliases", "mapping in itself", "list in itself", "merges", "large", "deep list", "deep mapping"],
)
def test_manifest_that_grows_without_bound_is_refused_before_it_grows(text: str, message: str, tmp_path: Path) -> None:
    found = error(tmp_path, text)
    assert re.search(message, found), found
    assert "\n" not in found


def test_overrides_set_nested_keys_and_items_by_name_or_number(tmp_path: Path) -> None:
    manifest = load(
        tmp_path, TEXT, "seed=7", "tokenizer.vocab_size=512", "sources.b.rows=5", "sources.0.rows=6", "out=a=b"
    )
    assert (manifest.seed, manifest.tokenizer.vocab_size, manifest.out) == (7, 512, "a=b")
    assert [source.rows for source in manifest.sources] == [6, 5]


def test_override_values_are_read_as_yaml(tmp_path: Path) -> None:
    assert load(tmp_path, TEXT, "tokenizer.file=null").tokenizer.file is None
    assert load(tmp_path, TEXT, "sources=[{name: z}]").sources == [Source(name="z")]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "override 'seed': expected key=value"),
        ("=1", "expected key=value"),
        ("sede=1", "unknown key sede; did you mean 'seed'?"),
        ("tokenizer.vocab=1", "unknown key tokenizer.vocab; did you mean 'vocab_size'?"),
        ("sources.c.rows=1", "no item 'c' here; known: a, b"),
        ("sources.9.rows=1", "no item '9' here"),
        ("out.deep=1", "out is a plain value and has no 'deep'"),
        ("seed=[", "the value is not valid YAML"),
        ("seed=!!python/name:os.system", "the value is not valid YAML"),
    ],
)
def test_mistaken_override_is_named(override: str, message: str, tmp_path: Path) -> None:
    assert message in error(tmp_path, TEXT, override)
