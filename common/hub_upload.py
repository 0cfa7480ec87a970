"""Files brought to a model repository of the Hugging Face Hub, in one commit."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_LOGIN = "run `hf auth login`, or set HF_TOKEN to a token that may write"


def check_repo(repo: str) -> None:
    """Raise ValueError where a name is not of the form `user/name`."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repo)
        is_name = repo.count("/") == 1
    except HFValidationError:
        is_name = False
    if not is_name:
        raise ValueError(
            f"'{repo}' is no name of a repository: it is user/name, of letters, digits, -, _ and . "
            "alone, such as me/paligemma-vqav2."
        )


def check_access(repo: str, *, private: bool) -> None:
    """Find out that the user may write to a repository, which need not exist yet.

    Args:
        repo: its name, as user/name.
        private: whether nobody else is to see it.

    Raises:
        ValueError: not logged in, no right to write there, or it is public and is to be private.
        RuntimeError: the Hub cannot be reached, or fails.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    check_repo(repo)
    with _sentences(repo):
        account: Mapping[str, Any] = HfApi().whoami()
    if account.get("auth", {}).get("accessToken", {}).get("role") == "read":
        raise ValueError(f"The token may only read, and {repo} is to be written: {_LOGIN}.")
    names = [account["name"], *(entry["name"] for entry in account.get("orgs", ()))]
    if repo.partition("/")[0].lower() not in map(str.lower, names):
        raise ValueError(
            f"{account['name']} has no right to write to {repo}: the name of the repository has to "
            f"begin with {' or '.join(f'{name}/' for name in names)}."
        )
    with _sentences(repo):
        try:
            found = HfApi().model_info(repo)
        except RepositoryNotFoundError:
            return
    if private and not found.private:
        raise ValueError(
            f"{repo} is there and public, so --private would change nothing: make it private on "
            "the Hub first, or name another."
        )


def upload(files: Mapping[str, Path | bytes], repo: str, *, private: bool) -> tuple[str, list[str]]:
    """Bring files to a repository, made where it is missing; other files in it stay.

    Args:
        files: path in the repository -> file here, or content.
        repo: its name, as user/name.
        private: whether nobody else is to see a repository that is made.

    Returns:
        The address of the repository, and what else it holds.

    Raises:
        ValueError: not logged in, or no right to write there.
        RuntimeError: the Hub cannot be reached, or fails.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, constants

    api = HfApi()
    with _sentences(repo):
        # None leaves the choice to the organisation's own default
        api.create_repo(repo, private=True if private else None, exist_ok=True)
        there = api.list_repo_files(repo)
        operations = [CommitOperationAdd(name, content) for name, content in files.items()]
        api.create_commit(repo, operations, commit_message="Upload by PaliTune")
    return f"{constants.ENDPOINT}/{repo}", sorted({*there} - {*files, ".gitattributes"})


def known_tokens() -> list[str]:
    """Return the Hub's tokens of this user: of the environment and of the login."""
    from huggingface_hub import get_token

    found = (os.environ.get("HF_TOKEN"), os.environ.get("HUGGING_FACE_HUB_TOKEN"), get_token())
    return sorted({token.strip() for token in found if token and token.strip()})


@contextmanager
def _sentences(repo: str) -> Iterator[None]:
    """Tell each way in which the Hub may refuse, or not answer, in one sentence."""
    import httpx2
    from huggingface_hub.errors import (
        HfHubHTTPError,
        LocalTokenNotFoundError,
        OfflineModeIsEnabled,
    )

    try:
        yield
    except LocalTokenNotFoundError as error:
        raise ValueError(f"Nobody is logged in to the Hugging Face Hub: {_LOGIN}.") from error
    except OfflineModeIsEnabled as error:
        raise ValueError(f"HF_HUB_OFFLINE is set, and {repo} is on the Hub: unset it.") from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status == 401:
            raise ValueError(f"The Hub does not accept the token: {_LOGIN}.") from error
        if status in (402, 403):
            raise ValueError(
                f"The Hub gives no right to write to {repo}: name a repository of your own or of "
                "an organisation that lets you write, with a token that may write."
            ) from error
        raise RuntimeError(
            f"The Hub did not take what was sent to {repo} (HTTP {status}): try again later."
        ) from error
    except (httpx2.TransportError, ConnectionError) as error:
        raise RuntimeError(
            f"The Hub cannot be reached, and {repo} has nothing new: try again later."
        ) from error
    except (RuntimeError, ValueError) as error:  # an upload that broke off, a card that it refuses
        reason = " ".join(str(error).split()).rstrip(".")
        raise RuntimeError(f"The Hub did not take what was sent to {repo}: {reason}.") from error
