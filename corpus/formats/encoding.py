"""Text encodings other than UTF-8: conversion of a stream to UTF-8, and recognition of the likely encoding.

An encoding is stated by the source's `encoding:`, or by a byte-order mark. Text without either must be UTF-8; for what
is not, `describe_encoding` suggests what to state.
"""

import codecs
import re
from collections.abc import Iterator

BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark its mark begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte-order mark to encoding."""

_COMMON = {
    "cp1252": "äöüßéèêëàâçñóíáúãõôîïûùåæøœÄÖÜÉ’‘“”„–—…«»°·€¿¡",
    "cp1250": "ąćęłńóśźżěščřžýáíéůúťďňőűöüăâîșț–„”",
    "cp1251": "оеаинтсрвлкмдпуяыьгзбчйхжшюцщэф–«»",
    "koi8-r": "оеаинтсрвлкмдпуяыьгзбчйхжшюцщэф",
    "gbk": "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里哪么什"
    "，。？！、：；（）“”",
    "big5": "的一是不了在人有我他這個們中來上大為和國地到以說時要就出會可也你對生能而子那得於著下自之年過發後作裡哪麼什"
    "，。？！、：；（）「」",
    "shift_jis": "のにはをたがでてとしれさいるうあこなからもきくまつりよんスルトンー、。？",
    "euc_jp": "のにはをたがでてとしれさいるうあこなからもきくまつりよんスルトンー、。？",
    "euc_kr": "이다는에의을가은를하고로서한지도기사리대시어자나인스라니그요",
}
"""Encoding to letters and marks that are frequent in texts that use it."""

_LIKELY = 0.2
"""Share of frequent characters among all that are not ASCII, from which an encoding is suggested."""

_CESU_SURROGATE = re.compile(rb"\xed[\xa0-\xaf][\x80-\xbf]\xed[\xb0-\xbf][\x80-\xbf]")


def _mark(error: UnicodeError) -> tuple[str, int]:
    """Handle bytes that an encoding does not have: they become the byte 0xff, which readers reject."""
    if isinstance(error, UnicodeDecodeError):
        return "\udcff", error.end
    raise error


codecs.register_error("millrace.mark", _mark)


def to_utf8(chunks: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    """Convert a stream to UTF-8; of a byte sequence that `encoding` does not have, the byte 0xff is left."""
    decoder = codecs.getincrementaldecoder(encoding)("millrace.mark")
    for chunk in chunks:
        if text := decoder.decode(chunk):
            yield text.encode("utf-8", "surrogateescape")
    if text := decoder.decode(b"", final=True):
        yield text.encode("utf-8", "surrogateescape")


def marked_encoding(head: bytes) -> str | None:
    """Return the encoding that the byte-order mark at the begin of a file states, if there is one."""
    return next((encoding for bom, encoding in BOMS if head.startswith(bom)), None)


def wide_encoding(head: bytes) -> str | None:
    """Return the encoding of UTF-16 or UTF-32 text without a byte-order mark; None for anything else."""
    head = head[: len(head) // 4 * 4] or head[: len(head) // 2 * 2]
    zeros = [head[place::4].count(0) / max(len(head) // 4, 1) for place in range(4)]
    if min(zeros[2:]) > 0.9 and zeros[0] < 0.1:
        candidate = "utf-32-le"
    elif min(zeros[:2]) > 0.9 and zeros[3] < 0.1:
        candidate = "utf-32-be"
    elif min(zeros[1], zeros[3]) > 0.1 and max(zeros[0], zeros[2]) < 0.02:
        candidate = "utf-16-le"
    elif min(zeros[0], zeros[2]) > 0.1 and max(zeros[1], zeros[3]) < 0.02:
        candidate = "utf-16-be"
    else:
        return None
    text = head.decode(candidate, "replace")
    printable = sum(character.isprintable() or character in "\t\r\n" for character in text)
    return candidate if printable >= 0.95 * len(text) else None


_SHIFTS = ((rb"\x1b\$[@B].*?\x1b\([BJ]", "iso2022_jp"), (rb"\x1b\$\)C", "iso2022_kr"))
"""Marks of encodings of 7 bits, whose text is valid UTF-8 too."""


def shifted_encoding(head: bytes) -> str | None:
    """Return the encoding of text that switches its character set by escapes; None for anything else."""
    for pattern, encoding in _SHIFTS:
        if re.search(pattern, head, re.DOTALL) and not any(byte > 0x7F for byte in head):
            return encoding
    return None


def likely_encoding(sample: bytes) -> str | None:
    """Return the encoding whose frequent letters a sample of bytes has, with lines that are not UTF-8."""
    best, best_share = None, _LIKELY
    for encoding, common in _COMMON.items():
        text = sample.decode(encoding, "replace")
        foreign = [character for character in text if character > "\x7f"]
        if not foreign or foreign.count("\ufffd") > 0.02 * len(foreign) + 1:
            continue
        share = sum(character in common for character in foreign) / len(foreign)
        if share > best_share:
            best, best_share = encoding, share
    return best


def describe_encoding(sample: bytes) -> str:
    """Return the part of a message that suggests what to do about bytes that are not UTF-8."""
    if _CESU_SURROGATE.search(sample) and is_utf8(_CESU_SURROGATE.sub(b"", sample)):
        return "the text is CESU-8, UTF-8 of UTF-16 surrogates; export the file as UTF-8"
    found = likely_encoding(sample)
    if found is None:
        return "state the source's `encoding:`, or convert the file to UTF-8"
    return f"the text looks like {found}: if so, state `encoding: {found}` in the source"


def is_utf8(content: bytes) -> bool:
    """Whether bytes are UTF-8."""
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True
