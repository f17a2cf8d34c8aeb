"""Copies the repository's own Markdown into the folder that mkdocs builds from.

Pages keep their paths, so links between them stay as they are. A link to a tutorial leads to
its page; one to another file that is no page, such as source code, becomes its text. Pictures are
copied. Nothing is written in the repository.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path, PurePosixPath

# What the site includes where it lies, and what only the site has, below tools/site/pages.
INCLUDED = ["README.md", "CHANGELOG.md", "docs/*.md", "format-spec/README.md"]
# What tutorials.py makes pages of.
_TUTORIALS = PurePosixPath("docs/tutorials")
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")
_ITEM = re.compile(r"(- |\d+\. )")


def copy_pages(root: Path, out: Path) -> list[str]:
    """Copies all pages and their pictures to ``out``; returns the paths of the pages."""
    names = [path.relative_to(root) for glob in INCLUDED for path in sorted(root.glob(glob))]
    pages = {PurePosixPath(name.as_posix()) for name in names}
    for page in sorted(pages):
        text = (root / page).read_text()
        text = _links(text, page, pages, root, out)
        _write(out / page, _lists_apart(text))
    own = Path(__file__).parent / "pages"
    for path in sorted(own.rglob("*")):
        if path.is_file():
            _write(out / path.relative_to(own), path.read_bytes())
    return sorted(map(str, pages))


def _links(text: str, page: PurePosixPath, pages: set[PurePosixPath], root: Path, out: Path) -> str:
    def of(match: re.Match[str]) -> str:
        picture, label, target = match.groups()
        path, _, _ = target.partition("#")
        if not path or "://" in target or target.startswith("mailto:"):
            return match[0]
        place = _normal(page.parent / path)
        if picture:
            _write(out / place, (root / place).read_bytes())
            return match[0]
        if place in pages:
            return match[0]
        if place.parent == _TUTORIALS and place.suffix == ".py":
            return f"[{label}]({target.replace('.py', '.md')})"
        return label

    return _outside_of_code(text, lambda part: _LINK.sub(of, part))


def _outside_of_code(text: str, change: object) -> str:
    """Changes what is not in a fenced block."""
    parts = re.split(r"(^```.*?^```$)", text, flags=re.MULTILINE | re.DOTALL)
    return "".join(part if part.startswith("```") else change(part) for part in parts)


def _lists_apart(text: str) -> str:
    """An empty line before each list, without which Python's Markdown sees a paragraph."""

    def of(part: str) -> str:
        lines: list[str] = []
        for line in part.split("\n"):
            last = lines[-1] if lines else ""
            begins = _ITEM.match(line) and last and not _ITEM.match(last.lstrip())
            if begins and not last.startswith((" ", "|")):
                lines.append("")
            lines.append(line)
        return "\n".join(lines)

    return _outside_of_code(text, of)


def _normal(path: PurePosixPath) -> PurePosixPath:
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return PurePosixPath(*parts)


def _write(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def empty(folder: Path) -> Path:
    """The folder, made anew."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
