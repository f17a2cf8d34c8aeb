"""``report``: one page about a data set."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ._errors import UsageError
from ._native import open as open_store
from ._report import page

_EXAMPLES = """\
The page is one file that needs no network: extents, spacings, intensities and labels of all
subjects, with what is unusual marked. It reads documents, the label counts of label maps, and
blocks of each image; --samples 0 reads no voxel.

Exit codes: 0 success; 2 wrong arguments; 3 damaged or unsuitable data;
4 the environment (disk, permissions, interrupted).

Example:
  voxquarry report store.zarr report.html
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
    add("store", help="the store")
    add("out", help="the page, a name that ends in .html")
    add("--samples", type=int, default=27, help="blocks of 16³ voxels that are read of an image")
    add("--overwrite", action="store_true", help="replace the file if it exists")
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> None:
    """Writes the page, which appears whole or not at all."""
    out = Path(chosen.out)
    if out.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"file {chosen.out!r}: expected a name that ends in .html")
    if out.exists() and not chosen.overwrite:
        raise UsageError(f"file {chosen.out!r} exists: choose another name, or add --overwrite")
    if not 0 <= chosen.samples <= 1000:
        raise UsageError(f"samples {chosen.samples}: expected 0 to 1000")
    text = page(open_store(chosen.store), chosen.samples)
    staged = out.with_name(out.name + ".partial")
    try:
        staged.write_text(text, encoding="utf-8")
        staged.replace(out)
    finally:
        staged.unlink(missing_ok=True)
    print(out)
