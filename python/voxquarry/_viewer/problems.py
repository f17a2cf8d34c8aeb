"""What could not be read while a page was open: shown in it and logged, each message once."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass

_MOST_MESSAGES = 100
_LOG = logging.getLogger("voxquarry.view")


@dataclass(frozen=True)
class Told:
    """How many problems there were, and the first of them."""

    count: int
    text: str


class Problems:
    """Collects the messages of errors; waiting threads hear of new ones."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._messages: list[str] = []

    def add(self, message: str) -> None:
        """Adds a message that is new; the log has it, too."""
        with self._changed:
            if message in self._messages or len(self._messages) >= _MOST_MESSAGES:
                return
            self._messages.append(message)
            self._changed.notify_all()
        _LOG.error("%s", message)

    def after(self, count: int, seconds: float) -> Told:
        """What there is as soon as there are more than ``count``, or after some seconds."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._messages) > count, seconds)
            found = len(self._messages)
            more = f" (and {found - 1} more)" if found > 1 else ""
            return Told(found, f"{self._messages[0]}{more}" if found else "")

    def wake(self) -> None:
        """Ends the waits, when the server closes."""
        with self._changed:
            self._changed.notify_all()
