"""Upload of a published dataset to a repository of the Hugging Face Hub.

    dataset.json ─ its files, checked by hash ─▶ additions ─┐
    repository   ─ files of an earlier dataset ▶ deletions ─┴▶ one commit

Readers see nothing of an upload before its commit. The same call continues an upload that was interrupted: the Hub
keeps the large files that have arrived, by their hashes, and only the others are sent.
"""

import re
import sys
from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from corpus.config import ConfigError
from corpus.contract import COMMIT, FOLDERS, DatasetError, parse_dataset
from corpus.storage.redact import redact, remember_secret
from pipeline.engine.step import BuildError

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
"""Names of repositories: USER/NAME."""
_NAMED = 3
"""Files that a message names."""


def check_repository(repository: str) -> None:
    """Check all that can be checked without the Hub.

    Raises
    ------
    ConfigError
        The name is not that of a repository, huggingface_hub is not installed, or there is no token.
    """
    if not REPOSITORY.fullmatch(repository):
        raise ConfigError(f"--push is {repository!r}, which is not a repository; expected USER/NAME")
    if find_spec("huggingface_hub") is None:
        raise ConfigError("--push: huggingface_hub is not installed: pip install 'millrace[hub]'")
    from huggingface_hub import get_token

    if (token := get_token()) is None:
        raise ConfigError("--push: there is no token: set HF_TOKEN, or run `hf auth login`")
    remember_secret(token)


def push(folder: Path, repository: str) -> str:
    """Upload a dataset as one commit, to a private repository that is created if it does not exist.

    Files of an earlier dataset in the repository that this one does not have are deleted.

    Parameters
    ----------
    folder
        The published dataset. Files that its dataset.json does not list are not uploaded.
    repository
        USER/NAME, at HF_ENDPOINT, or the Hub.

    Returns
    -------
    str
        URL of the repository.

    Raises
    ------
    BuildError
        A file is not as it was published, the repository has files of something else in a dataset's folders, or the
        Hub refused the upload or cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.utils import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    # An HfHubHTTPError derives from the base of all errors of the library that sends the requests; that of a file's
    # upload is wrapped in a RuntimeError.
    failures: tuple[type[Exception], ...] = (*HfHubHTTPError.__bases__, RuntimeError, OSError, ValueError)
    api = HfApi()
    try:
        additions = _additions(folder)
        url = api.create_repo(repository, repo_type="dataset", private=True, exist_ok=True)
        deletions = _deletions(api.list_repo_files(repository, repo_type="dataset"), additions, repository)
        api.create_commit(
            repository,
            [*additions.values(), *deletions],
            commit_message="Dataset built by Millrace",
            repo_type="dataset",
        )
    except failures as error:
        raise BuildError(
            f"{folder} is built, and was not uploaded to {repository}: {redact(_reason(error))}; the same command "
            "continues"
        ) from None
    return str(url)


def _reason(error: BaseException) -> str:
    """Return the first line of an error, and of its cause."""
    first = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return first if error.__cause__ is None else f"{first} {_reason(error.__cause__)}"


def _additions(folder: Path) -> "dict[str, CommitOperationAdd]":
    """Return an operation for each file of the dataset by its path."""
    from huggingface_hub import CommitOperationAdd

    try:
        files = parse_dataset((folder / COMMIT).read_bytes(), str(folder)).files
    except DatasetError as error:
        raise BuildError(str(error)) from None
    found = {path: CommitOperationAdd(path, folder / path) for path in [*files, COMMIT]}
    for path, file in files.items():
        if found[path].upload_info.sha256.hex() != file.sha256:
            raise BuildError(
                f"{folder}/{path}: does not have the hash with which it was published; run the build again"
            )
    return found


def _deletions(present: Collection[str], wanted: Collection[str], repository: str) -> "list[CommitOperationDelete]":
    """Return an operation for each file of an earlier dataset in the repository that this one does not have."""
    from huggingface_hub import CommitOperationDelete

    stale = [path for path in present if path.partition("/")[0] in FOLDERS and "/" in path and path not in wanted]
    if stale and COMMIT not in present:
        raise BuildError(
            f"{repository} has files of something else in a dataset's folders: {', '.join(stale[:_NAMED])}"
            f"{' …' if len(stale) > _NAMED else ''}; use another repository"
        )
    return [CommitOperationDelete(path) for path in stale]
