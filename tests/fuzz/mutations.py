"""Ways to break valid files: bytes, numbers in binary headers, words of a format, values inside of JSON."""

import copy
import json
import struct
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import strategies as st

WORDS: tuple[bytes, ...] = (
    *(b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\r", b"\n", b"\r\n", b'"', b'\\"', b"\\u", b"\\ud800"),
    *(b"{", b"}", b"[", b"]", b",", b":", b"- ", b"&a ", b"*a", b"!!python/object/apply:os.system", b"---\n", b"?"),
    *(b"null", b"NaN", b"1e999", b"-1", b"PAR1", b"ARROW1", b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"ustar", b"PK\x03\x04"),
    *(b"9" * 40, b"[" * 200, b'{"a":' * 80, b"\x1b[2J", b"../../x", b"/etc/passwd", b"\xe2\x80\xae"),
)
NUMBERS = (0, 1, -1, 2**7, 2**15 - 1, 2**16, 2**31 - 1, 2**31, -(2**31), 2**32 - 1, 2**40, 2**63 - 1)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 1.5, 1e308, 2**31, 2**32, 2**63, 10**30, float("nan"), float("inf")),
    *("", "x", "0", "../x", "/etc/passwd", "a\x00b", "\ud800", "\x1b[2J", "9" * 400, "millrace"),
    *([], {}, [[]], [None], {"": None}, [1, "a", None], {"a": {"b": []}}),
)


def broken(contents: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """The contents, each with up to four changes of its bytes."""
    changes = st.lists(_CHANGES, max_size=4)
    return st.builds(_changed, contents, changes)


def _changed(content: bytes, changes: list[Callable[[bytes], bytes]]) -> bytes:
    for change in changes:
        content = change(content)
    return content


def _place(share: float, size: int) -> int:
    return min(size, int(share * (size + 1)))


def _overwritten(share: float, new: bytes) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        at = _place(share, len(content))
        return content[:at] + new + content[at + len(new) :]

    return change


def _inserted(share: float, new: bytes) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        at = _place(share, len(content))
        return content[:at] + new + content[at:]

    return change


def _cut(begin: float, end: float) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        first, last = sorted((_place(begin, len(content)), _place(end, len(content))))
        return content[:first] + content[last:]

    return change


def _repeated(begin: float, end: float) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        first, last = sorted((_place(begin, len(content)), _place(end, len(content))))
        return content[:last] + content[first:last] + content[last:]

    return change


def _truncated(share: float) -> Callable[[bytes], bytes]:
    return lambda content: content[: _place(share, len(content))]


# No floats: training turns denormal numbers off for the process, which hypothesis does not bear.
_SHARES = st.integers(0, 2**16).map(lambda number: number / 2**16)
_NUMBER = st.builds(
    lambda number, form: struct.pack(form, number & (2 ** (8 * struct.calcsize(form)) - 1)),
    st.sampled_from(NUMBERS),
    st.sampled_from(["<B", "<H", "<I", "<Q", ">I", ">Q"]),
)
_CHANGES: st.SearchStrategy[Callable[[bytes], bytes]] = st.one_of(
    st.builds(_overwritten, _SHARES, st.binary(min_size=1, max_size=3)),
    st.builds(_overwritten, _SHARES, _NUMBER),
    st.builds(_inserted, _SHARES, st.sampled_from(WORDS)),
    st.builds(_inserted, _SHARES, st.binary(min_size=1, max_size=9)),
    st.builds(_cut, _SHARES, _SHARES),
    st.builds(_repeated, _SHARES, _SHARES),
    st.builds(_truncated, _SHARES),
)


def broken_json(content: bytes) -> st.SearchStrategy[bytes]:
    """A JSON document with values replaced, keys removed, added or renamed; or with its bytes changed."""
    places = list(_places(json.loads(content)))
    changes = st.lists(
        st.tuples(st.sampled_from(places), st.sampled_from(["replace", "remove", "rename", "add", "nest"]), _VALUES),
        min_size=1,
        max_size=3,
    )
    return st.one_of(changes.map(lambda chosen: _rewritten(content, chosen)), broken(st.just(content)))


_VALUES = st.sampled_from(VALUES)


def _places(value: Any, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    yield at
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from _places(item, (*at, key))


def _rewritten(content: bytes, changes: list[tuple[tuple[str | int, ...], str, Any]]) -> bytes:
    document = json.loads(content)
    for place, kind, drawn in changes:
        value = copy.deepcopy(drawn)  # which later changes may change
        if not place:
            document = value if kind == "replace" else document
            continue
        *parents, last = place
        holder = document
        try:
            for step in parents:
                holder = holder[step]
            if kind == "remove":
                del holder[last]
            elif kind == "rename" and isinstance(holder, dict):
                holder[str(value)] = holder.pop(last)
            elif kind == "add" and isinstance(holder, dict):
                holder[str(value)] = value
            elif kind == "nest":
                holder[last] = [holder[last]]
            else:
                holder[last] = value
        except (KeyError, IndexError, TypeError):  # an earlier change has removed the place
            continue
    return json.dumps(document).encode()
