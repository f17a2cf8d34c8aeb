"""``report``: one page about a data set."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ._errors import UsageError
from ._native import open as open_store
from ._report import page
from ._report_facts import as_json, facts_of

_EXAMPLES = """\
The page is one file that needs no network: extents, spacings, intensities and labels of all
subjects, with what is unusual marked. It reads documents, the label counts of label maps, and
blocks of each image; --samples 0 reads no voxel. --json prints the same facts, with or without a
page.

Exit codes: 0 success; 2 wrong arguments; 3 damaged or unsuitable data;
4 the environment (disk, permissions, interrupted).

Examples:
  voxquarry report store.zarr report.html
  voxquarry report https://HOST/store.zarr --json > facts.json
"""


def add_to(commands: Any) -> None:
    """Adds the command's arguments."""
    parser = commands.add_parser(
        "report",
        help="write a page about a data set",
        description="Write one self-contained page about a data set.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("store", help="the store, or its URL")
    out = add("out", metavar="[out]", help="the page, a name that ends in .html")
    # With nargs="?" it could not stand behind an option.
    out.required = False
    add("--samples", type=int, default=27, help="blocks of 16³ voxels that are read of an image")
    add("--overwrite", action="store_true", help="replace the file if it exists")
    add("--json", action="store_true", help="print the facts as JSON")
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> None:
    """Writes the page, which appears whole or not at all, and prints the facts."""
    out = None if chosen.out is None else _page_path(chosen.out, chosen.overwrite)
    if out is None and not chosen.json:
        raise UsageError("nothing to write: name the page, as report.html, or add --json")
    if not 0 <= chosen.samples <= 1000:
        raise UsageError(f"samples {chosen.samples}: expected 0 to 1000")
    dataset = open_store(chosen.store)
    # JSON has no histograms of images.
    volumes = facts_of(dataset, 0 if out is None else chosen.samples)
    if out is not None:
        _write(out, page(dataset, volumes))
    if chosen.json:
        print(json.dumps(as_json(dataset, volumes), indent=2, allow_nan=False))
    else:
        print(out)


def _page_path(name: str, overwrite: bool) -> Path:
    out = Path(name)
    if out.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"file {name!r}: expected a name that ends in .html")
    if out.exists() and not overwrite:
        raise UsageError(f"file {name!r} exists: choose another name, or add --overwrite")
    return out


def _write(out: Path, text: str) -> None:
    staged = out.with_name(out.name + ".partial")
    try:
        staged.write_text(text, encoding="utf-8")
        staged.replace(out)
    finally:
        staged.unlink(missing_ok=True)
