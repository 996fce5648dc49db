"""Two decoders read a JSON value: the fast one never answers otherwise than the strict one."""

import json
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.formats import strict_json
from corpus.formats.base import Limits, Row, RowError
from corpus.outcome import Outcome

LIMITS = Limits(max_depth=4)

SCALARS = st.sampled_from(
    [
        *(
            '"x"',
            '"a:b"',
            '": x"',
            r'"\"k\": 1"',
            r'"q\\"',
            '" : "',
            '""',
            r'"\ud83d\ude00"',
            r'"\ud800"',
            '"x\ty"',
            '"é"',
        ),
        *("1", "-0", "1e400", "1e-999", "12345678901234567890123", "18446744073709551616", "9007199254740993", "01"),
        *("0.3", "2.5e-324", "1.7976931348623157e308", "NaN", "-Infinity", "true", "null", "nan", "9" * 5000),
    ]
) | st.floats(allow_nan=False, allow_infinity=False).map(repr)
KEYS = st.sampled_from(['"a"', '"b"', '"c"', r'"a\\"', r'"a"', '"é"', r'"\""', '":"'])
COLONS = st.sampled_from([":", ": ", " : ", "\t:"])


def _object(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    member = st.tuples(KEYS, COLONS, values).map("".join)
    return st.lists(member, max_size=4).map(lambda members: "{" + ", ".join(members) + "}")


VALUES = st.recursive(
    SCALARS, lambda inner: _object(inner) | st.lists(inner, max_size=3).map(lambda items: f"[{','.join(items)}]")
)
DAMAGE = st.sampled_from(
    [b"", b"", b"", b'"', b"{", b"}", b",", b":", b"\\", b"\xff", b"\x00", b" ", b"\xef\xbb\xbf", b"1"]
)


def outcome(decode: Callable[[bytes, Limits], Row], raw: bytes) -> str | tuple[Outcome, str]:
    try:
        return repr(decode(raw, LIMITS))
    except RowError as error:
        return error.reason, error.detail


@settings(max_examples=400)
@given(_object(VALUES), DAMAGE, st.integers(0, 60))
def test_fast_decoder_gives_the_value_or_error_of_the_strict_one(text: str, damage: bytes, at: int) -> None:
    raw = text.encode()
    raw = raw[:at] + damage + raw[at:]
    assert outcome(strict_json.parse_bytes, raw) == outcome(strict_json._parse_strictly, raw)


@pytest.mark.parametrize(
    "row",
    [
        {"instruction": 'Say: "a": {"b": 1}', "response": "12:30", "notes": None},
        {"messages": [{"role": "user", "content": "Time? 12:30"}, {"role": "assistant", "content": "é"}]},
    ],
)
def test_rows_as_people_write_them_need_only_the_fast_decoder(row: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strict_json, "_parse_strictly", None)
    raw = json.dumps(row).encode()
    assert strict_json.parse_bytes(raw, Limits()) == json.loads(raw)


def test_a_key_that_occurs_twice_is_found_however_it_is_spelled() -> None:
    for raw in (rb'{"a": 1, "\u0061": 2}', rb'{"x": ": y", "b\\": 0, "a": {"k" : 1, "k": 2}}', b'{"a": 1, "a" : ":"}'):
        with pytest.raises(RowError) as found:
            strict_json.parse_bytes(raw, Limits())
        assert found.value.reason == Outcome.DUPLICATE_KEY
