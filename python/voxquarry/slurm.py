"""Ingest and inference in parts as job arrays of SLURM, through submitit: one job a part.

``executor`` is a ``submitit.AutoExecutor``, or another with its ``map_array``. A job that is
preempted or runs out of time is queued again, and redoes only what is missing.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from ._ingest import ingest as _ingest
from ._native import Dataset
from ._parts import finalize
from ._shares import checked_count, infer_part, ingest_part
from ._types import Path


class PartJob:
    """The work of one part, which can be queued again."""

    def __init__(self, work: Callable[..., Any]) -> None:
        self._work = work

    def __call__(self, *arguments: Any) -> Any:
        """Runs the part."""
        return self._work(*arguments)

    def checkpoint(self, *arguments: Any) -> Any:
        """What submitit submits when the job is stopped: the same again."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, *arguments)


def ingest(
    executor: Any,
    source: Any,
    out: Path,
    *,
    plan: Path,
    parts: int,
    threads: int | None = None,
    **options: Any,
) -> Dataset:
    """Ingests ``source`` into ``out`` in ``parts`` jobs, waits for them, and opens the store.

    Args:
        executor: A ``submitit.AutoExecutor`` with its parameters.
        source, out, options: As for :func:`voxquarry.ingest`.
        plan: A file that all nodes see.
        parts: How many jobs.
        threads: Threads of each job; all cores of its node by default.

    Raises:
        UsageError, DataError, StorageError: As for :func:`voxquarry.ingest`; a job that failed
            raises submitit's error, and the same call goes on with what is missing.
    """
    count = checked_count(parts)
    _ingest(source, out, plan=plan, **options)
    file = os.path.abspath(os.fsdecode(plan))
    _run(executor, ingest_part, count, (file, {"threads": threads}))
    return _ingest(plan=plan, finalize=True)


def infer(executor: Any, model: Any, *arguments: Any, out: Any, parts: int, **options: Any) -> Any:
    """Runs :func:`voxquarry.infer` in ``parts`` jobs, waits, and returns the volume at ``out``.

    Args:
        executor: A ``submitit.AutoExecutor`` with its parameters.
        model, arguments, out, options: As for :func:`voxquarry.infer`, whose place
            ``run=voxquarry.torch.infer`` takes.
        parts: How many jobs; more than the result has shards are of no use.

    Raises:
        UsageError, DataError, StorageError: As for :func:`voxquarry.infer`, and as for
            :func:`ingest`.
    """
    count = checked_count(parts)
    _run(executor, infer_part, count, (model, arguments, {**options, "out": out}))
    return finalize(out)


def _run(executor: Any, work: Callable[..., Any], count: int, shared: tuple[Any, ...]) -> None:
    """Submits an array of jobs, and waits for all of them."""
    columns = [[value] * count for value in (count, *shared)]
    jobs = executor.map_array(PartJob(work), range(count), *columns)
    for job in jobs:
        job.result()
