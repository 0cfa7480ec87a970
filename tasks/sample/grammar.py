"""English that several tasks need."""


def with_article(noun: str) -> str:
    """Put an article before a name: `a red circle`, `an orange circle`."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
