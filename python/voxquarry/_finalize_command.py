"""``finalize``: joins the parts of an inference, for people who write no code."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from ._infer_command import described
from ._parts import finalize


def add_to(commands: Any) -> None:
    """Adds the command's arguments."""
    parser = commands.add_parser(
        "finalize",
        help="join the parts of an inference",
        description="Join the parts of an inference into its volume, which appears in one step.",
    )
    add = parser.add_argument
    add("volume", help="STORE/SUBJECT/VOLUME, the --out of the parts")
    add("--discard", action="store_true", help="remove the unfinished parts instead")
    add("--json", action="store_true", help="print the result as JSON")
    add("--quiet", action="store_true", help="print nothing but errors")
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> None:
    """Runs the command."""
    volume = finalize(chosen.volume, discard=chosen.discard)
    if chosen.json:
        print(json.dumps({"volume": chosen.volume} | (described(volume) if volume else {})))
    elif not chosen.quiet and volume is not None:
        shape = " × ".join(map(str, volume.shape))
        print(f"{chosen.volume}: {shape} {volume.dtype} ({volume.kind})", file=sys.stderr)
