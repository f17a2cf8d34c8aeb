"""``bench --against``: the loaders of other projects beside the queue, on a store's own images."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ._arguments import numbers, patch_size_of
from ._errors import StorageError, UsageError
from ._export import export
from ._native import Dataset, Subject, Volume
from ._paths import item_at
from ._rivals import LOADERS, Measured, Task

_EXAMPLES = """\
Images of a few subjects are exported as .nii.gz into a temporary folder, which is removed at the
end. Each loader reads random patches in a process of its own, as its project documents it, and
takes as many workers as Voxquarry takes threads. Files are in the page cache if memory suffices.
Loaders whose package is not installed are refused by name.

Exit codes: 0 success; 2 wrong arguments; 3 damaged or unsuitable data;
4 the environment (disk, permissions, a missing package, interrupted).

Examples:
  voxquarry bench store.zarr --against monai,torchio
  voxquarry bench store.zarr/case01/ct --against nibabel,nnunet --picture gain.svg --json
"""

# Seconds after which a loader that has delivered nothing is given up.
_PATIENCE = 600.0
_SAMPLE_SECONDS = 0.25


def add_to(commands: Any) -> None:
    """Adds the command's arguments."""
    parser = commands.add_parser(
        "bench",
        help="compare with other loaders",
        description="Compare random patches of a store's images with the loaders of other"
        " projects. Without --against: measure the store alone.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("path", help="STORE, STORE/SUBJECT or STORE/SUBJECT/VOLUME")
    add(
        "--against",
        required=True,
        type=_loaders,
        metavar="LIST",
        help="some of monai, torchio, nnunet and nibabel, with commas",
    )
    add(
        "--patch-size",
        type=numbers(int),
        help="voxels: 96, or Z,Y,X; default: what was ingested for",
    )
    add("--threads", type=int, default=os.cpu_count() or 1, help="threads or workers of each")
    add("--seconds", type=float, default=10.0, metavar="S", help="seconds for each loader")
    add("--subjects", type=int, default=4, metavar="N", help="subjects at most, chosen evenly")
    add("--picture", metavar="FILE", help="draw the rates into a new .svg file")
    add("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)


@dataclass(frozen=True)
class _Result:
    """What one loader did, and the memory that it took at most, in bytes, where that is known."""

    loader: str
    used: str
    measured: Measured
    memory_bytes: int | None

    @property
    def rate(self) -> float:
        return self.measured.patches / self.measured.seconds


def run(chosen: argparse.Namespace) -> None:
    """Measures Voxquarry and the others, one after the other."""
    picture = _picture_path(chosen)
    volumes = _volumes(item_at(chosen.path), chosen.subjects)
    patch = _patch(chosen.patch_size, volumes)
    with tempfile.TemporaryDirectory(prefix="voxquarry-bench-") as scratch:
        files = []
        for number, volume in enumerate(volumes):
            _say(f"exporting {volume.subject.name}/{volume.name} as .nii.gz")
            files.append(str(Path(scratch) / f"{number}.nii.gz"))
            export(volume, Path(files[-1]), progress=False)
        results = []
        for loader in ["voxquarry", *chosen.against]:
            _say(f"measuring {loader}")
            folder = Path(scratch) / loader
            folder.mkdir()
            task = Task(
                loader=loader,
                store=volumes[0].subject.dataset.path,
                subjects=[volume.subject.name for volume in volumes],
                volume=volumes[0].name,
                files=files,
                folder=str(folder),
                patch=patch,
                workers=chosen.threads,
                seconds=chosen.seconds,
            )
            results.append(_measured(task))
    if picture is not None:
        picture.write_text(_chart(results, volumes, patch), encoding="utf-8")
    if chosen.json:
        print(json.dumps(_facts(results, volumes, patch, chosen), indent=2))
    else:
        print(_table(results, volumes, patch))
        if picture is not None:
            print(picture)


def _volumes(item: Dataset | Subject | Volume, most: int) -> list[Volume]:
    """A volume of one name from each of at most ``most`` subjects."""
    if most < 1:
        raise UsageError(f"subjects {most}: expected at least 1")
    if isinstance(item, Volume):
        found = [item]
    elif isinstance(item, Subject):
        found = [_first(item)]
    else:
        names = list(item)
        if not names:
            raise UsageError(f"{item.path} has no subject: ingest an image first")
        count = min(most, len(names))
        picked = [item[names[i * len(names) // count]] for i in range(count)]
        name = _first(picked[0]).name
        found = [subject[name] for subject in picked if name in subject]
    for volume in found:
        if len(volume.shape) != 3:
            raise UsageError(
                f"{volume.subject.name}/{volume.name} has channels, which the loaders would read"
                " differently: compare a volume without"
            )
    return found


def _first(subject: Subject) -> Volume:
    """The first image, or the first volume where all are label maps."""
    volumes = sorted(subject.values(), key=lambda volume: volume.kind != "image")
    if not volumes:
        raise UsageError(f"{subject.name} has no volume")
    return volumes[0]


def _patch(size: int | list[int] | None, volumes: list[Volume]) -> list[int]:
    """The patch size, ``(z, y, x)``; that of the ingest is clipped to the volumes."""
    smallest = [min(extents) for extents in zip(*(v.shape for v in volumes), strict=True)]
    if size is None:
        return patch_size_of(volumes[0], smallest)
    asked = [size] * 3 if isinstance(size, int) else size
    if any(not 1 <= n <= extent for n, extent in zip(asked, smallest, strict=True)):
        raise UsageError(f"patch size {asked}: expected 1 to {smallest}, the smallest volume")
    return asked


def _measured(task: Task) -> _Result:
    """Runs a loader in a process of its own, and ends all that it started."""
    command = [sys.executable, "-m", f"{__package__}._rivals", json.dumps(asdict(task))]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    memory = _Memory(process.pid)
    try:
        out, err = process.communicate(timeout=_PATIENCE + task.seconds)
    except subprocess.TimeoutExpired:
        raise StorageError(f"{task.loader} delivered no batch within {_PATIENCE:g} s") from None
    finally:
        peak = memory.stop()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        # Before the folder that it may write to is removed.
        process.wait()
    lines = [line for line in out.splitlines() if line.startswith("measured ")]
    if not lines:
        reason = err.strip().splitlines()[-1:] or [f"exit code {process.returncode}"]
        raise StorageError(f"{task.loader} failed: {reason[0]}")
    found = Measured(**json.loads(lines[-1].removeprefix("measured ")))
    return _Result(task.loader, LOADERS[task.loader].used, found, peak)


class _Memory:
    """Samples the memory of a session's processes; pages that they share count once."""

    def __init__(self, session: int) -> None:
        self._session, self._peak = session, 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def _sample(self) -> None:
        while not self._end.wait(_SAMPLE_SECONDS):
            self._peak = max(self._peak, _memory_of_session(self._session))

    def stop(self) -> int | None:
        """Bytes at most; None where the system does not say."""
        self._end.set()
        self._thread.join()
        return self._peak or None


def _memory_of_session(session: int) -> int:
    """Bytes of all processes of a session, by their proportional share; 0 where unknown."""
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(folder.name)) != session:
                continue
            lines = (folder / "smaps_rollup").read_text().splitlines()
        except (OSError, ValueError):
            continue  # It ended meanwhile, or is somebody else's.
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) << 10
    return total


def _facts(
    results: list[_Result], volumes: list[Volume], patch: list[int], chosen: argparse.Namespace
) -> dict[str, Any]:
    return {
        "volume": volumes[0].name,
        "subjects": [volume.subject.name for volume in volumes],
        "patch_size": patch,
        "threads": chosen.threads,
        "loaders": [
            {
                "loader": result.loader,
                "used": result.used,
                "patches_per_second": result.rate,
                **asdict(result.measured),
                "memory_bytes": result.memory_bytes,
                "times_as_fast": results[0].rate / result.rate,
            }
            for result in results
        ],
    }


def _title(volumes: list[Volume], patch: list[int]) -> str:
    count = f"{len(volumes)} subject" + ("" if len(volumes) == 1 else "s")
    size = " × ".join(map(str, patch))
    return f"{volumes[0].name}: random patches of {size} {volumes[0].dtype.name} from {count}"


def _table(results: list[_Result], volumes: list[Volume], patch: list[int]) -> str:
    rows = [("loader", "patches/s", "Voxquarry's", "first batch", "before", "memory", "")]
    for result in results:
        times = results[0].rate / result.rate
        before = result.measured.prepare_seconds
        rows.append((
            result.loader,
            f"{result.rate:.1f}",
            "" if result is results[0] else f"{times:.3g} times",
            f"{result.measured.first_batch_seconds:.2f} s",
            "" if before is None else f"{before:.1f} s",
            "" if result.memory_bytes is None else f"{result.memory_bytes / 2**20:.0f} MiB",
            result.used,
        ))  # fmt: skip
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [_title(volumes, patch)]
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:-1], strict=True)]
        lines.append("  " + "  ".join([*cells, row[-1]]).rstrip())
    lines.append("first batch: until it was there; before: what is written once before a training")
    return "\n".join(lines)


def _chart(results: list[_Result], volumes: list[Volume], patch: list[int]) -> str:
    """Bars of the rates, as SVG."""
    row, left, width, most = 34, 110, 760, max(result.rate for result in results)
    bars = []
    for number, result in enumerate(results):
        y = 56 + number * row
        length = max(2.0, (width - left - 190) * result.rate / most)
        colour = "#2a6f97" if number == 0 else "#9aa5ad"
        memory = result.memory_bytes
        label = (
            f"{result.rate:.0f} a second" if result.rate >= 10 else f"{result.rate:.2g} a second"
        )
        label += "" if memory is None else f", {memory / 2**20:.0f} MiB"
        bars.append(
            f'<text x="{left - 10}" y="{y + 16}" text-anchor="end">{escape(result.loader)}</text>'
            f'<rect x="{left}" y="{y}" width="{length:.1f}" height="22" fill="{colour}"/>'
            f'<text x="{left + length + 8:.1f}" y="{y + 16}">{escape(label)}</text>'
        )
    height = 56 + len(results) * row + 10
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}"'
        f' height="{height}" font-family="sans-serif" font-size="14">'
        f'<rect width="{width}" height="{height}" fill="white"/>'
        f'<text x="16" y="30" font-size="16">{escape(_title(volumes, patch))}</text>'
        f"{''.join(bars)}</svg>\n"
    )


def _picture_path(chosen: argparse.Namespace) -> Path | None:
    if chosen.picture is None:
        return None
    path = Path(chosen.picture)
    if path.suffix != ".svg":
        raise UsageError(f"picture {chosen.picture!r}: expected a name that ends in .svg")
    if path.exists():
        raise UsageError(f"file {chosen.picture!r} exists: choose another name")
    if not path.parent.is_dir():
        raise UsageError(f"picture {chosen.picture!r}: the folder {path.parent} does not exist")
    return path


def _loaders(text: str) -> list[str]:
    """Parses ``monai,torchio``; a loader without its package is refused with what to install."""
    names = [name for name in text.split(",") if name]
    known = [name for name in LOADERS if name != "voxquarry"]
    for name in names:
        if name not in known:
            raise argparse.ArgumentTypeError(f"{name!r}: expected some of {', '.join(known)}")
        for package in LOADERS[name].packages:
            if find_spec(package) is None:
                raise argparse.ArgumentTypeError(f"{name} needs {package}: pip install {package}")
    if not names:
        raise argparse.ArgumentTypeError(f"nothing to compare with: expected {', '.join(known)}")
    return list(dict.fromkeys(names))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
