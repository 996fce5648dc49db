"""The storage layer: every access to a folder or an object store by the pipeline, the shard cache and the checkpoints.

    location ─ store.connect ─▶ fsspec file system     (timeouts of S3 clients)
    Store    list · read · open · get · put · delete ─ retry.retry ─▶ file system, or StorageError without credentials
    lease    one writer at a place: acquire ─ renewed ─▶ checked before changes ─▶ released

`redact` removes credentials from messages, `location` tells folders from URLs. Importing either costs nothing; `store`
imports fsspec.
"""


class StorageError(OSError):
    """A store failed or could not be reached, which says nothing about the file. The message holds no credentials."""


class MismatchError(StorageError):
    """A file in a store is not the one that was expected, in every copy that was fetched."""
