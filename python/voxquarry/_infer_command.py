"""``infer``: a model in a file over a stored volume, for people who write no code."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from . import _models
from ._arguments import numbers
from ._errors import UsageError
from ._inference import infer
from ._native import Volume, open
from ._progress import steps

_EXAMPLES = """\
The same command continues a run that was stopped; patches that are on the disk are not computed
again. Sizes are in voxels, (z, y, x), a number for a cube.

Exit codes: 0 success; 2 wrong arguments; 3 damaged or unsuitable data;
4 the environment (disk, permissions, interrupted).

Examples:
  voxquarry infer store.zarr/a/ct --model net.pt --patch-size 96 --out pred.zarr/a/seg --argmax
  voxquarry infer store.zarr/a/ct --model net.onnx --patch-size 64,128,128 --spacing 1.5 \\
      --out pred.zarr/a/seg --argmax
  voxquarry infer … --part 3/16      in 16 processes, on any machines; then, once:
  voxquarry finalize pred.zarr/a/seg
"""


def add_to(commands: Any) -> None:
    """Adds the command's arguments."""
    parser = commands.add_parser(
        "infer",
        help="run a model over a volume",
        description="Slide a model over a volume, and blend its answers into a volume of a store.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("volume", help="STORE/SUBJECT/VOLUME")
    add("--model", required=True, help="a TorchScript, torch.export (.pt2) or ONNX file")
    add("--patch-size", required=True, type=numbers(int), help="voxels: 96, or Z,Y,X")
    add("--out", required=True, help="STORE/SUBJECT/VOLUME of the result, which is new")
    add("--overlap", type=numbers(float), default=0.5, help="part of a patch (0.5), or voxels")
    add("--batch-size", type=int, default=4, help="patches for each call of the model")
    add("--argmax", action="store_true", help='write labels: short for --finish "argmax"')
    add("--finish", default=None, help="none, argmax, softmax+argmax or threshold")
    add("--window", default="hann", help="hann, average, crop, gaussian or gaussian-nnunet")
    add("--padding", default=None, help="beyond the volume: a number, edge or reflect")
    add("--spacing", type=numbers(float), help="the model's spacing, in the volume's unit")
    add("--orientation", help="the model's orientation, as RAS")
    add("--device", help="as cuda:0; default: a GPU, if there is one")
    add("--memory", default="1GiB", help="memory for unfinished voxels")
    add("--threads", type=int, help="threads that blend and encode; default: all cores")
    add("--restart", action="store_true", help="discard unfinished work")
    add("--part", type=_part, metavar="I/N", help="compute part I of N; finalize joins them")
    add("--json", action="store_true", help="print the result as JSON")
    add("--quiet", action="store_true", help="show no progress")
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> None:
    """Runs the command."""
    volume = _volume(chosen.volume)
    model, is_torch = _models.load(chosen.model, chosen.device)
    clock = Clock(model, None if chosen.quiet else steps(True, "patch"))
    overlap = chosen.overlap
    if isinstance(overlap, list) or overlap >= 1:
        overlap = [int(n) for n in overlap] if isinstance(overlap, list) else int(overlap)
    options: dict[str, Any] = {
        "patch_size": chosen.patch_size,
        "overlap": overlap,
        "out": chosen.out,
        "batch_size": chosen.batch_size,
        "window": chosen.window,
        "progress": clock.report,
        "finish": chosen.finish or ("argmax" if chosen.argmax else "none"),
        "padding": _padding(chosen.padding),
        "spacing": chosen.spacing,
        "orientation": chosen.orientation,
        "memory_bytes": chosen.memory,
        "threads": chosen.threads,
        "resume": False if chosen.restart else f"model {Path(chosen.model).name}",
        "part": chosen.part,
    }
    if is_torch:
        from .torch import infer as torch_infer

        device = chosen.device or _device_of(model)
        result = torch_infer(clock, volume, device=device, **options)
    else:
        result = infer(clock, volume, **options)
    clock.tell(result, chosen)


class Clock:
    """Calls a model and measures it: patches a second, and the share of the time that it works."""

    def __init__(self, model: Any, show: Any) -> None:
        self._model, self._show = model, show
        self._begun = time.monotonic()
        self._busy = 0.0
        self._events: list[tuple[Any, Any]] = []
        self.patches = 0

    def __call__(self, patches: Any) -> Any:
        self.patches += len(patches)
        if getattr(patches, "is_cuda", False):
            return self._timed_on_device(patches)
        begun = time.monotonic()
        answers = self._model(patches)
        self._busy += time.monotonic() - begun
        return answers

    def _timed_on_device(self, patches: Any) -> Any:
        """Times the device's work without waiting for it."""
        import torch

        ends = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        ends[0].record()
        answers = self._model(patches)
        ends[1].record()
        self._events.append(ends)
        self._collect()
        return answers

    def _collect(self) -> None:
        """Adds up what the device has finished."""
        while self._events and self._events[0][1].query():
            first, last = self._events.pop(0)
            self._busy += first.elapsed_time(last) / 1e3

    def report(self, done: int, total: int) -> None:
        """Shows progress."""
        if self._show is not None:
            self._show(done, total)

    def tell(self, result: Volume | None, chosen: argparse.Namespace) -> None:
        """Says what was written, and how fast; a part has no result of its own."""
        self._collect()
        seconds = max(time.monotonic() - self._begun, 1e-9)
        facts: dict[str, Any] = {"volume": str(chosen.out)}
        if result is None:
            what = "part {}/{}".format(*chosen.part)
            facts["part"] = list(chosen.part)
        else:
            facts |= described(result)
            shape = " × ".join(map(str, result.shape))
            what = f"{shape} {result.dtype} ({result.kind})"
        facts |= {
            "patches": self.patches,
            "seconds": round(seconds, 3),
            "patches_per_second": round(self.patches / seconds, 3),
            "model_busy": round(min(self._busy / seconds, 1.0), 3),
        }
        if chosen.json:
            print(json.dumps(facts, indent=2))
        elif not chosen.quiet:
            print(
                f"{chosen.out}: {what}, {self.patches} patches in {seconds:.1f} s,"
                f" {facts['patches_per_second']:.1f} a second; the model worked"
                f" {facts['model_busy']:.0%} of the time",
                file=sys.stderr,
            )


def described(volume: Volume) -> dict[str, Any]:
    """What a volume is, for JSON."""
    return {"shape": list(volume.shape), "dtype": str(volume.dtype), "kind": volume.kind}


def _part(text: str) -> tuple[int, int]:
    """Parses a part: ``3/16``."""
    try:
        number, count = map(int, text.split("/"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected I/N, as in 3/16") from None
    return number, count


def _volume(path: str) -> Volume:
    """The volume at ``STORE/SUBJECT/VOLUME``."""
    place = Path(path)
    if len(place.parts) < 3:
        raise UsageError(f"volume {path!r}: expected STORE/SUBJECT/VOLUME")
    return open(place.parent.parent)[place.parent.name][place.name]


def _device_of(model: Any) -> Any:
    parameter = next(iter(model.parameters()), None)
    if parameter is not None:
        return parameter.device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _padding(text: str | None) -> Any:
    if text is None or text in ("edge", "reflect"):
        return text
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"padding {text!r}: expected a number, edge or reflect") from None
