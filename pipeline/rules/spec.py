"""What a manifest says about quality rules: `rules:`, one entry a rule.

On by default is only what is right for any instruction data: a response that repeats itself to no end, and one that
is its own instruction. Every other rule rejects texts that some data has on purpose (refusals for safety tuning,
questions about broken encodings, code, other languages), so a manifest has to ask for it.
"""

from typing import Self

from pydantic import Field, model_validator

from corpus.config import Config


class RepetitionRule(Config):
    """Drops responses that repeat themselves (`repetitive`), as a model without a stop token does."""

    enabled: bool = True
    max_repeated: float = Field(default=0.7, ge=0.0, le=1.0)
    """Largest share of a response's `window`-byte windows that stood earlier in it."""
    window: int = Field(default=32, ge=4, le=1024)
    """Bytes of UTF-8."""
    min_bytes: int = Field(default=400, ge=1)
    """Shorter responses are not examined."""


class CompressionRule(Config):
    """Drops responses that deflate makes very small (`compressible`): repetition with small changes."""

    enabled: bool = False
    max_ratio: float = Field(default=8.0, gt=1.0)
    """Largest ratio of a response's bytes to its deflated bytes. Plain prose has 2 to 3, tables and code up to 6."""
    min_bytes: int = Field(default=400, ge=1)
    """Shorter responses are not examined."""


class EchoRule(Config):
    """Drops responses equal to their instruction (`echo`) up to white space and letter case."""

    enabled: bool = True
    min_chars: int = Field(default=20, ge=1)
    """Shorter ones pass: "Hello!" may answer "Hello!"."""


class RefusalRule(Config):
    """Drops responses that begin by declining or by talking about being an AI (`refusal`)."""

    enabled: bool = False


class PlaceholderRule(Config):
    """Drops responses with text that was to be replaced: "[insert name]", "lorem ipsum" (`placeholder`)."""

    enabled: bool = False


class MissingInputRule(Config):
    """Drops instructions about something that is not there: "No input", an image, an attachment (`missing_input`)."""

    enabled: bool = False


class MojibakeRule(Config):
    """Repairs text that was decoded by the wrong encoding, and drops what cannot be repaired (`mojibake`)."""

    enabled: bool = False
    drop: bool = True
    """Drop the pair when something that looks like it remains; otherwise keep it as it is."""


class LanguageRule(Config):
    """Drops pairs in other languages than those to keep (`language`), as told by a small bundled model."""

    enabled: bool = False
    keep: tuple[str, ...] = ("en",)
    """ISO 639-1 codes."""
    min_confidence: float = Field(default=0.95, ge=0.0, le=1.0)
    """Only a pair that is at least so surely in another language is dropped."""
    min_chars: int = Field(default=60, ge=1)
    """Pairs with fewer letters pass: short texts cannot be told."""


class CodeRule(Config):
    """Drops pairs of which more than a share of the lines looks like program code (`code`)."""

    enabled: bool = False
    max_share: float = Field(default=0.5, ge=0.0, le=1.0)
    """Largest share of a response's lines that are not blank."""
    min_lines: int = Field(default=4, ge=1)
    """Responses of fewer lines pass."""


class LengthRatioRule(Config):
    """Drops pairs whose response is much longer or shorter than the instruction (`length_ratio`)."""

    enabled: bool = False
    min: float = Field(default=0.0, ge=0.0)
    """Least ratio of the response's characters to the instruction's."""
    max: float = Field(default=1000.0, gt=0.0)
    """Largest ratio of the response's characters to the instruction's."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min >= self.max:
            raise ValueError(f"min {self.min} must be smaller than max {self.max}")
        return self


class RulesSpec(Config):
    """All quality rules, in the order of their application; of several that take a pair, the first is its reason."""

    mojibake: MojibakeRule = MojibakeRule()
    repetition: RepetitionRule = RepetitionRule()
    compression: CompressionRule = CompressionRule()
    echo: EchoRule = EchoRule()
    refusal: RefusalRule = RefusalRule()
    placeholder: PlaceholderRule = PlaceholderRule()
    missing_input: MissingInputRule = MissingInputRule()
    language: LanguageRule = LanguageRule()
    code: CodeRule = CodeRule()
    length_ratio: LengthRatioRule = LengthRatioRule()
