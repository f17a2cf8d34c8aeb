"""``view``: serves volumes to a browser until it is interrupted."""

from __future__ import annotations

import argparse
import signal
import threading
import webbrowser
from typing import Any

from ._arguments import numbers, patch_size_of
from ._errors import UsageError
from ._native import (
    Dataset,
    GridSampler,
    LabelSampler,
    Subject,
    UniformSampler,
    Volume,
    WeightedSampler,
)
from ._paths import item_at
from ._signals import handled
from ._view import view

_EXAMPLES = """\
Prints one line, the address of the page, and serves it to this machine alone until Ctrl-C. The
page needs pip install voxquarry[view], and no network. What is shown is read as it is looked at.

Exit codes: 0 interrupted; 2 wrong arguments; 3 damaged or unsuitable data;
4 the environment (port, permissions, a missing package).

Examples:
  voxquarry view store.zarr                                  # a list of all subjects
  voxquarry view store.zarr/case01/ct --window lung
  voxquarry view store.zarr/case01 --overlay pred.zarr
  voxquarry view https://HOST/store.zarr/case01
  voxquarry view store.zarr/case01 --patches 20 --sampler label --patch-size 64
"""


def add_to(commands: Any) -> None:
    """Adds the command's arguments."""
    parser = commands.add_parser(
        "view",
        help="show volumes in a browser",
        description="Show a store, a subject or a volume in a browser, with overlays and patches.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("path", help="STORE, STORE/SUBJECT or STORE/SUBJECT/VOLUME, or the URL of one")
    add(
        "--overlay",
        action="append",
        default=[],
        metavar="PATH",
        help="what is shown above, as predictions: a path of the same kinds; repeat it for several",
    )
    add("--window", help="black and white: LOW,HIGH, or lung, bone, soft or brain for CT")
    add(
        "--convention",
        default="radiological",
        choices=["radiological", "neurological"],
        help="the patient's right is on the left, or on the right",
    )
    add("--patches", type=int, default=0, metavar="N", help="show the first N patches of a sampler")
    add(
        "--sampler",
        default="uniform",
        choices=["uniform", "label", "weighted", "grid"],
        help="how the patches are chosen",
    )
    add(
        "--patch-size",
        type=numbers(int),
        help="voxels: 96, or Z,Y,X; default: what was ingested for",
    )
    add(
        "--border",
        default="exclude",
        choices=["exclude", "clamp", "pad"],
        help="where patches may lie: inside, moved inside, or beyond",
    )
    add("--labels", metavar="VOLUME", help="label map of the label sampler; default: the first one")
    add("--probabilities", type=_parts, metavar="LABEL=PART,…", help="how often each label comes")
    add("--weights", metavar="VOLUME", help="volume of weights of the weighted sampler")
    add("--overlap", type=int, default=0, help="voxels that patches of the grid share")
    add("--seed", type=int, default=0, help="seed of the random samplers")
    add("--port", type=int, default=0, help="port of the server; default: any that is free")
    add("--no-browser", action="store_true", help="open no browser")
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> None:
    """Serves until SIGINT or SIGTERM."""
    item = item_at(chosen.path)
    sampler = _sampler(chosen, item) if chosen.patches else None
    stop = threading.Event()
    ends = handled(lambda *_: stop.set(), signal.SIGINT, signal.SIGTERM)
    with (
        ends,
        view(
            item,
            chosen.overlay,
            window=chosen.window,
            convention=chosen.convention,
            sampler=sampler,
            patches=chosen.patches,
            seed=chosen.seed,
            port=chosen.port,
        ) as shown,
    ):
        print(shown.url, flush=True)
        if not chosen.no_browser:
            webbrowser.open(shown.url)
        stop.wait()


def _sampler(chosen: argparse.Namespace, item: Dataset | Subject | Volume) -> Any:
    size = chosen.patch_size or _ingested_for(item)
    if chosen.sampler == "grid":
        return GridSampler(size, chosen.overlap)
    if chosen.sampler == "label":
        return LabelSampler(size, chosen.labels, chosen.probabilities, chosen.border)
    if chosen.sampler == "weighted":
        if chosen.weights is None:
            raise UsageError("the weighted sampler has no weights: add --weights VOLUME")
        return WeightedSampler(size, chosen.weights, chosen.border)
    return UniformSampler(size, chosen.border)


def _ingested_for(item: Dataset | Subject | Volume) -> list[int]:
    """The patch size that the first volume was ingested for, clipped to it."""
    subjects = [item] if isinstance(item, Subject) else []
    if isinstance(item, Dataset):
        subjects = [item[name] for name in list(item)[:1]]
    volumes = [item] if isinstance(item, Volume) else [v for s in subjects for v in s.values()]
    if not volumes:
        raise UsageError(f"{item!r} has no volume")
    return patch_size_of(volumes[0], volumes[0].shape[-3:])


def _parts(text: str) -> dict[int, float]:
    try:
        pairs = [part.split("=") for part in text.split(",")]
        return {int(label): float(part) for label, part in pairs}
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected LABEL=PART, as in 1=2,2=1") from None
