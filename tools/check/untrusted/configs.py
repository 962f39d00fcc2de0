"""Configs of a foreign bundle: parsed as plain values and listed, never resolved or evaluated."""

from __future__ import annotations

import configparser
import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import yaml

from scripts.errors import UserError

from ...common.config import SEPARATOR
from ...common.limits import Limits, children
from .allowed import CALLED_ARGUMENTS, OWN_CALLED, is_allowed
from .findings import Finding, shown

MOST_BYTES = 1024 * 1024
LONGEST_REASON = 120

CONFIG_FILE = re.compile(r".+\.(json|ya?ml)(::.*)?", re.IGNORECASE)
PLAIN_TAGS = {"str", "int", "float", "bool", "null", "seq", "map", "timestamp", "binary", "merge", "value", "set"}
# Flags that make a harmless target load or fetch, by the value that does.
FLAGS = {
    "allow_pickle": (True, "unpickles files, which can run anything"),
    "weights_only": (False, "unpickles files, which can run anything"),
    "pretrained": (True, "fetches weights from the network"),
    "trust_repo": (True, "runs fetched code"),
    "trust_remote_code": (True, "runs fetched code"),
    "_debug_": (True, "stops in a debugger"),
}
WORDS = {True: ("true", "yes", "on", "1"), False: ("false", "no", "off", "0", "none", "null")}
# What logging.config.fileConfig evaluates, and the values that stand in MONAI's own templates.
EVALUATED = {
    "class": {"StreamHandler", "logging.StreamHandler", "logging.Formatter", "NullHandler"},
    "args": {"(sys.stdout,)", "(sys.stderr,)", "()"},
    "kwargs": {"{}"},
    "defaults": {"{}"},
}


class Pairs(list[tuple[str, Any]]):
    """A mapping of a config, with keys that stand in it twice."""


def config_findings(file: str, data: bytes) -> Iterator[Finding]:
    """What a JSON or YAML file of a bundle would run, import or reach.

    Raises:
        UserError: it cannot be read, or is larger or more nested than any config.
    """
    try:
        text = _text(file, data)
        if file.lower().endswith(".json"):
            plain = [json.loads(text, object_pairs_hook=Pairs, parse_int=str, parse_float=str, parse_constant=str)]
        else:
            # Composed only: no tag constructs anything. libyaml's composer is no choice, deep nesting crashes it.
            documents = [one for one in yaml.compose_all(text, yaml.SafeLoader) if one is not None]
            for document in documents:
                Limits(shown(file)).add_document(document)
                yield from _tags(file, document)
            plain = [_plain(document) for document in documents]
    except UserError:
        raise
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())[:LONGEST_REASON]
        raise UserError(f"{shown(file)}: expected JSON or YAML, found what does not parse: {shown(reason)}") from None
    for number, document in enumerate(plain):
        yield from _walk(file, document, f"document {number + 1}" if len(plain) > 1 else "")


def _walk(file: str, document: Any, start: str) -> Iterator[Finding]:
    """All findings of a tree of plain values; without recursion, so that its depth is checked in one place."""
    waiting: list[tuple[str, str, Any, int]] = [(start, "", document, 0)]
    limits = Limits(shown(file))
    while waiting:
        place, key, value, depth = waiting.pop()
        limits.add(value, depth)
        if isinstance(value, Pairs):
            children = [
                (name, str(name).replace("#", SEPARATOR).split(SEPARATOR)[-1].lstrip("+"), inner)
                for name, inner in value
            ]
            for name, times in Counter(name for name, *_ in children).items():
                if times > 1:
                    yield Finding(
                        file, place, "key", name, f"stands {times} times: which one counts depends on the reader"
                    )
        elif isinstance(value, list):
            children = [(str(number), key, inner) for number, inner in enumerate(value)]
        else:
            yield from _value(file, place, key, value)
            continue
        below = [
            (f"{place}{SEPARATOR}{name}" if place else name, last, inner, depth + 1) for name, last, inner in children
        ]
        waiting.extend(reversed(below))


def _value(file: str, place: str, key: str, value: Any) -> Iterator[Finding]:
    word = str(value).strip().lower()
    if key in FLAGS and word in WORDS[FLAGS[key][0]]:
        yield Finding(file, place, "flag", word, FLAGS[key][1])
    if not isinstance(value, str):
        return
    if value.startswith("$"):
        imports = value[1:].lstrip().startswith(("import ", "from "))
        yield Finding(file, place, "expression", value, "imports a module" if imports else "is run as Python")
    elif key == "_target_" and value.startswith("scripts."):
        yield Finding(file, place, "target", value, "the bundle's own code")
    elif key == "_target_" and not is_allowed(value):
        yield Finding(file, place, "target", value, "called, and not known to be harmless")
    elif key == "_mode_" and value not in ("default", "callable"):
        yield Finding(file, place, "mode", value, "stops in a debugger")
    elif key in CALLED_ARGUMENTS and not OWN_CALLED.fullmatch(value):
        yield Finding(file, place, "argument", value, "MONAI imports and calls what it names")
    elif value.startswith("%") and CONFIG_FILE.fullmatch(value.replace("#", SEPARATOR)) and leaves(value[1:]):
        yield Finding(file, place, "macro", value, "takes in a config from outside the bundle")
    elif leaves(value):
        yield Finding(file, place, "path", value, "leads out of the bundle")


def leaves(path: str) -> bool:
    """Whether a text is a path that leads out of the folder it is used in: absolute, of a user's home, or with `..`."""
    outside = re.match(r"[/\\]|~[\w.-]*(/|$)|[A-Za-z]:[/\\]|file:", path)
    return outside is not None or ".." in re.split(r"[/\\]", path)


def _tags(file: str, node: yaml.Node) -> Iterator[Finding]:
    seen: set[int] = set()
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if node.tag.removeprefix("tag:yaml.org,2002:") not in PLAIN_TAGS:
            why = "a reader that trusts it makes an object or calls a function of it"
            yield Finding(file, f"line {node.start_mark.line + 1}", "tag", node.tag, why)
        for child in children(node):
            waiting.extend(child if isinstance(child, tuple) else [child])


def _plain(node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return Pairs((str(key.value), _plain(value)) for key, value in node.value)
    if isinstance(node, yaml.SequenceNode):
        return [_plain(one) for one in node.value]
    return node.value


def _text(file: str, data: bytes) -> str:
    if len(data) > MOST_BYTES:
        raise UserError(f"{shown(file)}: expected at most {MOST_BYTES} bytes, found more; do not use this bundle")
    return data.decode()


def logging_findings(file: str, data: bytes) -> Iterator[Finding]:
    """What an INI file would have `logging` evaluate or call."""
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read_string(_text(file, data))
    except UserError:
        raise
    except (ValueError, configparser.Error) as error:
        reason = " ".join(str(error).split())[:LONGEST_REASON]
        raise UserError(f"{shown(file)}: expected an INI file, found what does not parse: {shown(reason)}") from None
    for section in [parser.default_section, *parser.sections()]:
        for key, value in parser.items(section):
            if key in EVALUATED and " ".join(value.split()) not in EVALUATED[key]:
                yield Finding(
                    file, f"{section}{SEPARATOR}{key}", "logging", value, "is evaluated or called by Python's logging"
                )
