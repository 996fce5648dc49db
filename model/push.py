"""Upload an exported folder to the Hugging Face Hub."""

import re
from importlib.util import find_spec
from pathlib import Path

REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
"""Names of repositories: USER/NAME."""


class PushError(Exception):
    """The folder cannot be uploaded; the message says why."""


def check(repository: str) -> None:
    """Check all that can be checked without the Hub.

    Raises
    ------
    PushError
        The name is not that of a repository, huggingface_hub is not installed, or there is no token.
    """
    if not REPOSITORY.fullmatch(repository):
        raise PushError(f"{repository!r} is not a repository; expected USER/NAME")
    if find_spec("huggingface_hub") is None:
        raise PushError("huggingface_hub is not installed: pip install 'millrace[hub]'")
    from huggingface_hub import get_token

    if get_token() is None:
        raise PushError("there is no token: set HF_TOKEN, or run `hf auth login`")


def push(folder: Path, repository: str) -> str:
    """Upload a folder as one commit, to a private repository that is created if it does not exist.

    Parameters
    ----------
    folder
        Written by `model.export`.
    repository
        USER/NAME, at HF_ENDPOINT, or the Hub.

    Returns
    -------
    str
        URL of the repository.

    Raises
    ------
    PushError
        The Hub refused it, or cannot be reached.
    """
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HfHubHTTPError

    # An HfHubHTTPError derives from the base of all errors of the library that sends the requests; that of a file's
    # upload is wrapped in a RuntimeError.
    failures: tuple[type[Exception], ...] = (*HfHubHTTPError.__bases__, RuntimeError, OSError, ValueError)
    api = HfApi()
    try:
        url = api.create_repo(repository, private=True, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Export from Millrace")
    except failures as error:
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        shown = first.replace(get_token() or "\n", "...")
        raise PushError(f"{folder} is written, and was not uploaded to {repository}: {shown}") from None
    return str(url)
