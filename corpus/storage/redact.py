"""Removal of credentials from messages. Imports nothing but `re`, so that every module can afford it."""

import re

HIDDEN = "..."
"""Replaces everything after a URL's scheme where credentials and path cannot be separated."""
_WORD_WITH_URL = re.compile(r"\S*://\S*")
_OBJECT_STORES = re.compile(r"(?:s3a?|gs|gcs|az|abfss?|hf)://[^/:@?#]+(?::\d+)?(?:/|$)")
"""A URL of an object store without user and password; the rest is a key, of any characters."""
_SIGNATURE = re.compile(r"(?i)[?&](x-amz-|x-goog-|awsaccesskeyid|googleaccessid|signature=|sig=|token=|password=|key=)")
_ARCHIVES = re.compile(r"(?:(?!://)\S)*?(?<![\w+.-])(?:(?:zip|tar|libarchive)://[^\s:@?#]*::)+")
"""The outer parts of a chained URL, which are paths inside an archive and cannot hold credentials."""
_GENERATOR = re.compile(r"(?<![\w+.-])generator$")


def redact(text: str) -> str:
    """Remove user, password, query and fragment from every URL in a text.

    A URL ends at white space. Secrets may contain `/`, `@`, `:`, `?` and `#`; only a user name without a password must
    not contain `/`, since `s3://bucket/a@b` is a key with an `@`. The query of a `generator://` URL, which holds no
    secret, stays.

    Examples
    --------
    >>> redact("403 at https://me:secret@host/a.json?X-Amz-Signature=1 of s3://bucket/b@2.json")
    '403 at https://host/a.json of s3://bucket/b@2.json'
    """
    return _WORD_WITH_URL.sub(lambda match: _redact_word(match[0]), text)


def redact_location(location: str) -> str:
    """Remove the credentials from one location; a key in an object store keeps its `?`, `#` and `@`.

    Examples
    --------
    >>> redact_location("s3://bucket/what?/h#1.jsonl"), redact_location("https://me:secret@host/a.json?sig=1")
    ('s3://bucket/what?/h#1.jsonl', 'https://host/a.json')
    """
    if _OBJECT_STORES.match(location) and not _SIGNATURE.search(location):
        return location
    return redact(location)


def _redact_word(word: str) -> str:
    archives = _ARCHIVES.match(word)
    kept = archives[0] if archives else ""
    scheme, mark, rest = word[len(kept) :].partition("://")
    if _GENERATOR.search(scheme) and not re.search("@|://", rest):
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
