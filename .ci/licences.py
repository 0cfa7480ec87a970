"""The licence of each installed package, as its metadata has it."""

import sys
from importlib.metadata import PackageMetadata, distributions


def licence(metadata: PackageMetadata) -> str:
    """Return the licence by its expression, else its classifiers, else its free text."""
    if expression := metadata.get("License-Expression"):
        return str(expression)
    start = "License :: "
    known = [c for c in metadata.get_all("Classifier") or () if c.startswith(start)]
    names = [c.rpartition(" :: ")[2] for c in known]
    text = str(metadata.get("License") or "").strip().partition("\n")[0]
    return " and ".join(names) or text or "not said"


for name, words in sorted(
    {d.metadata["Name"]: licence(d.metadata) for d in distributions()}.items()
):
    sys.stdout.write(f"{name}: {words}\n")
