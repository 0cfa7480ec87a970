"""The Hugging Face Hub: can it be reached?"""

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
