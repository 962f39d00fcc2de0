"""What the statements of a source file say, as far as their syntax tells."""

from __future__ import annotations

import ast
from collections.abc import Iterator


def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements at the level of a module or class, through `if`, `try` and `with`."""
    for node in body:
        yield node
        for part in ("body", "handlers", "orelse", "finalbody"):
            if isinstance(node, ast.If | ast.Try | ast.With):
                for inner in getattr(node, part, []):
                    yield from statements(inner.body if isinstance(inner, ast.ExceptHandler) else [inner])


def assigned(body: list[ast.stmt]) -> dict[str, ast.AST | None]:
    """The names that statements define, with what they stand for; the first definition of alternatives."""
    names: dict[str, ast.AST | None] = {}
    for node in statements(body):
        match node:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                names.setdefault(node.name, node)
            case ast.Import():
                for alias in node.names:
                    names.setdefault(alias.asname or alias.name.split(".")[0], node)
            case ast.ImportFrom():
                for alias in node.names:
                    names.setdefault(alias.asname or alias.name, node)
            case ast.Assign():
                for target in node.targets:
                    for name in ast.walk(target):
                        if isinstance(name, ast.Name):
                            names.setdefault(name.id, node.value if name is target else None)
            case ast.AnnAssign(target=ast.Name(id=name)) if node.value:
                names.setdefault(name, node.value)
    return names


def keywords(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """The parameters that may be given by name, `self` included."""
    return [argument.arg for argument in (*function.args.args, *function.args.kwonlyargs)]


def passes_to_base(init: ast.FunctionDef) -> bool:
    """Whether all that **kwargs takes goes to the base's __init__, and nowhere else."""
    assert init.args.kwarg
    kwargs = init.args.kwarg.arg
    uses = [node for node in ast.walk(init) if isinstance(node, ast.Name) and node.id == kwargs]
    calls = [node for node in ast.walk(init) if isinstance(node, ast.Call)]
    passed = [
        call
        for call in calls
        if ast.unparse(call.func) == "super().__init__"
        and any(keyword.arg is None and ast.unparse(keyword.value) == kwargs for keyword in call.keywords)
    ]
    return len(uses) == len(passed) == 1


def mentioned(tree: ast.AST) -> set[str]:
    """The names that code uses, and those of the functions that it defines."""
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return names | {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
