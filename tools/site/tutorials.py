"""Runs the tutorials in ``docs/tutorials`` and makes pages of them, with what they print and show.

A tutorial is a Python program. Its docstring and comments under ``# %% [markdown]`` are text, code
under ``# %%`` is run and shown. Under ``# %% [diff]``, lines that begin with ``# -`` are those of
the original tutorial, and the code takes their place: both versions are run, each in a process and
a folder of its own, and their ``losses`` must agree, so that the page says only what is true.

Under ``# %% [rust] PATH``, a program in ``examples`` is run and shown.

A cell's last expression is shown as in a notebook: a picture, a figure, or its text.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# A page's pictures are small.
PICTURE_BYTES = 100_000
_SECONDS = 600


@dataclass(frozen=True)
class Cell:
    """A part of a tutorial; ``kind`` is "markdown", "code", "diff" or "rust"."""

    kind: str
    text: str

    @property
    def original(self) -> str:
        """The code as the original tutorial has it."""
        if self.kind != "diff":
            return self.text
        lines = [re.sub(r"^# - ?", "", line) for line in self.text.split("\n") if line[:3] == "# -"]
        return "\n".join(lines)

    @property
    def code(self) -> str:
        """The code that is shown and run."""
        kept = [line for line in self.text.split("\n") if self.kind != "diff" or line[:3] != "# -"]
        return "\n".join(kept).strip("\n")


def cells(text: str) -> list[Cell]:
    """Parses a tutorial."""
    intro = ast.get_docstring(ast.parse(text)) or ""
    body = text.split('"""', 2)[2]
    found = [Cell("markdown", intro)]
    for part in re.split(r"^# %%", body, flags=re.MULTILINE)[1:]:
        head, _, rest = part.partition("\n")
        kind, _, path = re.sub(r"[\[\]]", "", head).strip().partition(" ")
        kind, rest = kind or "code", path or rest
        if kind == "markdown":
            rest = "\n".join(re.sub(r"^# ?", "", line) for line in rest.strip().split("\n"))
        found.append(Cell(kind, rest.strip("\n")))
    return found


def write_tutorials(root: Path, out: Path) -> None:
    """Runs all tutorials and writes their pages."""
    out.mkdir(parents=True, exist_ok=True)
    for path in sorted((root / "docs" / "tutorials").glob("*.py")):
        print(f"running {path.name}", flush=True)
        parts = cells(path.read_text())
        runs = {"code": _run(path, "code", out)}
        if any(cell.kind == "diff" for cell in parts):
            runs["original"] = _run(path, "original", out)
            _compare(path.name, runs)
        (out / f"{path.stem}.md").write_text(_page(parts, runs))


def _compare(name: str, runs: dict[str, Any]) -> None:
    ours, theirs = (runs[version]["losses"] for version in ("code", "original"))
    near = all(abs(a - b) <= 1e-3 * abs(b) for a, b in zip(ours, theirs, strict=True))
    if not ours or not near:
        sys.exit(f"{name}: losses {ours} differ from those of the original, {theirs}")


def _page(parts: list[Cell], runs: dict[str, Any]) -> str:
    shown = iter(runs["code"]["shown"])
    text: list[str] = []
    for cell in parts:
        if cell.kind == "markdown":
            text.append(cell.text)
            continue
        if cell.kind == "rust":
            text += _rust(cell.text)
            continue
        if cell.kind == "diff":
            lines = [f"- {line}".rstrip() for line in cell.original.split("\n")]
            lines += [f"+ {line}".rstrip() for line in cell.code.split("\n")]
            text.append("```diff\n" + "\n".join(lines) + "\n```")
        else:
            text.append(f"```python\n{cell.code}\n```")
        text += next(shown)
    if "original" in runs:
        losses = runs["original"]["losses"]
        text.append(
            "## Is it the same training?\n\nThis page ran the original lines as well:"
            f" its {len(losses)} losses went from {losses[0]:.4f} to {losses[-1]:.4f} there,"
            f" and to {runs['code']['losses'][-1]:.4f} here."
        )
    return "\n\n".join(text) + "\n"


def _rust(program: str) -> list[str]:
    """The source of a program, and what it prints."""
    root = Path(__file__).parents[2]
    command = ["cargo", "run", "--quiet", "--locked", "--package", "voxquarry", "--example"]
    done = subprocess.run(
        [*command, Path(program).stem], cwd=root, check=True, capture_output=True, text=True
    )
    source = (root / program).read_text().rstrip()
    return [f"```rust\n{source}\n```", f"```text\n{done.stdout.rstrip()}\n```"]


def _run(path: Path, version: str, out: Path) -> Any:
    """Runs one version in a process of its own; returns its losses, and what each cell shows."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(Path(__file__)), str(path), version, str(out)]
        environment = {"OMP_NUM_THREADS": "1"} | os.environ | {"PYTHONWARNINGS": "ignore"}
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=_SECONDS, env=environment
        )
    if done.returncode:
        sys.exit(f"{path.name}, {version}: {done.stdout}\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def _execute(path: Path, version: str, out: Path) -> None:
    """Runs the cells, and prints what they show as one line of JSON."""
    names: dict[str, Any] = {"__name__": "__main__", "__file__": str(path)}
    shown: list[list[str]] = []
    for cell in cells(path.read_text()):
        if cell.kind in ("code", "diff"):
            source = cell.code if version == "code" else cell.original
            stem = f"{path.stem}-{len(shown)}"
            shown.append(_cell(source, names, path, out / f"{stem}.png", version == "code"))
    print()
    print(json.dumps({"shown": shown, "losses": names.get("losses")}))


def _cell(source: str, names: dict[str, Any], path: Path, picture: Path, keep: bool) -> list[str]:
    """Runs a cell; returns what it shows as Markdown."""
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    printed = io.StringIO()
    value = None
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, str(path), "exec"), names)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), str(path), "eval"), names)
    shown = [f"```text\n{printed.getvalue().rstrip()}\n```"] if printed.getvalue().strip() else []
    png = _png(value)
    if png is not None and keep:
        picture.write_bytes(_small(png))
        shown.append(f"![what the lines above show]({picture.name})")
    elif value is not None and png is None:
        shown.append(f"```text\n{value!r}\n```")
    return shown


def _small(png: bytes) -> bytes:
    """The picture in at most ``PICTURE_BYTES``: of 256 colours, and then smaller."""
    import PIL.Image

    image = PIL.Image.open(io.BytesIO(png)).convert("RGB")
    while len(png) > PICTURE_BYTES:
        stream = io.BytesIO()
        image.quantize(256, dither=PIL.Image.Dither.NONE).save(stream, "png", optimize=True)
        png = stream.getvalue()
        image = image.resize((image.width * 9 // 10, image.height * 9 // 10))
    return png


def _png(value: Any) -> bytes | None:
    """The picture that a value is, if it is one."""
    if hasattr(value, "_repr_png_"):
        return value._repr_png_()
    if hasattr(value, "savefig"):
        stream = io.BytesIO()
        value.savefig(stream, format="png", dpi=100)
        return stream.getvalue()
    return None


if __name__ == "__main__":
    _execute(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
