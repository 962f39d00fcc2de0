"""Classes and functions by name, found in the source files: nothing is imported, so nothing of them runs.

Besides being safe with a config of unknown origin, reading is fast: importing MONAI takes seconds.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from .syntax import assigned, keywords, mentioned, passes_to_base, statements

DEFINITION = re.compile(r"^(?: *class|def) (\w+)|^(\w+(?: = \w+)*) = [\w(]", re.MULTILINE)


@dataclass
class Module:
    """A module; without a syntax tree (compiled, built in) its content is not known."""

    name: str
    tree: ast.Module | None = None
    is_package: bool = False
    names: dict[str, ast.AST | None] = field(default_factory=dict)
    stars: list[ast.ImportFrom] = field(default_factory=list)

    @property
    def package(self) -> str:
        """The package that its relative imports start from."""
        return self.name if self.is_package else self.name.rpartition(".")[0]


@dataclass(frozen=True)
class Definition:
    """A class, a function or a value of a module; `node` is None where only its existence is known."""

    node: ast.AST | None
    module: Module


Found = Module | Definition


class SourceCode:
    """Looks names up as Python would import them.

    Args:
        bundle_root: folder whose packages come first, as for the bundle runner.
    """

    def __init__(self, bundle_root: Path) -> None:
        self.bundle_root = bundle_root
        self.module = cache(self._module)
        self._active: list[str] = []  # modules whose `import *` is being followed, for they may import each other

    @property
    def monai_names(self) -> dict[str, list[str]]:
        """The modules of MONAI that define each class or function: what a `_target_` without a dot may name."""
        return _monai_names()

    def find(self, name: str) -> Found | None:
        """What a dotted name stands for, or None if there is certainly no such thing."""
        parts = name.split(".")
        for count in range(len(parts), 0, -1):
            found: Found | None = self.module(".".join(parts[:count]))
            if found is not None:
                for part in parts[count:]:
                    found = self._member(found, part) if found is not None else None
                return found
        return None

    def known_names(self, name: str) -> list[str]:
        """The names beside the last part of a dotted name that was not found."""
        module = self.module(name.rpartition(".")[0])
        return [known for known in module.names if not known.startswith("_")] if module else []

    def arguments(self, found: Found | None) -> list[str] | None:
        """The names that a call accepts as keywords, or None if any is, or if they are not known."""
        node = found.node if isinstance(found, Definition) else None
        if found is None or isinstance(found, Module):
            return None
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            return None if node.args.kwarg else keywords(node)
        if not isinstance(node, ast.ClassDef):
            return None
        if any(ast.unparse(decorator).split("(")[0].endswith("dataclass") for decorator in node.decorator_list):
            return None
        own = next((f for f in node.body if isinstance(f, ast.FunctionDef) and f.name == "__init__"), None)
        if own is not None and not own.args.kwarg:
            return keywords(own)[1:]
        if own is not None and not passes_to_base(own):
            return None
        inherited = self._inherited(node, found.module) if node.bases else []
        return inherited if own is None or inherited is None else [*keywords(own)[1:], *inherited]

    def _inherited(self, node: ast.ClassDef, module: Module) -> list[str] | None:
        """The arguments of the first base that has an `__init__` of its own."""
        for base in self.bases(Definition(node, module)):
            arguments = self.arguments(base)
            if arguments != []:
                return arguments
        return []

    def bases(self, definition: Definition) -> Iterator[Found | None]:
        """The bases of a class."""
        assert isinstance(definition.node, ast.ClassDef)
        for base in definition.node.bases:
            found: Found | None = definition.module
            for part in ast.unparse(base.value if isinstance(base, ast.Subscript) else base).split("."):
                found = self._member(found, part) if found is not None else None
            yield found

    def class_value(self, definition: Definition, name: str) -> Definition | None:
        """The value that a class or one of its bases gives to a class attribute."""
        if not isinstance(definition.node, ast.ClassDef):
            return None
        value = assigned(definition.node.body).get(name)
        if value is not None:
            return Definition(value, definition.module)
        bases = (base for base in self.bases(definition) if isinstance(base, Definition))
        return next((inherited for base in bases if (inherited := self.class_value(base, name))), None)

    def follow(self, name: ast.AST, module: Module) -> Definition | None:
        """The definition that a plain name inside a module stands for."""
        found = self._member(module, name.id) if isinstance(name, ast.Name) else None
        return found if isinstance(found, Definition) else None

    def _module(self, name: str) -> Module | None:
        top, *rest = name.split(".")
        if name in sys.builtin_module_names:
            return Module(name)
        spec = PathFinder.find_spec(top, [str(self.bundle_root)])
        if spec is None or spec.loader is None:  # no loader: a mere folder of this name
            spec = _installed(top)
        for part in rest:
            if spec is None or not spec.submodule_search_locations:
                return None
            spec = PathFinder.find_spec(f"{spec.name}.{part}", spec.submodule_search_locations)
        if spec is None:
            return None
        module = Module(name, is_package=spec.submodule_search_locations is not None)
        if spec.origin and spec.origin.endswith(".py"):
            module.tree = _parsed(spec.origin, os.stat(spec.origin).st_mtime_ns)
            module.names = assigned(module.tree.body)
            module.stars = [
                node
                for node in statements(module.tree.body)
                if isinstance(node, ast.ImportFrom) and node.names[0].name == "*"
            ]
        return module

    def _member(self, found: Found, name: str) -> Found | None:
        if isinstance(found, Definition):
            return Definition(None, found.module)  # an attribute of a class or a value
        if found.tree is None and not found.is_package:
            return Definition(None, found)
        if name in found.names:
            return self._resolve(found.names[name], name, found)
        if found.is_package and (submodule := self.module(f"{found.name}.{name}")):
            return submodule
        for star in found.stars:
            source = _absolute(star, found)
            if source in self._active:
                continue
            self._active.append(source)
            origin = self.module(source)
            member = self._member(origin, name) if origin else Definition(None, found)
            self._active.remove(source)
            if member:
                return member
        dynamic = found.tree is not None and bool({"__getattr__", "globals", "setattr"} & mentioned(found.tree))
        return Definition(None, found) if dynamic else None

    def _resolve(self, node: ast.AST | None, name: str, module: Module) -> Found | None:
        match node:
            case ast.ImportFrom():
                original = next(alias.name for alias in node.names if (alias.asname or alias.name) == name)
                source = _absolute(node, module)
                if source == module.name:
                    return self.module(f"{source}.{original}") or Definition(None, module)
                origin = self.module(source)
                return self._member(origin, original) if origin else Definition(None, module)
            case ast.Import():
                alias = next(alias for alias in node.names if (alias.asname or alias.name.split(".")[0]) == name)
                return self.module(alias.name if alias.asname else name) or Definition(None, module)
            case ast.Name() if node.id in module.names and node.id != name:
                return self._member(module, node.id)
            case ast.Name() | ast.Attribute():
                return Definition(None, module)
        return Definition(node, module)


@cache
def _monai_names() -> dict[str, list[str]]:
    spec = importlib.util.find_spec("monai")
    names: dict[str, list[str]] = {}
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for file in sorted(Path(folder).rglob("*.py")):
            parts = file.relative_to(Path(folder).parent).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            for match in DEFINITION.finditer(file.read_text(encoding="utf-8")):
                for defined in (match[1] or match[2]).split(" = "):
                    names.setdefault(defined, []).append(name)
    return names


@cache
def _parsed(path: str, modified: int) -> ast.Module:
    """The syntax tree of a file as it was at the time `modified`."""
    return ast.parse(Path(path).read_text(encoding="utf-8"))


def _installed(name: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except ValueError:  # a module without a spec, such as __main__
        return None


def _absolute(node: ast.ImportFrom, module: Module) -> str:
    if not node.level:
        return node.module or ""
    parts = module.package.split(".")
    return ".".join([*parts[: len(parts) - node.level + 1], *([node.module] if node.module else [])])
