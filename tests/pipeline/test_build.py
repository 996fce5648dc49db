"""Whole builds: the same bytes however they come about, nothing lost, nothing done twice."""

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psutil
import pytest
from streaming import StreamingDataset
from tokenizers import Tokenizer

from corpus.config import ConfigError
from corpus.contract import CONDITION_TAGS, SPECIAL_TOKENS
from pipeline.build import build, main
from pipeline.engine.step import BuildError, Step
from pipeline.ingest import content
from pipeline.ingest.content import Hashed, changed, stamp
from pipeline.ingest.inputs import discover_inputs, hash_inputs, lock_text
from pipeline.manifest import load
from pipeline.verify import verify
from tests.corpus.malformed import MALFORMED
from tests.pipeline.conftest import REPOSITORY, command, contents, run_build, start, texts, write_jsonl, write_mix

pytestmark = pytest.mark.slow  # builds datasets


def problems(out: Path | str) -> list[str]:
    return [f"{check.name}: {problem}" for check in verify(str(out)) for problem in check.problems]


def test_dataset_is_sound_and_conserves_every_row(dataset: Path) -> None:
    assert problems(dataset) == []
    counts = json.loads((dataset / "dataset.json").read_text())["counts"]
    assert counts["first"]["dropped"] == {
        "empty_instruction": 1,
        "empty_response": 1,
        "invalid_syntax": 1,
        "missing_field": 1,
        "repetitive": 1,
        "unclosed_think": 1,
    }
    assert counts["second"]["dropped"] == {"exact_duplicate": 43}
    assert counts["held"] == {
        "role": "eval",
        "rows": 40,
        "pairs": 40,
        "kept": 20,
        "dropped": {"exact_duplicate": 20},
        "tokens": 0,
    }
    for count in counts.values():
        rejected = count["dropped"].get("invalid_syntax", 0) + count["dropped"].get("missing_field", 0)
        assert count["pairs"] + rejected == count["kept"] + sum(count["dropped"].values())
    files = pl.read_parquet(dataset / "ledger/files.parquet")
    skipped = files.filter(pl.col("outcome") == "skipped_not_data")
    assert skipped["file"].to_list() == ["LICENSE"]


def test_number_of_workers_changes_no_byte(mix: Path, dataset: Path, tmp_path: Path) -> None:
    run_build(mix, tmp_path / "one", workers=1)
    assert contents(tmp_path / "one") == contents(dataset)


def test_neither_the_place_of_the_inputs_nor_their_division_into_ranges_changes_a_byte(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "RANGE_BYTES", 20_000)
    run_build(write_mix(tmp_path / "elsewhere"), tmp_path / "out")
    files = pl.read_parquet(tmp_path / "out/ledger/files.parquet").filter(pl.col("format") == "jsonl")
    assert len(list((tmp_path / "out/.work/ingest").iterdir())) > len(files) + 4
    assert contents(tmp_path / "out") == contents(dataset)
    lock = (tmp_path / "out/mix.lock.yaml").read_text()
    assert "url: first/a.jsonl\n" in lock
    assert str(tmp_path) not in lock


def test_order_of_finished_work_changes_no_byte(mix: Path, dataset: Path, tmp_path: Path) -> None:
    """Half of the steps are done by another run, with other neighbours."""
    run_build(mix, tmp_path / "out", overrides=("samples.max_tokens=100", "seed=5"))
    run_build(mix, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(dataset)


def test_second_build_does_nothing_and_says_so(mix: Path, tmp_path: Path) -> None:
    first = run_build(mix, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.is_file()}
    again = subprocess.run(command(mix, tmp_path / "out"), cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert "nothing to do" in again.stdout
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert {p: t for p, t in after.items() if p.name != ".lock"} == {
        p: t for p, t in before.items() if p.name != ".lock"
    }
    assert first == json.loads((tmp_path / "out/dataset.json").read_text())


def test_changed_input_is_noticed_and_only_it_is_read_again(tmp_path: Path) -> None:
    manifest = write_mix(tmp_path / "mix")
    run_build(manifest, tmp_path / "out")
    ingested = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out/.work/ingest").iterdir()}
    with (tmp_path / "mix/first/b.jsonl").open("a") as file:
        file.write('{"instruction": "One more?", "response": "One more."}\n')
    run_build(manifest, tmp_path / "out")
    again = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out/.work/ingest").iterdir()}
    assert len(again) == len(ingested)
    assert len(set(again.items()) & set(ingested.items())) == len(ingested) - 1
    run_build(manifest, tmp_path / "fresh")
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


def test_deleted_file_of_a_dataset_is_restored(mix: Path, dataset: Path, tmp_path: Path) -> None:
    run_build(mix, tmp_path / "out")
    (tmp_path / "out/shards/shard.00001.mds").unlink()
    run_build(mix, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(dataset)


def test_file_of_a_dataset_that_was_edited_in_place_is_made_anew(mix: Path, dataset: Path, tmp_path: Path) -> None:
    run_build(mix, tmp_path / "out")
    with (tmp_path / "out/README.md").open("a") as file:
        file.write("One line more.\n")
    run_build(mix, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(dataset)


def test_leftovers_of_killed_builds_are_deleted(mix: Path, tmp_path: Path) -> None:
    run_build(mix, tmp_path / "out")
    left = tmp_path / "out/.work/tmp/ingest-of-a-killed-build/records.arrow"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half of it")
    run_build(mix, tmp_path / "out")
    assert not left.exists()


def test_two_sources_may_read_one_file(tmp_path: Path) -> None:
    sources = [
        {"name": "one", "path": "first/b.jsonl"},
        {
            "name": "two",
            "path": "first/b.jsonl",
            "map": {"instruction": "Again: {instruction}", "response": "{response}"},
        },
        {"name": "three", "path": "first", "role": "eval"},
    ]
    off = {"enabled": False}
    manifest = write_mix(tmp_path / "mix", sources=sources, near_dedup=off, decontaminate=off)
    counts = run_build(manifest, tmp_path / "out", workers=2)["counts"]
    assert counts["one"]["kept"] == counts["two"]["kept"] == 100
    mix = load(manifest)
    steps: list[Step[Hashed]] = []

    class Recorder:
        def map(self, requested: Sequence[Step[Hashed]]) -> list[Hashed]:
            steps.extend(requested)
            return [Hashed(sha256=step.partition) for step in requested]

    inputs = hash_inputs(discover_inputs(mix, manifest.parent), manifest.parent, Recorder())
    assert len({step.key for step in steps}) == len(steps) == 2
    assert [Path(str(item.sha256)).name for item in inputs] == ["b.jsonl", "b.jsonl", "a.jsonl", "b.jsonl"]


def test_file_that_may_be_read_only_now_is_hashed_again(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("{}")
    before = stamp(str(path))
    path.chmod(0)
    assert changed(str(path), before)


def test_mix_that_reads_its_own_dataset_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = write_mix(tmp_path, sources=[{"name": "all", "path": ".", "exclude": ["mix.yaml", "held.jsonl"]}])
    out = str(tmp_path / "out")
    assert main([str(manifest), "--out", out, "--workers", "1"]) == 0
    assert main([str(manifest), "--out", out, "--workers", "1"]) == 2
    assert "this build's own results" in capsys.readouterr().err
    assert (
        main([str(manifest), "--out", out, "--workers", "1", "sources.all.exclude=['out/*', mix.yaml, held.jsonl]"])
        == 0
    )


def test_lock_file_holds_no_credentials(mix: Path) -> None:
    urls = "['https://me:secret@host.org/a.jsonl?token=secret', 's3://bucket/b.jsonl']"
    text = lock_text(load(mix, [f"sources.chat.path={urls}", "sources.held.path=ftp://me:secret@host.org/c.jsonl"]), [])
    assert "secret" not in text
    assert "https://host.org/a.jsonl" in text
    assert "s3://bucket/b.jsonl" in text


def test_plain_streaming_dataset_sees_exactly_the_samples(dataset: Path, tmp_path: Path) -> None:
    shutil.copytree(dataset / "shards", tmp_path / "shards")
    facts = json.loads((dataset / "dataset.json").read_text())
    samples: Any = StreamingDataset(local=str(tmp_path / "shards"), batch_size=1)
    assert len(samples) == facts["samples"]
    assert sum(len(sample["tokens"]) for sample in samples) == facts["tokens"]
    ids = pl.read_parquet(dataset / "curated")["row_id"].to_list()
    assert [samples[i]["row_id"].hex() for i in range(len(samples))] == ids


def test_samples_are_the_curated_texts_between_their_tags(dataset: Path, tmp_path: Path) -> None:
    shutil.copytree(dataset / "shards", tmp_path / "shards")
    samples: Any = StreamingDataset(local=str(tmp_path / "shards"), batch_size=1)
    tokenizer = Tokenizer.from_file(str(dataset / "tokenizer/tokenizer.json"))
    special = json.loads((dataset / "dataset.json").read_text())["tokenizer"]["special"]
    lengths = np.load(dataset / "lengths.npy")
    truncated = 0
    for i, record in enumerate(pl.read_parquet(dataset / "curated").iter_rows(named=True)):
        tokens, prefix = samples[i]["tokens"].tolist(), int(samples[i]["prefix_len"])
        assert lengths[i].tolist() == [prefix, len(tokens) - prefix]
        assert len(tokens) <= 512
        tags = [special[CONDITION_TAGS[name]] for name in record["condition"]]
        assert tokens[: 1 + len(tags)] == [special["<|im_start|>"], *tags]
        assert tokens[prefix - 1] == special["<|im_end|>"]
        instruction = tokens[1 + len(tags) : prefix - 1]
        response = tokens[prefix:]
        if len(tokens) == 512:
            truncated += 1
        else:
            assert response.pop() == special["<|box_end|>"]
        assert not set(instruction + response) & set(special.values())
        assert tokenizer.decode(instruction, skip_special_tokens=False) == record["instruction"]
        text = tokenizer.decode(response, skip_special_tokens=False)
        assert record["response"].startswith(text) if len(tokens) == 512 else text == record["response"]
    assert truncated == 1


def test_strata_are_shuffled_and_complete(dataset: Path) -> None:
    strata = json.loads((dataset / "strata.json").read_text())["strata"]
    records = pl.read_parquet(dataset / "curated")
    assert [(s["source"], s["task"]) for s in strata] == [
        ("first", "a"),
        ("first", "b"),
        ("second", "second"),
        ("chat", "chat"),
    ]
    assert [(s["max_per_epoch"], s["repeat"]) for s in strata] == [(None, 1), (None, 1), (50, 2), (None, 1)]
    for stratum in strata:
        samples = records[stratum["begin"] : stratum["end"]]
        assert set(zip(samples["source"], samples["task"], strict=True)) == {(stratum["source"], stratum["task"])}
        rows = pl.read_parquet(dataset / "ledger/rows-*.parquet").select("row_id", "row")
        order = samples.join(rows, on="row_id", maintain_order="left")["row"].to_numpy()
        assert abs(np.corrcoef(order, np.arange(len(order)))[0, 1]) < 0.4


def test_loser_names_the_survivor_of_the_earlier_source(dataset: Path) -> None:
    ledger = pl.read_parquet(dataset / "ledger/rows-*.parquet")
    lost = ledger.filter((pl.col("outcome") == "exact_duplicate") & (pl.col("source") == "second"))
    twins = lost.join(ledger, left_on="twin", right_on="row_id", how="left")
    assert set(twins["source_right"]) == {"first"}
    assert set(twins["outcome_right"]) == {"kept"}


def test_eval_rows_are_cleaned_and_never_in_the_shards(dataset: Path) -> None:
    rows = [json.loads(line) for line in (dataset / "eval/held.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 20
    assert set(rows[0]) == {"row_id", "source", "task", "instruction", "response", "condition"}
    assert not {row["row_id"] for row in rows} & set(pl.read_parquet(dataset / "curated")["row_id"])


def test_seed_changes_the_order_but_not_the_rows(mix: Path, dataset: Path, tmp_path: Path) -> None:
    run_build(mix, tmp_path / "out", overrides=("seed=1",))
    before, after = (pl.read_parquet(out / "curated")["row_id"].to_list() for out in (dataset, tmp_path / "out"))
    assert before != after
    assert sorted(before) == sorted(after)


def test_overlong_samples_can_be_dropped_instead(mix: Path, tmp_path: Path) -> None:
    facts = run_build(mix, tmp_path / "out", overrides=("samples.overlong=drop", "samples.min_response_tokens=12"))
    assert facts["counts"]["first"]["dropped"]["too_many_tokens"] == 1
    assert facts["counts"]["first"]["dropped"]["short_response"] > 0
    assert np.load(tmp_path / "out/lengths.npy")[:, 1].min() >= 12
    assert problems(tmp_path / "out") == []


def test_duplicates_stay_where_the_manifest_wants_them(mix: Path, tmp_path: Path) -> None:
    facts = run_build(mix, tmp_path / "out", overrides=("exact_dedup.enabled=false", "near_dedup.enabled=false"))
    assert facts["counts"]["second"]["dropped"] == {}
    assert facts["counts"]["held"]["kept"] == 40
    assert problems(tmp_path / "out") == []


def test_given_tokenizer_is_used_as_it_is(mix: Path, dataset: Path, tmp_path: Path) -> None:
    shutil.copy(dataset / "tokenizer/tokenizer.json", mix.parent / "given.json")
    run_build(mix, tmp_path / "out", overrides=("tokenizer.file=given.json",))
    given, trained = contents(tmp_path / "out"), contents(dataset)
    for name in ("shards/index.json", "lengths.npy", "tokenizer/tokenizer.json", "shards/shard.00000.mds"):
        assert given[name] == trained[name]


def write_mix_for_every_stage(folder: Path) -> Path:
    """A mix in which every stage finds something to drop."""
    more = [{"instruction": a, "response": f"{b}."} for a, b in texts(1, 80) if len(b) > 200]
    more += [{"instruction": f"Tell me. {a}", "response": b} for a, b in texts(5, 10)]
    more += [{"instruction": f"Name river {n % 9}.", "response": b} for n, (_, b) in enumerate(texts(6, 40))]
    write_jsonl(folder / "more.jsonl", more)
    sources = [
        {"name": "first", "path": "first", "condition": ["direct"]},
        {"name": "more", "path": "more.jsonl"},
        {"name": "second", "path": "second", "task": "source", "max_per_epoch": 50, "repeat": 2},
        {"name": "chat", "path": "chat.jsonl", "condition": ["synth", "cot"]},
        {"name": "held", "path": "held.jsonl", "role": "eval"},
    ]
    return write_mix(folder, sources=sources, caps={"responses_per_instruction": 3})


@pytest.mark.slow  # twenty builds, each killed somewhere
def test_build_killed_twenty_times_yields_identical_bytes(tmp_path: Path) -> None:
    mix, out = write_mix_for_every_stage(tmp_path / "mix"), tmp_path / "out"
    for _ in range(2):  # the first may have kernels to compile
        shutil.rmtree(out, ignore_errors=True)
        begin = time.monotonic()
        assert start(mix, out, "--workers", "2").wait() == 0
        whole = time.monotonic() - begin
    expected = contents(out)
    dropped = json.loads(expected["dataset.json"])["counts"]
    assert {reason for count in dropped.values() for reason in count["dropped"]} > {
        "repetitive",
        "exact_duplicate",
        "near_duplicate",
        "contaminated",
        "over_cap",
    }
    shutil.rmtree(out)
    draw = random.Random(0)
    kills, met = 0, set()
    while kills < 20:
        process = start(mix, out, "--workers", str(1 + kills % 2))
        try:
            process.communicate(timeout=draw.uniform(0.15, 0.75) * whole)
            assert contents(out) == expected  # it came to its end before the kill
            shutil.rmtree(out)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            kills += 1
            met.add(tuple(sorted(path.name for path in (out / ".work").glob("*"))))
            if (out / "dataset.json").exists():
                assert problems(out) == []
    assert len(met) > 3  # the kills met different stages
    assert start(mix, out).wait() == 0
    assert contents(out) == expected


def test_workers_die_with_a_killed_build(mix: Path, tmp_path: Path) -> None:
    process = start(mix, tmp_path / "out", "--workers", "2")
    parent = psutil.Process(process.pid)
    workers: list[psutil.Process] = []
    while len(workers) < 2:
        assert process.poll() is None
        workers = [child for child in parent.children(recursive=True) if "spawn_main" in " ".join(child.cmdline())]
        time.sleep(0.05)
    parent.kill()
    process.communicate()
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert alive == []


def test_interrupted_build_says_how_to_go_on(mix: Path, dataset: Path, tmp_path: Path) -> None:
    process = start(mix, tmp_path / "out")
    while not (tmp_path / "out/.work/hash").exists():
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal sends it: to the workers too
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "same command continues" in output
    assert "Traceback" not in output
    run_build(mix, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(dataset)


def test_unreachable_store_is_a_clear_error(
    mix: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for out, message in (
        ("s3://nowhere/mix", "reading failed"),
        ("nope://nowhere/mix", "no file system is known for nope://"),
    ):
        assert main([str(mix), "--out", out]) == 1
        assert message in capsys.readouterr().err


def test_two_builds_of_one_dataset_are_refused(mix: Path, tmp_path: Path) -> None:
    process = start(mix, tmp_path / "out")
    while not (tmp_path / "out/.work/.lock").exists():
        assert process.poll() is None
        time.sleep(0.02)
    time.sleep(0.1)
    with pytest.raises(BuildError, match="another build is working there"):
        run_build(mix, tmp_path / "out")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def test_folder_of_something_else_is_refused(mix: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("do not mix with this")
    with pytest.raises(BuildError, match=r"contains files that no dataset published there lists: .*thesis\.txt"):
        run_build(mix, tmp_path)


def test_folder_of_something_else_is_refused_as_work_folder(mix: Path, tmp_path: Path) -> None:
    (tmp_path / "work/tmp").mkdir(parents=True)
    (tmp_path / "work/dataset.json").write_text("{}")
    with pytest.raises(BuildError, match="not the work folder of a build"):
        build(mix, out=tmp_path / "out", workers=1, work=tmp_path / "work")
    assert (tmp_path / "work/tmp").exists()


@pytest.mark.parametrize("work", ["here/../out", "out/curated", "out/report/work"])
def test_work_folder_is_another_than_the_datasets(mix: Path, tmp_path: Path, work: str) -> None:
    with pytest.raises(ConfigError, match="dataset's own folder"):
        build(mix, out=tmp_path / "out", workers=1, work=tmp_path / work)


def test_lengths_that_leave_no_sample_are_a_clear_error(mix: Path, tmp_path: Path) -> None:
    lengths = ("samples.max_tokens=65535", "samples.min_response_tokens=65000", "guard.max_share=1")
    with pytest.raises(BuildError, match=r"no pair is left: samples\.min_response_tokens"):
        run_build(mix, tmp_path / "out", overrides=lengths)
    assert not (tmp_path / "out/dataset.json").exists()


def test_dataset_may_go_to_a_file_url(mix: Path, tmp_path: Path) -> None:
    facts = run_build(mix, f"file://{tmp_path}/deep/out")
    assert facts["samples"]
    assert [problem for check in verify(str(tmp_path / "deep/out")) for problem in check.problems] == []


def test_dry_run_shows_sources_and_writes_nothing(
    mix: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(mix.parent.rglob("*"))
    assert main([str(mix), "--out", str(tmp_path / "out"), "--dry-run", "--verbose"]) == 0
    shown = capsys.readouterr().out
    assert "LICENSE" in shown
    assert shown.count("instruction: Question 1-") == 3
    assert "jsonl" in shown
    assert "chat" in shown
    assert not (tmp_path / "out").exists()
    assert sorted(mix.parent.rglob("*")) == before


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("tokeniser.vocab_size=500", "did you mean 'tokenizer'"),
        ("tokenizer.vocabsize=500", "did you mean 'vocab_size'"),
        ("tokenizer.vocab_size=70000", "tokenizer.vocab_size"),
        ("shards.size=much", "could not parse value and unit"),
        ("sources.second.name=first", "two sources are named 'first'"),
        ("sources.chat.path=nothing-*.jsonl", "nothing-*.jsonl"),
        ("sources.chat.path=missing.jsonl", "missing.jsonl"),
        ("tokenizer.file=nowhere.json", "nowhere.json"),
        ("tokenizer.file=chat.jsonl", "not a tokenizer.json"),
        ("seed", "expected key=value"),
    ],
)
def test_manifest_errors_name_the_place(
    mix: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], override: str, message: str
) -> None:
    assert main([str(mix), "--out", str(tmp_path / "out"), override]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_empty_out_is_not_taken_for_the_manifests(mix: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(mix), "--out", ""]) == 2
    assert main([str(mix), "out=''"]) == 2
    assert capsys.readouterr().err.count("error: ") == 2


def test_nothing_left_to_train_on_is_a_clear_error(tmp_path: Path) -> None:
    manifest = write_mix(tmp_path / "mix")
    allowed = ("guard.max_share=1", "guard.allow_empty=[first, second, chat, held]")
    overrides = ("clean.max_response_chars=1", "clean.end_markers=[]", *allowed)
    with pytest.raises(BuildError, match="no pair of any train source is left"):
        run_build(manifest, tmp_path / "out", overrides=overrides)
    assert not (tmp_path / "out/dataset.json").exists()


def test_too_many_strata_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.stages.MAX_STRATA", 3)
    with pytest.raises(BuildError, match="4 strata"):
        run_build(write_mix(tmp_path / "mix"), tmp_path / "out")


def test_malformed_inputs_are_all_accounted_for(tmp_path: Path) -> None:
    for case in MALFORMED:
        case.write(tmp_path / "mix/bad" / case.name)
    sources = [{"name": "good", "path": "second"}, {"name": "bad", "path": "bad", "guard": {"unreadable": 1}}]
    write_mix(tmp_path / "mix", sources=sources, guard={"max_share": 1})
    process = start(tmp_path / "mix/mix.yaml", tmp_path / "out", "--workers", "2")
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    assert "Traceback" not in output
    assert problems(tmp_path / "out") == []
    files = pl.read_parquet(tmp_path / "out/ledger/files.parquet").filter(pl.col("source") == "bad")
    found = {line["file"]: line for line in files.iter_rows(named=True)}
    assert set(found) == {case.name for case in MALFORMED}
    ledger = pl.read_parquet(tmp_path / "out/ledger/rows-*.parquet").filter(pl.col("source") == "bad")
    for case in MALFORMED:
        line = found[case.name]
        assert line["outcome"] == case.outcome.value, case.name
        rejected = ledger.filter((pl.col("file") == case.name) & (pl.col("stage") == "read"))
        assert Counter(rejected["outcome"]) == {reason.value: count for reason, count in case.rejected.items()}
        assert rejected["detail"].null_count() == 0
        if line["outcome"] in ("truncated", "unreadable"):
            assert line["detail"], case.name


def test_text_that_spells_special_tags_stays_text(dataset: Path) -> None:
    kept = pl.read_parquet(dataset / "curated").filter(pl.col("instruction").str.starts_with("What is <|"))
    assert len(kept) == len(SPECIAL_TOKENS)


def test_report_is_self_contained_and_escapes_what_rows_say(tmp_path: Path) -> None:
    manifest = write_mix(tmp_path / "mix", name="<script>alert(1)</script>")
    run_build(manifest, tmp_path / "out")
    page = (tmp_path / "out/report/index.html").read_text(encoding="utf-8")
    assert page.count("<script") == 1  # the search
    assert "http" not in page.replace("http-equiv", "")
    assert "&lt;script&gt;" in page
    assert "repetitive" in page
    examples = pl.read_parquet(tmp_path / "out/report/examples.parquet")
    texts = {outcome: (a, b) for outcome, a, b in examples.select("outcome", "instruction", "response").iter_rows()}
    assert texts["repetitive"][0] == "Repeat after me."
    assert texts["unclosed_think"] == ("Think on!", "<think>so it is")
    assert texts["exact_duplicate"][0].startswith("Question 5-")
    assert "&lt;think&gt;so it is" in page


def test_what_rows_carry_along_counts_when_buckets_are_cut(tmp_path: Path) -> None:
    rows = [{"instruction": f"Say {n}", "response": f"{n}", "note": f"{n} " * 2000} for n in range(3000)]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    mix = {"name": "carried", "sources": [{"name": "rows", "path": "rows.jsonl"}], "tokenizer": {"vocab_size": 300}}
    (tmp_path / "mix.yaml").write_text(json.dumps(mix))
    run_build(tmp_path / "mix.yaml", tmp_path / "out")
    assert len(list((tmp_path / "out/.work/encode").iterdir())) > 1
