"""Names the extra to install for a module whose package is missing."""

from __future__ import annotations


def missing(error: ModuleNotFoundError, extra: str) -> ModuleNotFoundError:
    """The error with the command that installs the package, for ``voxquarry.<extra>``."""
    package = (error.name or "voxquarry").partition(".")[0]
    if package == "voxquarry":
        return error
    message = f"voxquarry.{extra} needs {package}: pip install voxquarry[{extra}]"
    return ModuleNotFoundError(message, name=package)
