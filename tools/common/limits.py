"""What no config comes near: a hostile one that goes beyond it ends in a message before it takes all memory or time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scripts.errors import UserError

if TYPE_CHECKING:
    import yaml

MOST_VALUES = 100_000
DEEPEST = 100
MOST_EXPRESSIONS = 2_000
LONGEST_EXPRESSION = 10_000  # characters; nobody reviews more


class Limits:
    """Counts the values of one file.

    Args:
        file: its name, for the message.
    """

    def __init__(self, file: str) -> None:
        self._file, self._values, self._expressions = file, 0, 0

    def add(self, value: Any, depth: int) -> None:
        """Count a value that lies so many levels deep, or raise UserError where it is one too many."""
        self._values += 1
        if self._values > MOST_VALUES or depth > DEEPEST:
            raise self._refused(f"{MOST_VALUES} values in {DEEPEST} levels")
        if isinstance(value, str) and value.startswith("$"):
            self._expressions += 1
            if self._expressions > MOST_EXPRESSIONS or len(value) > LONGEST_EXPRESSION:
                raise self._refused(f"{MOST_EXPRESSIONS} expressions of {LONGEST_EXPRESSION} characters")

    def add_document(self, node: yaml.Node) -> None:
        """Count the values of a YAML document with its aliases replaced, without replacing them."""
        if self._size(node, {}, 0) > MOST_VALUES:
            raise self._refused(f"{MOST_VALUES} values in {DEEPEST} levels")

    def add_tree(self, tree: Any) -> None:
        """Count the values of a tree of mappings and lists."""
        waiting = [(tree, 0)]
        while waiting:
            value, depth = waiting.pop()
            self.add(value, depth)
            if isinstance(value, dict | list):
                inner = value.values() if isinstance(value, dict) else value
                waiting.extend((one, depth + 1) for one in inner)

    def _size(self, node: yaml.Node, known: dict[int, int], depth: int) -> int:
        if depth > DEEPEST:
            raise self._refused(f"{MOST_VALUES} values in {DEEPEST} levels")
        if id(node) not in known:
            known[id(node)] = MOST_VALUES + 1  # until it is counted, so that one that contains itself is too large
            parts = [part for child in children(node) for part in (child if isinstance(child, tuple) else (child,))]
            known[id(node)] = 1 + sum(self._size(part, known, depth + 1) for part in parts)
        return known[id(node)]

    def _refused(self, most: str) -> UserError:
        return UserError(f"{self._file}: expected a config of at most {most}, found more; do not use it")


def children(node: yaml.Node) -> list[Any]:
    """The nodes in a YAML node: pairs in a mapping."""
    return node.value if isinstance(node.value, list) else []
