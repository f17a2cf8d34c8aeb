"""Completions and manual pages from ``python -m voxquarry``, and what they say of its commands."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

import pytest

from voxquarry.__main__ import _OURS

# What Rust parses, too, and hands on to the package with --against.
_ALONE = sorted(set(_OURS) - {"bench"})
_MARKUP = [(r"\-", "-"), ("\\&", ""), (r"\fR", ""), (r"\fB", ""), (r"\fI", ""), (r"\*(Aq", "'")]


def run(*arguments: str) -> str:
    command = [sys.executable, "-m", "voxquarry", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def parser_of(command: str) -> argparse.ArgumentParser:
    commands = argparse.ArgumentParser(prog="voxquarry").add_subparsers()
    _OURS[command].add_to(commands)
    return commands.choices[command]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("man") / "man1"
    assert run("man", str(folder)) == ""
    return folder


def page_of(pages: Path, command: str) -> str:
    text = (pages / f"voxquarry-{command}.1").read_text()
    for markup, plain in _MARKUP:
        text = text.replace(markup, plain)
    return text


def words(text: str) -> str:
    return " ".join(text.split())


def test_bash_completes_from_the_module(tmp_path: Path) -> None:
    script = tmp_path / "voxquarry.bash"
    script.write_text(run("completions", "bash"))
    program = (
        f"source '{script}'; COMP_WORDS=(voxquarry export --over); COMP_CWORD=2;"
        ' _voxquarry voxquarry --over export; echo "${COMPREPLY[@]}"'
    )
    bash = ["bash", "--noprofile", "--norc", "-c", program]
    offered = subprocess.run(bash, check=True, capture_output=True, text=True).stdout
    assert offered.split() == ["--overwrite"]


@pytest.mark.parametrize("command", _ALONE)
def test_the_page_lists_what_the_package_parses(pages: Path, command: str) -> None:
    page = page_of(pages, command)
    parser = parser_of(command)
    options = {option for action in parser._actions for option in action.option_strings}
    assert set(re.findall(r"^(?:-h, )?(--[a-z-]+)", page, re.MULTILINE)) == options - {"-h"}
    synopsis = page.split(".SH SYNOPSIS\n")[1].split(".SH")[0]
    for action in parser._actions:
        if action.dest == "help":
            continue
        name = action.option_strings[0] if action.option_strings else action.dest.upper()
        lhs, rhs = "<>" if action.required else "[]"
        assert f"{lhs}{name}{rhs}" in synopsis
        assert action.help is not None and words(action.help) in words(page), name
        for choice in action.choices or ():
            assert choice in page.split(f"\n{name}")[1].split(".TP")[0], name


@pytest.mark.parametrize("command", _ALONE)
def test_the_page_ends_as_the_help_does(pages: Path, command: str) -> None:
    lines = [line for line in page_of(pages, command).splitlines() if not line.startswith(".")]
    told = words(" ".join(lines)).replace("\\\\", "\\")
    epilog = parser_of(command).epilog
    assert epilog is not None
    for paragraph in epilog.split("\n\n"):
        body = re.sub(r"^Examples?:\n", "", paragraph)
        assert words(body) in told


def test_the_page_of_bench_lists_what_the_package_parses(pages: Path) -> None:
    page = page_of(pages, "bench")
    for action in parser_of("bench")._actions:
        for option in action.option_strings:
            assert re.search(rf"^(-h, )?{option}\b", page, re.MULTILINE), option
