"""Removal of credentials from messages. Imports so little that every module can afford it.

command line, manifests, locations ─ remember ─▶ known secrets ─┐
message of a program or library ────────────────────────────────┴─ redact ─▶ text without credentials
"""

import os
import re
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote, unquote

HIDDEN = "..."
"""Replaces everything after a URL's scheme where credentials and path cannot be separated."""
_WORD_WITH_URL = re.compile(r"\S*://\S*")
_OBJECT_STORES = re.compile(r"(?:s3a?|gs|gcs|az|abfss?|hf)://[^/:@?#]+(?::\d+)?(?:/|$)")
"""A URL of an object store without user and password; the rest is a key, of any characters."""
_SIGNATURE = re.compile(r"(?i)[?&](x-amz-|x-goog-|awsaccesskeyid|googleaccessid|signature=|sig=|token=|password=|key=)")
_ARCHIVES = re.compile(r"(?:(?!://)\S)*?(?<![\w+.-])(?:(?:zip|tar|libarchive)://[^\s:@?#]*::)+")
"""The outer parts of a chained URL, which are paths inside an archive and cannot hold credentials."""
_GENERATOR = re.compile(r"(?<![\w+.-])generator$")


_VARIABLE = re.compile("(?i)secret|token|password|access_key|api_key")
"""Names of environment variables that hold secrets."""
_SHORTEST = 6
"""Characters of the shortest secret that is looked for outside of URLs: a shorter one would be found by chance."""
_SHORTEST_PART = 4
"""The same for what a library, which ends a user or host at a `/`, makes of a secret."""

_known: set[str] = set()
_pattern = re.compile("(?!)")


def remember(value: Any) -> None:
    """Remember the credentials of the URLs in a text, or in the texts of nested lists and mappings.

    From then on `redact` removes them wherever they are: libraries quote the password of a URL as part of the name of
    a bucket or host.
    """
    if isinstance(value, str):
        _add(secret for match in _WORD_WITH_URL.finditer(value) for secret in _secrets_of(match[0]))
    elif isinstance(value, dict):
        for key, item in value.items():
            remember(key)
            remember(item)
    elif isinstance(value, list | tuple):
        for item in value:
            remember(item)


def remember_environment() -> None:
    """Remember the values of environment variables whose names say that they are secret."""
    _add(value for name, value in os.environ.items() if _VARIABLE.search(name) and len(value) > _SHORTEST)


def remember_secret(secret: str) -> None:
    """Remember a text that is secret as a whole, such as a token."""
    _add([secret])


def _secrets_of(word: str) -> Iterator[str]:
    """Yield the credentials of a word with a URL, whole and in the parts that a library may take for something else."""
    scheme, _, rest = _without_archives(word)[1].partition("://")
    if _is_generator(scheme, rest) or (_OBJECT_STORES.match(f"{scheme}://{rest}") and not _SIGNATURE.search(rest)):
        return
    shown = _redact_word(f"{scheme}://{rest}").partition("://")[2]
    before, _, after = (rest, "", "") if shown == HIDDEN else rest.rpartition(shown) if shown else ("", "", rest)
    user, _, password = before.removesuffix("@").partition(":")
    for secret in (
        before.rpartition("@")[0],
        before.removesuffix("@"),
        password.rpartition("@")[0],
        password or user,
        *re.findall("[?&#][^=&#]*=([^&#]*)", after),
        *re.findall("#([^=&#]+)$", after),
    ):
        if len(secret) >= _SHORTEST:
            yield secret
    for part in re.split("[/@?#:]", before):
        if len(part) >= _SHORTEST_PART:
            yield part


def _add(secrets: Iterable[str]) -> None:
    global _pattern
    found = {
        spelled for secret in secrets for spelled in (secret, unquote(secret), quote(secret), quote(secret, safe=""))
    }
    if not found <= _known:
        _known.update(found)
        _pattern = re.compile("|".join(re.escape(secret) for secret in sorted(_known, key=len, reverse=True)))


def redact(text: str) -> str:
    """Remove user, password, query and fragment from every URL in a text, and what `remember` was given.

    A URL ends at white space. Secrets may contain `/`, `@`, `:`, `?` and `#`; only a user name without a password must
    not contain `/`, since `s3://bucket/a@b` is a key with an `@`. The query of a `generator://` URL, which holds no
    secret, stays.

    Examples
    --------
    >>> redact("403 at https://me:secret@host/a.json?X-Amz-Signature=1 of s3://bucket/b@2.json")
    '403 at https://host/a.json of s3://bucket/b@2.json'
    """
    return _pattern.sub(HIDDEN, _without_credentials(text))


def redact_location(location: str) -> str:
    """Remove the credentials from one location; a key in an object store keeps its `?`, `#` and `@`.

    Examples
    --------
    >>> redact_location("s3://bucket/what?/h#1.jsonl"), redact_location("https://me:secret@host/a.json?sig=1")
    ('s3://bucket/what?/h#1.jsonl', 'https://host/a.json')
    """
    if _OBJECT_STORES.match(location) and not _SIGNATURE.search(location):
        return location
    return _without_credentials(location)


def _without_credentials(text: str) -> str:
    return _WORD_WITH_URL.sub(lambda match: _redact_word(match[0]), text)


def _without_archives(word: str) -> tuple[str, str]:
    """Split the outer parts of a chained URL, which are paths inside an archive, from the URL of the archive."""
    archives = _ARCHIVES.match(word)
    size = len(archives[0]) if archives else 0
    return word[:size], word[size:]


def _is_generator(scheme: str, rest: str) -> bool:
    return _GENERATOR.search(scheme) is not None and not re.search("@|://", rest)


def _redact_word(word: str) -> str:
    kept, url = _without_archives(word)
    scheme, mark, rest = url.partition("://")
    if _is_generator(scheme, rest):
        return word
    before_query = re.split("[?#]", rest, maxsplit=1)[0]
    at = rest.rfind("@")
    if at >= len(before_query):
        # Either the query contains an `@`, or the credentials contain a `?` or `#`.
        plain = "/" in before_query and not re.search("[:@]", before_query)
        return kept + scheme + mark + (before_query if plain else HIDDEN)
    if ":" not in rest[: max(at, 0)]:
        at = before_query.partition("/")[0].rfind("@")
    return kept + scheme + mark + before_query[at + 1 :]
