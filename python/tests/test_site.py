"""What ``make site`` does to pages, and how it finds what they would load from elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tools" / "site"))


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("a.html", '<script src="https://x.org/a.js"></script>', ["https://x.org/a.js"]),
        ("a.html", '<img src="//x.org/a.png">', ["//x.org/a.png"]),
        ("a.html", '<link rel="stylesheet" href="https://x.org/a.css">', ["https://x.org/a.css"]),
        ("a.html", '<p style="background: url(https://x.org/b)">', ["https://x.org/b"]),
        ("a.html", "<style>@import 'https://x.org/c'</style>", ["https://x.org/c"]),
        ("a.css", 'a { src: url("https://x.org/f.woff") }', ["https://x.org/f.woff"]),
        ("a.html", '<a href="https://x.org/">text</a> url(https://x.org/d)', []),
        ("a.html", '<script src="a.js"></script><link rel="next" href="https://x.org/">', []),
    ],
)
def test_what_a_page_loads_from_elsewhere(name: str, text: str, found: list[str]) -> None:
    from foreign import foreign_loads

    assert foreign_loads(name, text) == found


def test_a_folder_is_searched(tmp_path: Path) -> None:
    from foreign import check_folder

    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.html").write_text('<iframe src="https://x.org/"></iframe>')
    (tmp_path / "c.svg").write_text('<svg style="fill: red"/>')
    assert check_folder(tmp_path) == ["a/b.html: loads https://x.org/"]


def test_pages_keep_their_places_and_links(tmp_path: Path) -> None:
    from pages import copy_pages

    names = copy_pages(ROOT, tmp_path)
    assert {"README.md", "docs/ingest.md", "format-spec/README.md"} <= set(names)
    readme = (tmp_path / "README.md").read_text()
    assert "](docs/ingest.md)" in readme and "ARCHITECTURE.md" in readme
    assert "](ARCHITECTURE.md)" not in readme, "it is no page"
    assert "](tutorials/monai_spleen.md)" in (tmp_path / "docs" / "coming-from.md").read_text()
    assert (tmp_path / "docs" / "overview.svg").read_bytes() == (
        ROOT / "docs" / "overview.svg"
    ).read_bytes()
    for path in tmp_path.rglob("*.md"):
        assert "](tools/" not in path.read_text(), path


def test_lists_begin_after_an_empty_line(tmp_path: Path) -> None:
    from pages import copy_pages

    (tmp_path / "README.md").write_text(
        "Text:\n- one\n  more\n- two\n\n```sh\nls\n- no list\n```\n"
    )
    copy_pages(tmp_path, tmp_path / "out")
    expected = "Text:\n\n- one\n  more\n- two\n\n```sh\nls\n- no list\n```\n"
    assert (tmp_path / "out" / "README.md").read_text() == expected


def test_cells_of_a_tutorial() -> None:
    from tutorials import cells

    text = '"""# Title"""\n\n# %% [markdown]\n# Text\n#\n# more\n\n# %%\na = 1\n\n'
    text += "# %% [diff]\n# - import theirs\n# -\n# - b = theirs\nimport ours\n\nb = ours\n"
    text += "\n# %% [rust] examples/a.rs\n"
    title, words, code, diff, rust = cells(text)
    assert (title.kind, title.text) == ("markdown", "# Title")
    assert words.text == "Text\n\nmore"
    assert (code.kind, code.code, code.original) == ("code", "a = 1", "a = 1")
    assert diff.code == "import ours\n\nb = ours"
    assert diff.original == "import theirs\n\nb = theirs"
    assert (rust.kind, rust.text) == ("rust", "examples/a.rs")


def test_every_tutorial_is_a_program_with_text() -> None:
    from tutorials import cells

    tutorials = sorted((ROOT / "docs" / "tutorials").glob("*.py"))
    assert len(tutorials) > 3
    for path in tutorials:
        parts = cells(path.read_text())
        assert parts[0].text.startswith("# ") and len(parts) > 2
        for cell in parts:
            if cell.kind in ("code", "diff"):
                compile(cell.code, str(path), "exec")
                compile(cell.original, str(path), "exec")
            else:
                assert cell.kind in ("markdown", "rust")
        for cell in parts:
            if cell.kind == "rust":
                assert (ROOT / cell.text).is_file()
