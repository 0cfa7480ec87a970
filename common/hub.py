"""The Hugging Face Hub: whether it can be reached, and the error where it cannot."""

from common.near_paths import misspelt_path

_TIMEOUT_S = 3.0


def hub_is_reachable() -> bool:
    """Ask the Hub once: `load_dataset` would retry for half a minute before it gave up."""
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return True  # load_dataset takes its cache
    try:
        get_session().head(constants.ENDPOINT, timeout=_TIMEOUT_S)
    except Exception:  # whichever HTTP library it stands on: there was no answer
        return False
    return True


def unreachable(name: str, problem: str, instead: str) -> ValueError:
    """Return the error of something on the Hub that cannot be fetched.

    Args:
        name: of it; where it is nearly that of a path here, that is said first.
        problem: a clause on what was wanted.
        instead: what the user can do without the Hub.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        why, remedy = "HF_HUB_OFFLINE is set and it is not in the cache", "unset it"
    else:
        why, remedy = "the Hub cannot be reached", "set HF_HUB_OFFLINE=1 if it is in the cache"
    if misspelt := misspelt_path(name):
        return ValueError(f"{misspelt} It may be on the Hugging Face Hub too, but {why}.")
    return ValueError(f"{problem}: {why}; {instead}, or {remedy}.")
