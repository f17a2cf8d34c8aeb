"""Opens files of a store by the parts of a path, and never one outside of it; parses ranges."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence


def open_below(root: str, parts: Sequence[str]) -> int | None:
    """The descriptor of a regular file below a folder; None if there is none.

    Each part is opened in the folder before it, and no symbolic link is followed.
    """
    if not parts or any(not part or part.startswith(".") or "/" in part for part in parts):
        return None
    if any("\0" in part or "\\" in part for part in parts):
        return None
    folder = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    at = None
    try:
        at = os.open(root, folder & ~os.O_NOFOLLOW)
        for part in parts[:-1]:
            below = os.open(part, folder, dir_fd=at)
            os.close(at)
            at = below
        # A pipe would be waited for without O_NONBLOCK.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        found = os.open(parts[-1], flags, dir_fd=at)
    except OSError:
        return None
    finally:
        if at is not None:
            os.close(at)
    if not stat.S_ISREG(os.fstat(found).st_mode):
        os.close(found)
        return None
    return found


def byte_range(header: str | None, length: int) -> tuple[int, int] | None:
    """The half-open range that a ``Range`` header asks for; None for all bytes.

    Several ranges, and what is no range, are answered by all bytes, as RFC 9110 has it.

    Raises:
        ValueError: A range that holds no byte of the file.
    """
    match = re.fullmatch(r"bytes=\s*(\d{0,20})\s*-\s*(\d{0,20})\s*", header or "", re.ASCII)
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        begin, end = max(0, length - int(last)), length
    else:
        begin, end = int(first), length
        if last:
            if int(last) < begin:
                return None
            end = min(length, int(last) + 1)
    if begin >= end:
        raise ValueError(f"no byte of {length} is in {header}")
    return begin, end
