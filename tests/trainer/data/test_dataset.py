"""Claims about reading a dataset: what is refused, what is fetched, what is checked."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import xxhash
from streaming import MDSWriter

import corpus.storage.retry
from tests.trainer.fixtures import FIRST, seal
from trainer.data.dataset import Dataset, open_dataset
from trainer.data.fetch import DatasetError
from trainer.data.shards import ShardStore


def read_all(dataset: Dataset) -> list[int]:
    """First token of each sample, as the sample's index."""
    store = ShardStore(dataset)
    return [int(store.read(i).tokens[0]) - FIRST for i in range(dataset.samples)]


def reseal(folder: Path) -> None:
    about = json.loads((folder / "dataset.json").read_text())
    seal(folder, samples=about["samples"], tokens=about["tokens"], vocab_size=about["tokenizer"]["vocab_size"])


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def flip_last_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def upload(folder: Path, url: str) -> None:
    filesystem, root = fsspec.core.url_to_fs(url)
    for path in folder.rglob("*"):
        if path.is_file():
            filesystem.put_file(str(path), f"{root}/{path.relative_to(folder).as_posix()}")


def tree(folder: Path) -> dict[str, str]:
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus.storage.retry, "PAUSE", 0.01)


def test_local_dataset_is_read_in_place_and_left_as_it_was(data: Path, tmp_path: Path) -> None:
    before = tree(data)
    assert read_all(open_dataset(str(data), tmp_path / "cache")) == list(range(120))
    assert tree(data) == before
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("name", ["lengths.npy", "strata.json", "tokenizer/tokenizer.json", "shards/index.json"])
def test_damaged_sidecar_is_named(data: Path, tmp_path: Path, name: str) -> None:
    flip_last_bit(data / name)
    with pytest.raises(DatasetError, match=f"{name}: does not have the hash"):
        open_dataset(str(data), tmp_path)
    (data / name).unlink()
    with pytest.raises(DatasetError, match=f"{name}: is missing"):
        open_dataset(str(data), tmp_path)


def test_folder_without_a_dataset_and_missing_folder_are_different_errors(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"has no dataset\.json, so it is not a finished dataset"):
        open_dataset(str(tmp_path), tmp_path)
    with pytest.raises(DatasetError, match="no such folder"):
        open_dataset(str(tmp_path / "none"), tmp_path)


def test_other_format_and_missing_fields_are_refused(data: Path, tmp_path: Path) -> None:
    whole = (data / "dataset.json").read_bytes()
    damages: list[tuple[dict[str, Any], str]] = [
        ({"samples": "many"}, r"samples is 'many', expected a valid integer"),
        ({"files": None}, r"files is None, expected an object"),
        ({"files": {"lengths.npy": {}}}, r"lacks the field files\.lengths\.npy\.bytes"),
        ({"eval": None}, r"eval is None, expected an object"),
        ({"files": {}}, r"does not list shards/index\.json"),
        ({"samples": 119}, r"index\.json: the shards hold 120 samples, expected 119"),
    ]
    for damage, problem in damages:
        (data / "dataset.json").write_bytes(whole)
        edit(data / "dataset.json", **damage)
        with pytest.raises(DatasetError, match=problem):
            open_dataset(str(data), tmp_path)
    edit(data / "dataset.json", format="millrace-dataset/9")
    with pytest.raises(
        DatasetError, match=r"dataset\.json: has format 'millrace-dataset/9', expected 'millrace-dataset/"
    ):
        open_dataset(str(data), tmp_path)


def test_dataset_with_the_earlier_order_of_tags_is_refused_with_the_reason(data: Path, tmp_path: Path) -> None:
    edit(data / "dataset.json", format="millrace-dataset/1")
    with pytest.raises(DatasetError, match=r"condition tags in another order.*build the dataset again"):
        open_dataset(str(data), tmp_path)


def test_tokenizer_without_a_special_token_or_with_ids_that_its_dtype_cannot_hold_is_refused(
    data: Path, tmp_path: Path
) -> None:
    tokenizer = json.loads((data / "dataset.json").read_text())["tokenizer"]
    special = {tag: number for tag, number in tokenizer["special"].items() if tag != "<|im_end|>"}
    damages: list[tuple[dict[str, Any], str]] = [
        ({"special": special}, r"tokenizer: lacks the special token <\|im_end\|>"),
        ({"special": special | {"<|im_end|>": 60_000}}, "<|im_end|> has the id 60000, expected one below vocab_size"),
        ({"vocab_size": 65_537}, "tokenizer: token_dtype is uint16, expected uint32 for a vocabulary of 65,537"),
        ({"token_dtype": "uint32"}, "tokenizer: token_dtype is uint32, expected uint16 for a vocabulary of"),
        ({"token_dtype": "int64"}, "tokenizer.token_dtype is 'int64', expected 'uint16' or 'uint32'"),
    ]
    for damage, problem in damages:
        edit(data / "dataset.json", tokenizer=tokenizer | damage)
        with pytest.raises(DatasetError, match=problem):
            open_dataset(str(data), tmp_path)


def test_strata_with_a_gap_are_refused(data: Path, tmp_path: Path) -> None:
    strata = json.loads((data / "strata.json").read_text())["strata"]
    strata[1]["begin"] += 1
    (data / "strata.json").write_text(json.dumps({"strata": strata}))
    reseal(data)
    with pytest.raises(DatasetError, match="expected it to begin at 40"):
        open_dataset(str(data), tmp_path)


def test_names_that_leave_the_dataset_are_refused(data: Path, tmp_path: Path) -> None:
    about = json.loads((data / "dataset.json").read_text())
    about["files"]["../secret.json"] = {"bytes": 1, "sha256": "0" * 64}
    about["tokenizer"]["file"] = "../secret.json"
    (data / "dataset.json").write_text(json.dumps(about))
    with pytest.raises(DatasetError, match="outside of the dataset"):
        open_dataset(str(data), tmp_path)


def test_shard_that_leaves_the_dataset_is_refused(data: Path, tmp_path: Path) -> None:
    index = json.loads((data / "shards" / "index.json").read_text())
    index["shards"][0]["raw_data"]["basename"] = "../lengths.npy"
    (data / "shards" / "index.json").write_text(json.dumps(index))
    reseal(data)
    with pytest.raises(DatasetError, match="outside of shards/"):
        ShardStore(open_dataset(str(data), tmp_path))


def test_pickled_columns_are_refused(data: Path, tmp_path: Path) -> None:
    shutil.rmtree(data / "shards")
    columns = {"tokens": "pkl", "prefix_len": "uint16", "row_id": "bytes"}
    with MDSWriter(out=str(data / "shards"), columns=columns, hashes=["xxh64"], progress_bar=False) as writer:
        for _ in range(120):
            writer.write({"tokens": np.zeros(1), "prefix_len": np.uint16(1), "row_id": bytes(16)})
    reseal(data)
    with pytest.raises(DatasetError, match=r"'tokens': 'pkl'.*others may run code when read"):
        ShardStore(open_dataset(str(data), tmp_path))


def test_damaged_shard_is_named_before_a_sample_of_it_is_used(data: Path, tmp_path: Path) -> None:
    flip_last_bit(data / "shards" / "shard.00001.mds")
    store = ShardStore(open_dataset(str(data), tmp_path))
    assert store.read(0).tokens[0] == FIRST
    with pytest.raises(DatasetError, match=r"shards/shard\.00001\.mds: has the xxh64 hash"):
        [store.read(i) for i in range(120)]


def test_missing_and_cut_shards_are_named(data: Path, tmp_path: Path) -> None:
    shard = data / "shards" / "shard.00002.mds"
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(DatasetError, match=r"shard\.00002\.mds: has .* bytes, expected .* as in index\.json"):
        read_all(open_dataset(str(data), tmp_path))
    shard.unlink()
    with pytest.raises(DatasetError, match=r"shard\.00002\.mds: is missing"):
        read_all(open_dataset(str(data), tmp_path))


def test_shards_that_contradict_the_lengths_are_refused(data: Path, tmp_path: Path) -> None:
    lengths = np.load(data / "lengths.npy")
    lengths[7] += np.array([1, -1]).astype(np.uint16)
    np.save(data / "lengths.npy", lengths)
    reseal(data)
    with pytest.raises(DatasetError, match=r"sample 7 has .* as in lengths\.npy"):
        read_all(open_dataset(str(data), tmp_path))
    lengths[7] = (0, lengths[7].sum())
    np.save(data / "lengths.npy", lengths)
    reseal(data)
    with pytest.raises(DatasetError, match=r"sample 7 has a prefix of 0 and a response of 3 tokens, expected a prefix"):
        open_dataset(str(data), tmp_path)


def test_shard_of_other_bytes_than_samples_is_refused(data: Path, tmp_path: Path) -> None:
    shard = data / "shards" / "shard.00000.mds"
    shard.write_bytes(bytes(shard.stat().st_size))
    index = json.loads((data / "shards" / "index.json").read_text())
    index["shards"][0]["raw_data"]["hashes"]["xxh64"] = xxhash.xxh64(shard.read_bytes()).hexdigest()
    (data / "shards" / "index.json").write_text(json.dumps(index))
    reseal(data)
    with pytest.raises(DatasetError, match=r"shard\.00000\.mds: sample 0 cannot be decoded"):
        read_all(open_dataset(str(data), tmp_path))


def test_index_with_another_description_of_a_shard_is_refused(data: Path, tmp_path: Path) -> None:
    whole = json.loads((data / "shards" / "index.json").read_text())
    for damage in ({"version": 1}, {"format": "csv"}, {"column_names": None}, {"color": "red"}):
        entry = {**whole["shards"][1], **damage}
        index = {**whole, "shards": [whole["shards"][0], entry, *whole["shards"][2:]]}
        (data / "shards" / "index.json").write_text(json.dumps(index))
        reseal(data)
        with pytest.raises(DatasetError, match=r"index\.json: (has an unknown field )?shards\.1\."):
            ShardStore(open_dataset(str(data), tmp_path))


def test_dataset_on_s3_is_read_through_the_cache(data: Path, tmp_path: Path, bucket: str) -> None:
    upload(data, f"{bucket}/mix")
    cache = tmp_path / "cache"
    assert read_all(open_dataset(f"{bucket}/mix", cache)) == list(range(120))
    shard = next(cache.rglob("shard.00001.mds"))
    flip_last_bit(shard)
    assert read_all(open_dataset(f"{bucket}/mix/", cache)) == list(range(120))
    assert shard.read_bytes() == (data / "shards" / "shard.00001.mds").read_bytes()


def test_shard_that_s3_lacks_or_has_damaged_is_an_error_with_its_url(data: Path, tmp_path: Path, bucket: str) -> None:
    flip_last_bit(data / "shards" / "shard.00001.mds")
    upload(data, f"{bucket}/mix")
    with pytest.raises(
        DatasetError, match=r"s3://millrace/mix/shards/shard\.00001\.mds: download failed after 4 attempts .*xxh64"
    ):
        read_all(open_dataset(f"{bucket}/mix", tmp_path / "cache"))
    filesystem, root = fsspec.core.url_to_fs(bucket)
    filesystem.rm_file(f"{root}/mix/shards/shard.00000.mds")
    with pytest.raises(DatasetError, match=r"shard\.00000\.mds: download failed after 4 attempts .*FileNotFoundError"):
        read_all(open_dataset(f"{bucket}/mix", tmp_path / "other"))
    assert not list((tmp_path / "other").rglob("shard.00000.mds"))


def test_dataset_that_was_replaced_on_s3_is_fetched_anew(data: Path, tmp_path: Path, bucket: str) -> None:
    upload(data, f"{bucket}/mix")
    first = open_dataset(f"{bucket}/mix", tmp_path / "cache")
    edit(data / "dataset.json", fingerprint="another")
    upload(data, f"{bucket}/mix")
    assert open_dataset(f"{bucket}/mix", tmp_path / "cache").fingerprint == "another" != first.fingerprint
