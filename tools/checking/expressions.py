"""The values of a config, as far as they can be told without running any code."""

from __future__ import annotations

import ast
import builtins
import operator
from collections.abc import Callable
from typing import Any, TypeVar

from .config import REFERENCE, SEPARATOR, Config
from .findings import Findings, hint

T = TypeVar("T")

MODULES = {"monai", "torch", "np", "numpy"}  # what MONAI gives to every expression
FUNCTIONS: dict[str, Callable[..., Any]] = {
    f.__name__: f for f in (abs, bool, float, int, len, list, max, min, round, sorted, str, sum, tuple)
}
OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: lambda a, b: _number(a) * _number(b),
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: lambda a, b: _number(a) % _number(b),
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Not: operator.not_,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}


class NotKnownError(Exception):
    """The value depends on code that is not run here."""


class BrokenError(Exception):
    """The value cannot be computed; the message says why."""


class Values:
    """Computes values: literals, references, and expressions of plain arithmetic, comparison, indexing and FUNCTIONS.

    Components are not built, modules not imported, methods not called: what depends on them is not known.

    Args:
        config: the config.

    `known` takes values of components that are known in another way; `broken` holds, by id, why an expression has none.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.known: dict[str, Any] = {}
        self.broken: dict[str, str] = {}
        self._done: dict[str, Any] = {}
        self._active: list[str] = []

    def get(self, item_id: str, kind: type[T] | tuple[type[T], ...], default: T | None = None) -> T | None:
        """The value at an id if it is known and of this kind, else the default. True and False are no numbers."""
        try:
            value = self._value(item_id)
        except NotKnownError:
            return default
        return value if isinstance(value, kind) and (kind in (bool, object) or not isinstance(value, bool)) else default

    def origin(self, item_id: str) -> str:
        """The id that a chain of plain references leads to: the one that a user sets."""
        seen = {item_id}
        while item_id in self.config:
            content = self.config.get(item_id)
            if not isinstance(content, str) or not content.startswith("@") or content[1:] in seen:
                break
            item_id = content[1:]
            seen.add(item_id)
        return item_id

    def compute_all(self) -> None:
        """Compute whatever can be, for the sake of `broken`."""
        for item_id, _ in self.config.items():
            self.get(item_id, object)

    def _value(self, item_id: str) -> Any:
        if item_id in self.known:
            return self.known[item_id]
        if item_id in self._active:
            circle = self._active[self._active.index(item_id) :]
            raise BrokenError(f"expected no circle of references, found {' -> '.join([*circle, item_id])}")
        if item_id not in self._done:
            self._active.append(item_id)
            try:
                self._done[item_id] = self._compute(item_id)
            except NotKnownError as unknown:
                self._done[item_id] = unknown
            except BrokenError as error:
                self.broken[item_id] = str(error)
                self._done[item_id] = NotKnownError(item_id)
            finally:
                self._active.pop()
        value = self._done[item_id]
        if isinstance(value, NotKnownError):
            raise value
        return value

    def _compute(self, item_id: str) -> Any:
        if item_id not in self.config:
            raise NotKnownError(item_id)
        content = self.config.get(item_id)
        if isinstance(content, dict):
            if "_target_" in content:
                raise NotKnownError(item_id)
            return {key: self._value(f"{item_id}{SEPARATOR}{key}") for key in content}
        if isinstance(content, list):
            return [self._value(f"{item_id}{SEPARATOR}{i}") for i in range(len(content))]
        if not isinstance(content, str):
            return content
        if content.startswith("$"):
            try:
                tree, references = parse_expression(content)
            except SyntaxError:
                raise NotKnownError(item_id) from None  # `check_expressions` tells it
            if not isinstance(tree, ast.Expression):
                raise NotKnownError(item_id)
            return _evaluate(tree.body, lambda name: self._value(references[name]) if name in references else None)
        return self._value(content[1:]) if REFERENCE.fullmatch(content) else content


def parse_expression(text: str) -> tuple[ast.Expression | ast.Module, dict[str, str]]:
    """The syntax tree of a `$` expression or import, with the names that stand for references in it, and their ids.

    Raises:
        SyntaxError: it does not parse.
    """
    references: dict[str, str] = {}

    def stand_in(match: Any) -> str:
        name = f"_reference_{len(references)}"
        references[name] = match[0][1:]
        return name

    code = REFERENCE.sub(stand_in, text.removeprefix("$")).strip()
    if code.startswith(("import ", "from ")):
        return ast.parse(code), references
    return ast.parse(code, mode="eval"), references


def check_expressions(values: Values, findings: Findings) -> None:
    """Find expressions that do not parse, use names that nothing imports, or cannot be computed."""
    trees: dict[str, ast.AST] = {}
    for item_id, text in values.config.expressions():
        try:
            trees[item_id] = parse_expression(text)[0]
        except SyntaxError as error:
            findings.problem(item_id, f"expected a Python expression after $, found {text!r}: {error.msg}")
    imported = {
        alias.asname or alias.name.split(".")[0]
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    for item_id, tree in trees.items():
        for name in sorted(_free_names(tree) - imported - MODULES - set(dir(builtins))):
            if not name.startswith("_reference_"):
                choices = [*imported, *MODULES, *values.config.tree]
                text = f"uses {name}, which nothing imports; add '$import {name}' to `imports`, or @ before an id"
                findings.problem(item_id, text + hint(name, choices))
    values.compute_all()
    for item_id, reason in values.broken.items():
        findings.problem(item_id, reason)


def _free_names(tree: ast.AST) -> set[str]:
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    bound = {node.id for node in names if not isinstance(node.ctx, ast.Load)}
    bound |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    return {node.id for node in names} - bound


def _evaluate(node: ast.AST, lookup: Callable[[str], Any]) -> Any:
    """The value of an expression; `lookup` gives that of a reference's name."""

    def value(part: ast.AST) -> Any:
        return _evaluate(part, lookup)

    try:
        match node:
            case ast.Constant():
                return node.value
            case ast.Name() if node.id.startswith("_reference_"):
                return lookup(node.id)
            case ast.List() | ast.Tuple():
                parts = [value(e.value) if isinstance(e, ast.Starred) else [value(e)] for e in node.elts]
                flat = [item for part in parts for item in part]
                return flat if isinstance(node, ast.List) else tuple(flat)
            case ast.Dict() if None not in node.keys:
                return {value(k): value(v) for k, v in zip(node.keys, node.values, strict=True) if k is not None}
            case ast.Subscript() if not isinstance(node.slice, ast.Slice):
                return _item(value(node.value), value(node.slice))
            case ast.UnaryOp() if type(node.op) in OPERATORS:
                return OPERATORS[type(node.op)](value(node.operand))
            case ast.BinOp() if type(node.op) in OPERATORS:
                return OPERATORS[type(node.op)](value(node.left), value(node.right))
            case ast.Compare() if len(node.ops) == 1:
                return OPERATORS[type(node.ops[0])](value(node.left), value(node.comparators[0]))
            case ast.BoolOp():
                return _any_or_all(isinstance(node.op, ast.Or), node.values, value)
            case ast.IfExp():
                return value(node.body) if value(node.test) else value(node.orelse)
            case ast.Call(func=ast.Name(id=name), keywords=[]) if name in FUNCTIONS:
                return FUNCTIONS[name](*[value(argument) for argument in node.args])
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise BrokenError(f"cannot be computed: {error}; correct the values that it uses") from None
    raise NotKnownError(ast.unparse(node))


def _number(value: Any) -> Any:
    """The value, if it is a number: a text or a list could be multiplied, or formatted, beyond the memory."""
    if not isinstance(value, int | float):
        raise NotKnownError(type(value).__name__)
    return value


def _item(container: Any, key: Any) -> Any:
    if isinstance(container, dict) and key not in container:
        raise BrokenError(f"expected a key that exists, found {key!r}{hint(key, [*map(str, container)])}")
    return container[key]


def _any_or_all(any_of: bool, parts: list[ast.expr], value: Callable[[ast.AST], Any]) -> Any:
    for part in parts:
        result = value(part)
        if bool(result) == any_of:
            break
    return result
