"""The manifest's `near_dedup:`, and the probability that its bands propose a pair."""

from pydantic import Field, model_validator

from corpus.config import Config

MAX_HASHES = 1024


class NearDedupSpec(Config):
    """Removal of pairs that have the content of another in almost the same words.

    MinHash over word shingles proposes pairs of records; one is dropped only if the exact Jaccard similarity reaches
    `threshold` and nothing differs but what is known to be uninformative: see "Near duplicates" in pipeline/README.md.
    """

    enabled: bool = True
    threshold: float = Field(default=0.8, gt=0.0, le=1.0)
    """Smallest Jaccard similarity of a duplicate to its twin, over the shingles of instruction and response."""
    shingle: int = Field(default=5, ge=1, le=32)
    """Words of a shingle; a text of fewer words is one shingle. In scripts without spaces a character is a word."""
    bands: int = Field(default=14, ge=1, le=256)
    """Bands of the signature; two records are compared if they agree in at least one."""
    rows: int = Field(default=8, ge=1, le=64)
    """Hashes of a band."""

    @model_validator(mode="after")
    def _check(self) -> "NearDedupSpec":
        if self.bands * self.rows > MAX_HASHES:
            raise ValueError(f"bands x rows is {self.bands * self.rows:,}; expected at most {MAX_HASHES:,} hashes")
        return self


def proposal_probability(similarity: float, bands: int, rows: int) -> float:
    """Return the probability that two records of a Jaccard similarity share a band: the S-curve 1 - (1 - s^rows)^bands.

    Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, section 3.4.2.
    """
    return float(1.0 - (1.0 - similarity**rows) ** bands)


def describe(spec: NearDedupSpec) -> str:
    """Return text that shows the S-curve around the threshold."""
    points = sorted({0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, spec.threshold})
    shown = "   ".join(f"{s:.2f} {proposal_probability(s, spec.bands, spec.rows):.1%}" for s in points)
    return (
        f"near duplicates: Jaccard of {spec.shingle}-word shingles at least {spec.threshold}; "
        f"{spec.bands} bands x {spec.rows} rows\n  similarity and the probability of being compared: {shown}"
    )
