"""The values of a config, by MONAI's own parser, as far as they need no component to be built."""

from __future__ import annotations

import ast
import builtins
import copy
import difflib
import importlib.util
from collections.abc import Mapping
from typing import Any, TypeVar

from ..common.config import REFERENCE, SEPARATOR, Config
from ..common.findings import Findings, hint
from ..common.merging import RUNNER_IDS

T = TypeVar("T")

MODULES = {"monai", "torch", "np", "numpy"}  # what MONAI gives to every expression
CALLED = {"scripts.methods.learning_rate"}  # components that only compute


class Values:
    """Computes values as the bundle runner does. What depends on a component is not known, nor is what the runner runs.

    Args:
        config: the config. Its expressions are run, as they are by every reader of a bundle.

    `broken` holds, by id, why an expression has no value.
    """

    def __init__(self, config: Config) -> None:
        from monai.bundle import ConfigParser

        self.config = config
        self.broken: dict[str, str] = {}
        self._known: dict[str, bool] = {}
        self._run = [config.tree[known] for known in RUNNER_IDS if config.tree.get(known)]
        tree = copy.deepcopy(config.tree)
        tree["imports"] = [text for text in tree.get("imports", []) if not missing_module(text)]
        self._parser = ConfigParser(tree)
        self._parser.parse()

    def get(self, item_id: str, kind: type[T] | tuple[type[T], ...], default: T | None = None) -> T | None:
        """The value at an id if it is known and of this kind, else the default. True and False are no numbers."""
        if not self._is_known(item_id):
            return default
        value = self._parser.get_parsed_content(item_id)
        return value if isinstance(value, kind) and (kind in (bool, object) or not isinstance(value, bool)) else default

    def give(self, item_id: str, value: Any) -> None:
        """Tell the value of a component that is known in another way."""
        self._parser.ref_resolver.resolved_content[item_id] = value
        self._known = {item_id: True}  # what needs it may be known now

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

    def _is_known(self, item_id: str, path: tuple[str, ...] = ()) -> bool:
        """Whether an id has a value: it needs no component, nothing that the runner runs, and not itself."""
        if item_id in path:
            circle = " -> ".join([*path[path.index(item_id) :], item_id])
            self.broken[item_id] = f"expected no circle of references, found {circle}"
            return False
        if item_id not in self._known:
            exists = item_id in self.config and not self._is_run(item_id)
            self._known[item_id] = exists and self._has_value(item_id, (*path, item_id))
        return self._known[item_id]

    def _is_run(self, item_id: str) -> bool:
        """Whether an id is an expression that the runner runs for what it does: an entry of `initialize`, `run`, ..."""
        first, *rest = item_id.split(SEPARATOR)
        return len(rest) < 2 and (first in RUNNER_IDS or self.config.get(first) in self._run)

    def _has_value(self, item_id: str, path: tuple[str, ...]) -> bool:
        content = self.config.get(item_id)
        needed: list[str] = []
        if isinstance(content, dict) and content.get("_target_", *CALLED) not in CALLED:
            return False
        if isinstance(content, dict | list):
            keys = content if isinstance(content, dict) else range(len(content))
            needed = [f"{item_id}{SEPARATOR}{key}" for key in keys]
        elif isinstance(content, str) and (content.startswith("$") or REFERENCE.fullmatch(content)):
            needed = [reference[1:] for reference in REFERENCE.findall(content)]
        if not all(self._is_known(one, path) for one in needed):
            return False
        try:
            self._parser.get_parsed_content(item_id)
        except Exception as error:  # whatever an expression raises
            self.broken[item_id] = self._reason(item_id, error)
            return False
        return True

    def _reason(self, item_id: str, error: BaseException) -> str:
        while error.__cause__ is not None:  # the parser wraps what an expression raises
            error = error.__cause__
        if not isinstance(error, KeyError):
            return f"cannot be computed: {error}; correct the values that it uses"
        known = self._parser.ref_resolver.resolved_content
        used = [known.get(reference[1:]) for reference in REFERENCE.findall(str(self.config.get(item_id)))]
        used += [inner for value in used if isinstance(value, Mapping) for inner in value.values()]
        keys = [str(key) for value in used if isinstance(value, Mapping) for key in value]
        close = difflib.get_close_matches(str(error.args[0]), keys, n=1)
        meant = f"; did you mean {close[0]!r}?" if close else "; correct the values that it uses"
        return f"expected a key that exists, found {error.args[0]!r}{meant}"


def missing_module(text: str) -> str | None:
    """The module that an entry of `imports` names, if there is no such module."""
    words = text.removeprefix("$").split()
    if words[:1] != ["import"] or len(words) < 2:
        return None
    try:
        return None if importlib.util.find_spec(words[1]) else words[1]
    except ImportError:  # of its parent
        return words[1]


def check_expressions(values: Values, findings: Findings) -> None:
    """Find expressions that do not parse, use names that nothing imports, or cannot be computed."""
    trees: dict[str, ast.AST] = {}
    for item_id, text in values.config.expressions():
        code = REFERENCE.sub("_reference", text.removeprefix("$")).strip()
        try:
            trees[item_id] = ast.parse(code, mode="exec" if code.startswith(("import ", "from ")) else "eval")
        except SyntaxError as error:
            findings.problem(item_id, f"expected a Python expression after $, found {text!r}: {error.msg}")
        except (RecursionError, MemoryError):
            findings.problem(
                item_id, f"expected a Python expression that Python can read, found {len(code)} characters"
            )
    nodes = {item_id: list(ast.walk(tree)) for item_id, tree in trees.items()}
    imported = {
        alias.asname or alias.name.split(".")[0]
        for found in nodes.values()
        for node in found
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    for item_id, found in nodes.items():
        names = [node for node in found if isinstance(node, ast.Name)]
        bound = {node.id for node in names if not isinstance(node.ctx, ast.Load)} | {"_reference"}
        bound |= {node.arg for node in found if isinstance(node, ast.arg)}
        for name in sorted({node.id for node in names} - bound - imported - MODULES - set(dir(builtins))):
            text = f"uses {name}, which nothing imports; add '$import {name}' to `imports`, or @ before an id"
            findings.problem(item_id, text + hint(name, [*imported, *MODULES, *values.config.tree]))
            trees.pop(item_id, None)
    for item_id, content in values.config.items():
        values.get(item_id, object)
        if item_id in values.broken and (item_id in trees or not str(content).startswith("$")):
            findings.problem(item_id, values.broken[item_id])
