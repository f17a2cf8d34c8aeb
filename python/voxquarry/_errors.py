"""The exceptions: one class for each fault of the Rust errors, and one for each built-in exception
that code catches for it.
"""

import errno

__all__ = [
    "DataError",
    "Error",
    "FileMissingError",
    "NotFoundError",
    "OutOfMemoryError",
    "PathNotFoundError",
    "StorageError",
    "TooLargeError",
    "UsageError",
]


class Error(Exception):
    """Base of everything that Voxquarry raises."""


class UsageError(Error, ValueError):
    """The caller asked for something that cannot be done; the message says what can."""


class NotFoundError(UsageError, KeyError):
    """A subject or volume that does not exist."""

    # KeyError would print the message's repr.
    __str__ = Exception.__str__


class PathNotFoundError(UsageError, FileNotFoundError):
    """A store or source file that does not exist."""

    errno = errno.ENOENT
    # OSError would leave out the message once there is a filename.
    __str__ = Exception.__str__


class TooLargeError(UsageError, MemoryError):
    """A request for more voxels than any memory can hold."""


class DataError(Error):
    """Bytes are not what they claim to be: a damaged store or an unreadable source file."""


class StorageError(Error, OSError):
    """Disk, permissions or memory."""


class FileMissingError(StorageError, FileNotFoundError):
    """A file or folder that the operating system did not find."""


class OutOfMemoryError(StorageError, MemoryError):
    """There is not enough memory."""
