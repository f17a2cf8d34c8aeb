"""The stubs say what the compiled module has: the same names, the same parameters."""

import ast
import inspect
from pathlib import Path

import voxquarry as vq
from voxquarry import _native

STUBS = ast.parse(Path(vq.__file__).with_name("_native.pyi").read_text())
# Python's own protocols, which no signature need describe.
PROTOCOLS = {"__reduce__", "__repr__", "__new__", "__doc__", "__module__", "__init__"}


def public(names) -> set[str]:
    return {name for name in names if not name.startswith("_")}


def functions(body) -> dict[str, ast.FunctionDef]:
    return {node.name: node for node in body if isinstance(node, ast.FunctionDef)}


def parameters(node: ast.FunctionDef) -> list[str]:
    found = [a.arg for a in node.args.posonlyargs + node.args.args + node.args.kwonlyargs]
    return [name for name in found if name not in ("self", "cls")]


def signature(value) -> list[str]:
    return [name for name in inspect.signature(value).parameters if name != "self"]


def test_names_and_parameters_agree() -> None:
    classes = {node.name: node for node in STUBS.body if isinstance(node, ast.ClassDef)}
    assert public(classes) | public(functions(STUBS.body)) == public(dir(_native))
    assert public(dir(_native)) - {"ingest"} <= set(vq.__all__)
    for name, node in functions(STUBS.body).items():
        assert parameters(node) == signature(getattr(_native, name)), name
    for name in public(classes):
        methods, native = functions(classes[name].body), getattr(_native, name)
        assert public(methods) == public(vars(native)), name
        special = {m for m in vars(native) if m.startswith("__")} - PROTOCOLS
        assert {m for m in methods if m.startswith("__")} - PROTOCOLS == special, name
        for method, node in methods.items():
            if method == "__new__":
                assert parameters(node) == signature(native), name
            elif inspect.isroutine(getattr(native, method)) and not method.startswith("__"):
                assert parameters(node) == signature(getattr(native, method)), f"{name}.{method}"
            elif not method.startswith("__"):
                assert any(getattr(d, "id", "") == "property" for d in node.decorator_list), f"{name}.{method}"


def test_everything_public_is_documented() -> None:
    for name in public(vq.__all__):
        value = getattr(vq, name)
        assert inspect.getdoc(value), name
        for member in public(vars(value)) if inspect.isclass(value) else ():
            assert inspect.getdoc(getattr(value, member)), f"{name}.{member}"
