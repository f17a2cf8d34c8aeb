"""The reference of the command: what ``--help`` prints, of every command."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

_HEAD = """\
# The command

This page is what `voxquarry COMMAND --help` prints.
`voxquarry completions` and `voxquarry man` give the same to shells and to `man`.
"""


def write_command(out: Path) -> None:
    """Writes the page."""
    main = _help([])
    listed = main.split("Commands:\n")[1].split("\n\n")[0]
    commands = re.findall(r"^  ([a-z-]+) ", listed, re.MULTILINE)
    parts = [_HEAD, f"```text\n{main}```\n"]
    for command in commands:
        if command != "help":
            parts.append(f"## voxquarry {command}\n\n```text\n{_help([command])}```\n")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("\n".join(parts))


def _help(words: list[str]) -> str:
    command = [sys.executable, "-m", "voxquarry", *words, "--help"]
    environment = os.environ | {"COLUMNS": "100", "NO_COLOR": "1"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return done.stdout.rstrip() + "\n"
