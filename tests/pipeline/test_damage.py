"""Damage to a dataset or to finished work is found, and never published."""

import os
import random
import shutil
import time
from pathlib import Path

import fsspec
import pytest

from pipeline.build import build, main
from pipeline.dataset.assemble import Assemble
from pipeline.dataset.publish import DamagedError, publish
from pipeline.engine.step import is_intact
from pipeline.ingest.content import changed, stamp
from tests.pipeline.conftest import contents, run_build

pytestmark = pytest.mark.slow  # builds datasets


def flip(path: Path, draw: random.Random) -> None:
    """Change one bit of a file in place, and give it its old times."""
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def files_of(folder: Path) -> list[Path]:
    return [
        path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock" and path.stat().st_size
    ]


@pytest.fixture
def copy(dataset: Path, tmp_path: Path) -> Path:
    """A copy of the small dataset and its work folder, to damage."""
    shutil.copytree(dataset, tmp_path / "out")
    return tmp_path / "out"


def test_flipped_bit_in_any_file_of_a_dataset_is_repaired(mix: Path, dataset: Path, copy: Path) -> None:
    run_build(mix, copy)  # has the times of the copies recorded
    draw = random.Random(0)
    assert main([str(mix), "--out", str(copy)]) == 0
    damaged = [path for path in files_of(copy) if ".work" not in path.parts]
    assert len(damaged) > 10
    for path in damaged:
        flip(path, draw)
    assert build(mix, out=copy, workers=1).is_new
    assert contents(copy) == contents(dataset)
    assert not build(mix, out=copy, workers=1).is_new


def test_nothing_to_do_is_said_only_of_files_that_were_checked(
    mix: Path, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    count = len(contents(copy))
    assert main([str(mix), "--out", str(copy)]) == 0
    assert f"{count:,} files read again, with the recorded hash" in capsys.readouterr().out
    assert main([str(mix), "--out", str(copy)]) == 0
    assert f"({count} files have the size" in capsys.readouterr().out


def test_flipped_bits_in_every_file_of_the_work_folder_reach_no_dataset(mix: Path, dataset: Path, copy: Path) -> None:
    shutil.rmtree(copy / "shards")
    draw = random.Random(1)
    for path in files_of(copy / ".work"):
        flip(path, draw)
    run_build(mix, copy)
    assert contents(copy) == contents(dataset)


def test_damaged_step_runs_again_and_the_others_do_not(mix: Path, dataset: Path, copy: Path) -> None:
    run_build(mix, copy)
    (copy / "lengths.npy").unlink()
    steps = [path for stage in ("ingest", "encode", "tokenizer") for path in sorted((copy / ".work" / stage).iterdir())]
    kept = {path: (path / "result.json").stat().st_mtime_ns for path in steps}
    damaged = next(path for path in steps if path.parent.name == "encode")
    flip(max(files_of(damaged), key=lambda path: path.stat().st_size), random.Random(2))
    assert not is_intact(damaged)
    run_build(mix, copy)
    assert {path for path in steps if (path / "result.json").stat().st_mtime_ns != kept[path]} == {damaged}
    assert contents(copy) == contents(dataset)


@pytest.mark.parametrize("stage", ["encode", "tokenizer", "eval", "assemble"])
def test_damage_without_a_trace_is_found_when_the_file_is_published(copy: Path, tmp_path: Path, stage: str) -> None:
    """As by a disk: neither size nor times change, so only the hash tells."""
    (folder,) = (copy / ".work/assemble").iterdir()
    assembled = Assemble.result(copy / ".work", folder.name)
    assert assembled is not None
    place = next(place for place in assembled.places if place.stage == stage)
    flip(place.source(copy / ".work"), random.Random(3))
    before = contents(copy)
    for out in (copy, tmp_path / "elsewhere"):
        with pytest.raises(DamagedError, match="not as the build wrote it"):
            publish(copy / ".work", assembled.places, str(out), lambda _: None)
    assert contents(copy) == before
    assert not (tmp_path / "elsewhere").exists()
    assert not place.source(copy / ".work").parent.exists()


def test_input_that_is_rewritten_in_place_with_its_old_size_and_time_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}')
    before = stamp(str(path))
    time.sleep(0.05)  # the clock of a file system has ticks
    flip(path, random.Random(4))
    assert path.stat().st_size == 8
    assert changed(str(path), before)


def test_flipped_bit_in_every_file_of_a_bucket_or_in_its_work_folder_is_repaired(
    mix: Path, dataset: Path, copy: Path, bucket: str, tmp_path: Path
) -> None:
    url, work = f"{bucket}/mix", copy / ".work"

    def rebuilt() -> bool:
        return build(mix, out=url, workers=1, work=work).is_new

    assert rebuilt()
    assert not rebuilt()
    filesystem, root = fsspec.core.url_to_fs(url)
    draw = random.Random(4)
    damaged = {}
    for path, content in filesystem.cat(filesystem.find(root)).items():
        damaged[path] = bytearray(content)
        damaged[path][draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        filesystem.pipe_file(path, bytes(damaged[path]))
    (work / "published.json").unlink()  # as on another machine: every file is read
    assert len(damaged) > 10
    assert rebuilt()
    path = f"{root}/shards/shard.00001.mds"
    filesystem.pipe_file(path, bytes(damaged[path]))
    for stage in ("encode", "assemble"):
        flip(max(files_of(work / stage), key=lambda path: path.stat().st_size), random.Random(5))
    assert rebuilt()
    assert not rebuilt()
    filesystem.invalidate_cache()
    found = {name[len(root) + 1 :]: filesystem.cat_file(name) for name in filesystem.find(root)}
    assert found == contents(dataset)
