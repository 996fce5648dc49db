"""The dataset card has the metadata that the Hub and `datasets` read, and the summary names what to do next."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from pipeline.build import main
from pipeline.report.card import _size_category
from tests.pipeline.conftest import write_mix

pytestmark = pytest.mark.slow  # builds datasets


def front_matter(card: Path) -> dict[str, object]:
    _, metadata, _ = card.read_text().split("---\n", 2)
    loaded: dict[str, object] = yaml.safe_load(metadata)
    return loaded


def test_metadata_of_the_card_describes_the_curated_files(dataset: Path) -> None:
    metadata = front_matter(dataset / "README.md")
    config = {"config_name": "default", "data_files": [{"split": "train", "path": "curated/*.parquet"}]}
    assert metadata["configs"] == [config]
    assert metadata["license"] == "unknown"
    assert metadata["size_categories"] == ["n<1K"]
    described = metadata["dataset_info"]
    assert isinstance(described, dict)
    files = sorted(dataset.glob("curated/*.parquet"))
    assert files
    for file in files:
        schema = pq.read_schema(file)
        assert [field["name"] for field in described["features"]] == schema.names
        for field in described["features"]:
            expected = pa.list_(pa.string()) if "list" in field else pa.type_for_alias(field["dtype"])
            assert schema.field(field["name"]).type == expected


def test_summary_names_a_smaller_vocabulary_and_gives_a_run_its_own_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = write_mix(tmp_path, rows=20)
    out = tmp_path / "my mix"
    assert main([str(manifest), "--out", str(out), "--workers", "1", "license=cc-by-4.0", 'name="a: b"']) == 0
    text = capsys.readouterr().out
    assert "the vocabulary is smaller than tokenizer.vocab_size=600" in text
    assert f"data='{out}' out='out/my mix-train'" in text
    metadata = front_matter(out / "README.md")
    assert (metadata["license"], metadata["pretty_name"]) == ("cc-by-4.0", "a: b")
    assert "Licence: cc-by-4.0" in (out / "README.md").read_text()


@pytest.mark.parametrize(
    ("samples", "category"),
    [(1, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (10**6, "1M<n<10M"), (10**12 - 1, "100B<n<1T"), (10**12, "n>1T")],
)
def test_size_category_is_the_hubs(samples: int, category: str) -> None:
    assert _size_category(samples) == category
