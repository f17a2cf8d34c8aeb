"""Documentation in the stubs: read from the compiled module, compared with it, and written.

``python python/tests/stubs.py`` writes it into ``_native.pyi``.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from textwrap import indent

import voxquarry
from voxquarry import _native

STUB = Path(voxquarry.__file__).with_name("_native.pyi")
Documented = ast.ClassDef | ast.FunctionDef


def documented(tree: ast.Module) -> Iterator[tuple[Documented, str]]:
    """Each class, function and method of the stub that users see, with its documentation."""
    for node in tree.body:
        if not isinstance(node, Documented) or node.name.startswith("_"):
            continue
        yield node, _doc(getattr(_native, node.name))
        for member in node.body if isinstance(node, ast.ClassDef) else ():
            if isinstance(member, ast.FunctionDef) and not member.name.startswith("_"):
                found = inspect.getattr_static(getattr(_native, node.name), member.name)
                # The documentation of the wrapper would be Python's own about static methods.
                found = getattr(found, "__func__", found)
                yield member, _doc(found)


def _doc(of: object) -> str:
    return inspect.getdoc(of) or ""


def written(source: str) -> str:
    """The stub with all documentation as the module has it."""
    lines = source.splitlines()
    edits = [_edit(node, doc) for node, doc in documented(ast.parse(source))]
    # From the end, so that lines before keep their numbers.
    for begin, end, block, is_alone in sorted(edits, key=lambda edit: -edit[0]):
        if is_alone:
            lines[begin - 1] = lines[begin - 1].removesuffix(" ...")
        lines[begin:end] = block
    return "\n".join(lines) + "\n"


def _edit(node: Documented, doc: str) -> tuple[int, int, list[str], bool]:
    """Lines to replace, by what, and whether it is the whole body, which ``...`` stood for."""
    ending = '\n"""' if "\n" in doc else '"""'
    block = indent(f'"""{doc}{ending}', " " * (node.col_offset + 4)).splitlines()
    first = node.body[0]
    if isinstance(first, ast.Expr) and isinstance(getattr(first.value, "value", None), str):
        return first.lineno - 1, first.end_lineno or first.lineno, block, False
    if isinstance(node, ast.ClassDef):
        decorators = getattr(first, "decorator_list", [])
        begin = min(line.lineno for line in (first, *decorators)) - 1
        return begin, begin, block, False
    return first.lineno, first.lineno, block, True


if __name__ == "__main__":
    STUB.write_text(written(STUB.read_text(encoding="utf-8")), encoding="utf-8")
