"""A bundle config as data: a tree addressed by ids, and the file that it is read from."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scripts.errors import UserError
from scripts.files import read_json

from .limits import Limits

SEPARATOR = "::"
REFERENCE = re.compile(r"@\w*(?:::\w*)*")


class Config:
    """A config tree, addressed by MONAI's ids: `train::handlers::0`."""

    def __init__(self) -> None:
        self.tree: dict[str, Any] = {}
        self.references: dict[str, list[str]] = {}  # id -> ids that refer to it

    def get(self, item_id: str) -> Any:
        """The content at an id; KeyError names the first part that does not exist."""
        node: Any = self.tree
        for part in item_id.split(SEPARATOR) if item_id else []:
            node = _child(node, part)
        return node

    def __contains__(self, item_id: str) -> bool:
        try:
            self.get(item_id)
        except KeyError:
            return False
        return True

    def set(self, item_id: str, value: Any) -> None:
        """Put `value` at an id whose parent exists; else KeyError."""
        parent_id, _, key = item_id.rpartition(SEPARATOR)
        parent = self.get(parent_id)
        if isinstance(parent, dict):
            parent[key] = value
        else:
            _child(parent, key)
            parent[int(key)] = value

    def items(self, node: Any = None, item_id: str = "") -> Iterator[tuple[str, Any]]:
        """All ids with their contents, at every depth."""
        node = self.tree if node is None else node
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            child = f"{item_id}{SEPARATOR}{key}" if item_id else str(key)
            yield child, value
            if isinstance(value, dict | list):
                yield from self.items(value, child)

    def components(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The mappings with a `_target_` that the runner would instantiate, with their ids."""
        for item_id, value in self.items():
            if isinstance(value, dict) and "_target_" in value and value.get("_disabled_") not in (True, "true"):
                yield item_id, value

    def expressions(self) -> Iterator[tuple[str, str]]:
        """The strings that MONAI evaluates, with their ids."""
        for item_id, value in self.items():
            if isinstance(value, str) and value.startswith("$"):
                yield item_id, value

    def named(self, key: str) -> list[str]:
        """All ids whose last part is `key`."""
        return [item_id for item_id, _ in self.items() if item_id.split(SEPARATOR)[-1] == key]

    def suggest(self, item_id: str) -> str:
        """The end of a message about an unknown id: the same with a close name, or where else its last part exists."""
        parts = item_id.split(SEPARATOR)
        known = next(i for i in reversed(range(len(parts))) if SEPARATOR.join(parts[:i]) in self)
        parent = self.get(SEPARATOR.join(parts[:known]))
        names = map(str, parent) if isinstance(parent, dict) else ()
        close = difflib.get_close_matches(parts[known], names, n=1)
        meant = [SEPARATOR.join([*parts[:known], name, *parts[known + 1 :]]) for name in close]
        meant = self.named(item_id) + meant if len(parts) == 1 else meant + self.named(parts[-1])
        return f"; did you mean '{meant[0]}'?" if meant else ""


def _child(node: Any, key: str) -> Any:
    if isinstance(node, dict):
        for name, value in node.items():
            if str(name) == key:  # the command line makes {1: liver} of numbers
                return value
    if isinstance(node, list) and key.lstrip("-").isdigit() and -len(node) <= int(key) < len(node):
        return node[int(key)]
    raise KeyError(key)


def read_mapping(path: str | Path, kind: str) -> dict[str, Any]:
    """Read a bundle's config: JSON by `read_json`, or YAML, which MONAI's runner takes, too.

    All other files of this project are JSON. The bundle's code, which has `read_json`, has to do without PyYAML.

    Args:
        path: the file.
        kind: the file's role, for the error.

    Raises:
        UserError: the file is missing, does not parse, or does not hold a mapping.
    """
    if not str(path).lower().endswith((".yaml", ".yml")) or not Path(path).is_file():
        content = read_json(path, kind)
        Limits(str(path)).add_tree(content)
        return content
    import yaml

    try:
        text = Path(path).read_text(encoding="utf-8")
        document = yaml.compose(text, yaml.SafeLoader)
        if document is not None:
            Limits(str(path)).add_document(document)  # before aliases are replaced, which can take all memory
        content = yaml.safe_load(text)
    except UserError:
        raise
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"{path}: expected a {kind}, found YAML that does not parse: {reason}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a {kind} (a mapping), found a {type(content).__name__}")
    Limits(str(path)).add_tree(content)
    return content
