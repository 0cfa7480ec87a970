"""A model's files on the Hub: brought here, or the error that says why not."""

from pathlib import Path

from common.hub import hub_is_reachable, unreachable
from common.near_paths import misspelt_path


def hub_config(name: str, revision: str | None) -> Path:
    """Bring the config.json of a full model here.

    Args:
        name: of the repository.
        revision: of it.

    Raises:
        ValueError: no such repository or file, or the Hub cannot be reached; names the path here
            that may be meant.
    """
    path = _hub_file(name, revision, "config.json")
    if path is None:
        raise _unreadable(name, f"{name}@{revision}" if revision else name)
    return path


def hub_adapter(name: str, revision: str | None) -> Path | None:
    """Bring a repository's adapter here; return its folder, None where it holds none."""
    from huggingface_hub import snapshot_download

    try:
        config = _hub_file(name, revision, "adapter_config.json")
    except ValueError:
        return None  # who asks for its model is told why
    if config is None:
        return None
    commit = config.parent.name
    files = ["*.json", "*.jinja", "*.model", "adapter_model.*", "non_lora_*.bin"]
    return Path(snapshot_download(name, revision=commit, allow_patterns=files, etag_timeout=3))


def _hub_file(name: str, revision: str | None, file: str) -> Path | None:
    """A file of a Hub repository, brought here; None where it has no such file.

    Raises:
        ValueError: no such repository, it is not open to the user, or the Hub cannot be reached.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    where = f"{name}@{revision}" if revision else name
    if not hub_is_reachable():
        raise _unreachable(name, where)
    try:
        return Path(hf_hub_download(name, file, revision=revision, etag_timeout=3))
    except GatedRepoError as error:
        raise ValueError(
            f"{where} is gated: accept its licence on its Hub page, then run `hf auth login`."
        ) from error
    except LocalEntryNotFoundError as error:
        raise _unreachable(name, where) from error
    except EntryNotFoundError:
        return None
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise _unreadable(name, where) from error


def _unreadable(name: str, where: str) -> ValueError:
    if misspelt := misspelt_path(name):
        return ValueError(
            f"{misspelt} On the Hugging Face Hub there is no readable model of that name either."
        )
    return ValueError(
        f"No folder '{where}' here, and no readable model {where} on the Hugging Face Hub; "
        "check the spelling, or run `hf auth login` for a private one."
    )


def _unreachable(name: str, where: str) -> ValueError:
    return unreachable(
        name,
        f"Model {where} is no folder here and cannot be loaded",
        "pass a folder with the model",
    )
