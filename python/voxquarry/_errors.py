"""The exception tree: one class for each fault of the Rust errors."""


class Error(Exception):
    """Base of everything that Voxquarry raises."""


class UsageError(Error, ValueError):
    """The caller asked for something that cannot be; the message says what can."""


class NotFoundError(UsageError, KeyError):
    """A subject or volume that is not there."""

    # KeyError would print the message's repr.
    __str__ = Exception.__str__


class DataError(Error):
    """Bytes are not what they claim to be: a damaged store or an unreadable source file."""


class StorageError(Error, OSError):
    """Disk, permissions or memory."""
