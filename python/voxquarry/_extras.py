"""The packages that modules need: names the extra of one that is missing, and refuses versions that
are not supported.
"""

from __future__ import annotations

import re
from itertools import takewhile


def missing(error: ModuleNotFoundError, extra: str) -> ModuleNotFoundError:
    """The error with the command that installs the package, for ``voxquarry.<extra>``."""
    package = (error.name or "voxquarry").partition(".")[0]
    if package == "voxquarry":
        return error
    message = f"voxquarry.{extra} needs {package}: pip install voxquarry[{extra}]"
    return ModuleNotFoundError(message, name=package)


def check_version(package: str, found: str, oldest: str, below: str, extra: str) -> None:
    """Refuses versions of a package other than from ``oldest`` to before ``below``.

    Raises:
        ImportError: It names the versions, and the command that installs one.
    """
    # A build from a source tree without its history, which does not know its version.
    if "unknown" in found:
        return
    if not _numbers(oldest) <= _numbers(found) < _numbers(below):
        raise ImportError(
            f"voxquarry.{extra} needs {package} {oldest} or newer and older than {below}, but"
            f" {found} is installed: pip install '{package}>={oldest},<{below}'",
            name=package,
        )


def _numbers(version: str) -> tuple[int, ...]:
    """``(1, 6, 1)`` of ``"1.6.1+3.g1234"``; a pre-release counts as its release."""
    leading = takewhile(bool, (re.findall(r"^\d*", part)[0] for part in version.split(".")))
    numbers = [int(number) for number in leading]
    return tuple([*numbers, 0, 0, 0][:3])
