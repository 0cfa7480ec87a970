"""Packages that not everybody needs, and the command that installs them."""

import re
import shlex
from importlib.metadata import requires


def install_command(extra: str) -> str:
    """Return the command that installs the packages of one of our extras, as setup.cfg names them.

    It names the packages: the project may be installed from a wheel, and not from an index.
    """
    marker = re.compile(rf"^(.+?) *; *extra == [\"']{extra}[\"']$")
    found = filter(None, map(marker.match, requires("palitune") or ()))
    return shlex.join(["pip", "install", *(match[1] for match in found)])
