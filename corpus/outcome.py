"""Why an input row, or a pair made from it, did or did not reach the dataset.

Every input row that yields no pair, and every pair, ends in exactly one
outcome: an `Outcome`, or the `outcome` of a quality rule (pipeline/rules),
which each rule names itself.
"""

from enum import StrEnum


class Outcome(StrEnum):
    """The last thing that happened to a pair, or to a row without a pair."""

    KEPT = "kept"

    # A row that could not be read (corpus/formats).
    INVALID_SYNTAX = "invalid_syntax"
    """The row is not valid JSON, CSV, YAML, …"""
    INVALID_UNICODE = "invalid_unicode"
    """Bytes that are not UTF-8, or a lone surrogate in an escape."""
    DUPLICATE_KEY = "duplicate_key"
    """One object names a key twice, so its value is ambiguous."""
    TOO_DEEP = "too_deep"
    """Nested deeper than any instruction data is."""
    TOO_LARGE = "too_large"
    """One row larger than the reader's bound on a row."""
    WRONG_COLUMNS = "wrong_columns"
    """A CSV row with more or fewer cells than the header."""

    # A row that was read but yields no pair (corpus/adapters).
    NOT_A_RECORD = "not_a_record"
    """The row is not an object with named fields."""
    MISSING_FIELD = "missing_field"
    """A field that the adapter needs is absent or null."""
    WRONG_TYPE = "wrong_type"
    """A field holds another type than the adapter needs."""
    NO_PAIR = "no_pair"
    """A well-formed row without any instruction-response pair, such as a conversation without an answer."""
    REJECTED_LABEL = "rejected_label"
    """Preference data marks the response as bad (KTO label false)."""

    # Cleaning (pipeline/clean).
    EMPTY_INSTRUCTION = "empty_instruction"
    EMPTY_RESPONSE = "empty_response"
    UNCLOSED_THINK = "unclosed_think"
    """A <think> block without its end: what of the response is thinking cannot be told."""
    TOO_LONG = "too_long"
    """More characters than the manifest allows."""

    # Duplicates (pipeline/exact, pipeline/near).
    EXACT_DUPLICATE = "exact_duplicate"
    """Equal to its twin up to white space and the instruction's letter case."""
    NEAR_DUPLICATE = "near_duplicate"
    """In almost the same words as its twin, with nothing informative lost; the score is their Jaccard similarity."""

    # Decontamination (pipeline/decontaminate).
    CONTAMINATED = "contaminated"
    """Holds a question or a solution of an eval source; the detail names it, the score is the share that is covered."""

    # Caps (pipeline/caps).
    OVER_CAP = "over_cap"
    """There are as many responses to its instruction as the manifest keeps; its twin has the first of them."""

    # Tokenization (pipeline/tokenize).
    SHORT_RESPONSE = "short_response"
    """Fewer response tokens than the manifest asks for."""
    TOO_MANY_TOKENS = "too_many_tokens"
    """Longer than a sample may be, and not truncatable under the manifest's rule."""


class FileOutcome(StrEnum):
    """What became of an input file as a whole (table ledger/files.parquet)."""

    READ = "read"
    EMPTY = "empty"
    """Zero bytes, or no row in what there is (an empty list, a header alone): read, and nothing in it."""
    SKIPPED_NOT_DATA = "skipped_not_data"
    """A licence, a readme, a label list: no rows to read, by name or content."""
    TRUNCATED = "truncated"
    """The rows before the break were read; position says where it stops."""
    UNREADABLE = "unreadable"
    """No row could be read; detail says why."""
