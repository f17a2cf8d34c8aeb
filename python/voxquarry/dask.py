"""Ingest and inference in parts on a cluster of Dask: one task a part.

``client`` is a ``dask.distributed.Client`` of any cluster whose workers see the files; voxels never
travel through it. A part whose worker dies is run again elsewhere, and redoes only what is missing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from ._ingest import ingest as _ingest
from ._native import Dataset
from ._parts import finalize
from ._shares import checked_count, infer_part, ingest_part
from ._types import Path


def ingest(
    client: Any,
    source: Any,
    out: Path,
    *,
    plan: Path,
    parts: int,
    threads: int | None = None,
    retries: int = 5,
    submit: Mapping[str, Any] | None = None,
    **options: Any,
) -> Dataset:
    """Ingests ``source`` into ``out`` in ``parts`` tasks, and opens the store.

    Args:
        client: A ``dask.distributed.Client``; progress is on its dashboard.
        source, out, options: As for :func:`voxquarry.ingest`.
        plan: A file that all workers see.
        parts: How many tasks; a few for each worker balance the load.
        threads: Threads of each task; all cores of its machine by default.
        retries: How often a task that fails is run again.
        submit: More arguments of ``client.map``, such as ``resources``.

    Raises:
        UsageError, DataError, StorageError: As for :func:`voxquarry.ingest`.
    """
    count = checked_count(parts)
    _ingest(source, out, plan=plan, **options)
    file = os.path.abspath(os.fsdecode(plan))
    _run(client, ingest_part, count, (file, {"threads": threads}), retries, submit)
    return _ingest(plan=plan, finalize=True)


def infer(
    client: Any,
    model: Any,
    *arguments: Any,
    out: Any,
    parts: int,
    retries: int = 5,
    submit: Mapping[str, Any] | None = None,
    **options: Any,
) -> Any:
    """Runs :func:`voxquarry.infer` in ``parts`` tasks, and returns the volume at ``out``.

    Args:
        client: A ``dask.distributed.Client``.
        model, arguments, out, options: As for :func:`voxquarry.infer`, whose place
            ``run=voxquarry.torch.infer`` takes. The model is sent to each worker.
        parts: How many tasks; more than the result has shards are of no use.
        retries: How often a task that fails is run again.
        submit: More arguments of ``client.map``, such as ``resources={"GPU": 1}``.

    Raises:
        UsageError, DataError, StorageError: As for :func:`voxquarry.infer`.
    """
    count = checked_count(parts)
    sent = (model, arguments, {**options, "out": out})
    _run(client, infer_part, count, sent, retries, submit)
    return finalize(out)


def _run(
    client: Any,
    work: Callable[..., Any],
    count: int,
    shared: tuple[Any, ...],
    retries: int,
    submit: Mapping[str, Any] | None,
) -> None:
    """Runs a task for each part, and waits for all of them."""
    # The same call may be made again: results of earlier tasks say nothing.
    options = {"pure": False, "retries": retries, **(submit or {})}
    columns = [[value] * count for value in (count, *shared)]
    client.gather(client.map(work, range(count), *columns, **options))
