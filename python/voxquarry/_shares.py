"""What an engine runs for each part: functions that can be sent to another process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ._errors import UsageError
from ._inference import infer
from ._ingest import IngestReport, ingest


def ingest_part(number: int, count: int, plan: str, options: Mapping[str, Any]) -> IngestReport:
    """Ingests part ``number`` of ``count`` of the plan in a file."""
    return ingest(plan=plan, part=(number, count), **options)


def infer_part(
    number: int, count: int, model: Any, arguments: tuple[Any, ...], options: Mapping[str, Any]
) -> None:
    """Infers part ``number`` of ``count``; ``run`` in the options takes the place of ``infer``."""
    chosen = dict(options)
    run = chosen.pop("run", None) or infer
    run(model, *arguments, part=(number, count), **chosen)


def checked_count(parts: int) -> int:
    """How many parts there are."""
    if isinstance(parts, bool) or int(parts) != parts or parts < 1:
        raise UsageError(f"parts {parts!r}: expected an int of at least 1")
    return int(parts)
