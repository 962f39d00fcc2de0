"""Data and settings held against the JSON schemas in schemas/, once, where they enter.

The schemas are documentation, too: an editor that is pointed to one checks a file while it is written.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .errors import UserError, did_you_mean, first_few
from .files import read_json

if TYPE_CHECKING:
    from jsonschema import ValidationError
    from jsonschema.protocols import Validator

SCHEMAS = Path(__file__).parent / "schemas"


class Problem(NamedTuple):
    """Where something is wrong, as the keys that lead there, what was expected and what was found."""

    path: tuple[str | int, ...]
    expected: str
    found: str

    def __str__(self) -> str:
        """One line, such as "cases[3].shape: expected a list, found 5"."""
        where = "".join(f"[{key}]" if isinstance(key, int) else f".{_plain(key)}" for key in self.path).lstrip(".")
        return f"{where}: expected {self.expected}, found {self.found}".removeprefix(": ")


def problems(content: Any, schema: str, name: str | None = None) -> list[Problem]:
    """What is wrong with some content, each thing once.

    Args:
        content: of a JSON file, or the value of a setting.
        schema: name of a file in schemas/, without its ending.
        name: of the property of the schema that the content is the value of; None: the content is all of it.
    """
    return list(dict.fromkeys(_problems(content, schema, name)))


def _problems(content: Any, schema: str, name: str | None) -> Iterator[Problem]:
    start = () if name is None else (name,)
    try:
        errors = list(_validator(schema, name).iter_errors(content))
    except (ValueError, RecursionError):  # jsonschema puts the content into its messages
        yield Problem(start, "values that can be shown", "numbers of thousands of digits or endless nesting")
        return
    for error in errors:
        path = (*start, *error.absolute_path)
        if error.validator == "additionalProperties" and error.validator_value is False:
            known = list(error.schema["properties"])
            for key in error.instance.keys() - known:
                yield Problem((*path, key), "a known key", f"another; {did_you_mean(_plain(key), known)}")
        elif error.validator == "required":
            missing = next(key for key in error.validator_value if f"{key!r} is" in error.message)
            yield Problem(path, f"a key {missing!r}", _shown(sorted(error.instance)))
        else:
            yield Problem(path, _expected(error), shown(error.instance))


def read_valid(path: str | Path, kind: str, schema: str, mend: str) -> dict[str, Any]:
    """A JSON object from a file, as its schema has it.

    Args:
        path: the file.
        kind: the file's role, for the error.
        schema: name of a file in schemas/, without its ending.
        mend: what to do about a wrong file.

    Raises:
        UserError: no JSON object (`read_json`), or what is wrong with it, in one line.
    """
    content = read_json(path, kind)
    found = [*map(str, problems(content, schema))]
    if found:
        raise UserError(f"{path}: {first_few(found)}; {mend}")
    return content


def shown(value: Any) -> str:
    """A value as a short part of a message; of one that may be deep or long, only what it is."""
    deep = isinstance(value, dict) or (
        isinstance(value, list | tuple) and any(isinstance(one, dict | list | tuple) for one in value)
    )
    return f"a {type(value).__name__}" if deep else _shown(value)


def _shown(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:76]} ..."


def _plain(key: Any) -> str:
    return ascii(key)[1:-1][:60]


def _expected(error: ValidationError) -> str:
    """The description of what does not hold; every part of a schema that can fail has one."""
    cause = error
    while "description" not in cause.schema and cause.parent is not None:
        cause = cause.parent
    return str(cause.schema["description"])


@functools.cache
def _schema(name: str) -> dict[str, Any]:
    return read_json(SCHEMAS / f"{name}.json", "schema")


@functools.cache
def _validator(schema: str, name: str | None) -> Validator:
    """jsonschema's, with the numbers of Python and torch, and tuples as arrays, since expressions make them."""
    from jsonschema import Draft202012Validator, validators
    from referencing import Registry, Resource

    resources = [(f"{file.stem}.json", Resource.from_contents(_schema(file.stem))) for file in SCHEMAS.glob("*.json")]
    types = Draft202012Validator.TYPE_CHECKER.redefine_many(
        {
            "number": lambda checker, value: _is_whole(value) or (isinstance(value, float) and math.isfinite(value)),
            "integer": lambda checker, value: _is_whole(value),
            "array": lambda checker, value: isinstance(value, list | tuple),
        }
    )
    kind = validators.extend(Draft202012Validator, type_checker=types)
    part = "" if name is None else f"/properties/{name}"
    return kind({"$ref": f"{schema}.json#{part}"}, registry=Registry().with_resources(resources))


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
