"""Builds the documentation as pages, in ``build/site/html``: ``make site``.

Pages are the repository's own, what tutorials print and show when they are run, the reference from
the stubs and from ``--help``, and plots of recorded measurements. A broken link or anchor, a
tutorial that fails, and a page that would load something from elsewhere are errors.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from command import write_command
from foreign import check_folder
from pages import copy_pages, empty
from plots import write_performance
from tutorials import write_tutorials

ROOT = Path(__file__).parents[2]


def main() -> None:
    """Builds the site."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "site")
    chosen = parser.parse_args()
    pages = empty(chosen.out / "pages")
    copy_pages(ROOT, pages)
    write_command(pages / "reference" / "command.md")
    write_performance(ROOT / "benches" / "results", pages / "reference" / "performance.md")
    write_tutorials(ROOT, pages / "docs" / "tutorials")
    mkdocs = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--config-file"]
    # The theme's authors advertise in each build otherwise.
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run([*mkdocs, str(ROOT / "tools/site/mkdocs.yml")], env=environment)
    if built.returncode:
        sys.exit(built.returncode)
    found = check_folder(chosen.out / "html")
    if found:
        sys.exit("\n".join(found))
    print(chosen.out / "html" / "index.html")


if __name__ == "__main__":
    main()
