"""Outcomes: why an input row, or a pair made from it, is in the dataset or not.

Every input row that yields no pair, and every pair, ends in exactly one
outcome: an `Outcome`, or the `outcome` of a quality rule (pipeline/rules),
which each rule names itself.
"""

from enum import StrEnum


class Outcome(StrEnum):
    """What happened last to a pair, or to a row without a pair."""

    KEPT = "kept"

    # A row that could not be read (corpus/formats).
    INVALID_SYNTAX = "invalid_syntax"
    """The row is not valid JSON, CSV, YAML, …"""
    INVALID_UNICODE = "invalid_unicode"
    """Bytes that are not UTF-8, or a lone surrogate in an escape."""
    DUPLICATE_KEY = "duplicate_key"
    """One object names a key twice, so its value is ambiguous."""
    TOO_DEEP = "too_deep"
    """The row is nested deeper than the reader's limit."""
    TOO_LARGE = "too_large"
    """The row is larger than the reader's limit."""
    WRONG_COLUMNS = "wrong_columns"
    """A CSV row with more or fewer cells than the header."""

    # A row, or one answer of a row, that was read but yields no pair (corpus/adapters).
    NOT_A_RECORD = "not_a_record"
    """The row is not an object with named fields."""
    MISSING_FIELD = "missing_field"
    """A field that the adapter needs is absent or null."""
    WRONG_TYPE = "wrong_type"
    """A field has a type that the adapter does not accept."""
    NO_PAIR = "no_pair"
    """A well-formed row without any instruction-response pair, such as a conversation without an answer."""
    MEDIA = "media"
    """The row carries an image, sound or video that its text refers to."""
    REJECTED_LABEL = "rejected_label"
    """Preference data marks the response as bad (KTO label false)."""
    OUTRANKED = "outranked"
    """Preference data has a better answer to the same prompt."""
    NOT_TRAINED = "not_trained"
    """The data marks the answer as context only (a weight of 0, a mask, `train: false`)."""

    # Cleaning (pipeline/ingest).
    EMPTY_INSTRUCTION = "empty_instruction"
    EMPTY_RESPONSE = "empty_response"
    UNCLOSED_THINK = "unclosed_think"
    """A <think> block without its end, so the response cannot be separated from it."""
    TOO_LONG = "too_long"
    """More characters than the manifest allows."""

    # Duplicates (pipeline/dedup).
    EXACT_DUPLICATE = "exact_duplicate"
    """Equal to its twin up to white space and the instruction's letter case."""
    NEAR_DUPLICATE = "near_duplicate"
    """Nearly the same words as its twin, and no informative ones less; the score is their Jaccard similarity."""

    # Decontamination (pipeline/decontaminate).
    CONTAMINATED = "contaminated"
    """Contains a question or solution of an eval source; the detail names it, the score is the share found."""

    # Caps (pipeline/dedup).
    OVER_CAP = "over_cap"
    """Its instruction already has as many responses as the manifest keeps; its twin has the first of them."""

    # What is sharded (pipeline/shards).
    NOT_DRAWN = "not_drawn"
    """The epochs that the mix is built for draw no more of its stratum than is kept."""

    # Tokenization (pipeline/shards).
    SHORT_RESPONSE = "short_response"
    """Fewer response tokens than the manifest requires."""
    TOO_MANY_TOKENS = "too_many_tokens"
    """Longer than a sample may be, and not truncatable under the manifest's rule."""


class FileOutcome(StrEnum):
    """What happened to an input file (table ledger/files.parquet)."""

    READ = "read"
    EMPTY = "empty"
    """Read, but without rows: zero bytes, an empty list, or a header only."""
    SKIPPED_NOT_DATA = "skipped_not_data"
    """A licence, readme or label list, by its name or content."""
    TRUNCATED = "truncated"
    """Read up to the position where its data ends early."""
    UNREADABLE = "unreadable"
    """No row could be read; the detail has the cause."""
