"""The config that MONAI's bundle runner would make of files and overrides: merged, overridden, macros expanded."""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.errors import UserError

from .config import REFERENCE, SEPARATOR, Config, read_mapping
from .findings import Findings, hint

RELATIVE = re.compile(r"[@%](?:::)+")
CONFIG_FILE = re.compile(r"(.+\.(?:json|ya?ml))(?:::(.*))?", re.IGNORECASE)
FLAG = re.compile(r"--|-[a-zA-Z]")
# Options of the runner itself: no ids of the config.
RUNNER_OPTIONS = {"run_id", "init_id", "final_id", "meta_file", "logging_file", "tracking", "args_file"}
# What the runner looks up without any reference to it.
RUNNER_IDS = {"initialize", "run", "finalize", "imports"}
# What a word on the command line cannot stand for, and its name in a message; a bool is an int, so it comes first.
NO_WORDS = ((bool, "True or False"), (int | float, "a number"), (list, "a list"))


def parse_overrides(words: Sequence[str], findings: Findings) -> dict[str, Any]:
    """The overrides of a command line as `python -m monai.bundle run` reads them: by the rules of Python Fire."""
    from fire.parser import DefaultParseValue

    overrides: dict[str, Any] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not FLAG.match(word):
            findings.problem(word, "expected an override like --lr 0.1, found a word without an id; remove it")
            continue
        key, equals, value = word.lstrip("-").partition("=")
        key = key.replace("-", "_")
        if not equals:
            if rest and not FLAG.match(rest[0]):
                value = rest.pop(0)
            else:
                key, value = (key[2:], "False") if key.startswith("no") else (key, "True")
        overrides[key.replace("#", SEPARATOR)] = DefaultParseValue(value)
    return {key: value for key, value in overrides.items() if key not in RUNNER_OPTIONS}


def load_config(files: Sequence[Path], overrides: Mapping[str, Any], findings: Findings) -> Config:
    """Merge the files, apply the overrides, expand macros and relative ids, and collect the references.

    Raises:
        UserError: a file that cannot be read, or a first file that only makes sense on top of another.
    """
    config = Config()
    added: list[tuple[str, str, float]] = []  # new id, what set it, how similar a known name must be to be meant
    for number, file in enumerate(files):
        for key, value in read_mapping(file, "bundle config").items():
            _merge(config, key.replace("#", SEPARATOR), value, file, number == 0, added, findings)
    for key, value in overrides.items():
        _override(config, key, value, added, findings)
    _expand(config, config.tree, "", findings)
    _collect_references(config, findings)
    new = {item_id for item_id, *_ in added}
    for item_id, source, similarity in added:
        _judge_added(config, item_id, source, similarity, new, findings)
    return config


def _merge(
    config: Config,
    key: str,
    value: Any,
    file: Path,
    first: bool,
    added: list[tuple[str, str, float]],
    findings: Findings,
) -> None:
    item_id = key.removeprefix("+")
    known = item_id in config
    try:
        old = config.get(item_id) if key != item_id and known else None
        if isinstance(old, dict) and isinstance(value, dict):
            old.update(value)
        elif isinstance(old, list) and isinstance(value, list):
            old.extend(value)
        elif old is not None:
            found = f"{type(value).__name__} for {type(old).__name__}"
            findings.problem(key, f"expected two mappings or two lists to merge, found {found} in {file}")
        else:
            config.set(item_id, value)
            if not first and not known:
                added.append((item_id, str(file), 0.8))
    except KeyError as missing:
        if first:
            raise UserError(
                f"{file}: expected a config that stands alone, found {key!r} without {missing}; this file changes "
                f"another one, so name both: \"['TRAIN.json','{file.name}']\""
            ) from None
        findings.problem(key, f"expected an id to set in {file}, found no {missing}{config.suggest(item_id)}")


def _override(config: Config, key: str, value: Any, added: list[tuple[str, str, float]], findings: Findings) -> None:
    item_id = key.removeprefix("+")
    if key != item_id:
        findings.problem(f"--{key}", "MONAI's runner merges by + only in files, here it would replace; use a file")
    if value is None:
        findings.problem(f"--{key}", "MONAI's runner ignores an override by None; set null in a file of overrides")
        return
    known = item_id in config
    if known:
        check_word(key, value, config.get(item_id), findings)
    try:
        config.set(item_id, value)
    except KeyError:
        findings.problem(f"--{key}", f"expected an id of the config, found none of this name{config.suggest(item_id)}")
        return
    if not known:
        added.append((item_id, "", 0.6))


def check_word(key: str, value: Any, own: Any, findings: Findings) -> None:
    """Note a word on the command line where the config's own value is none."""
    expected = next((name for kind, name in NO_WORDS if isinstance(own, kind)), None)
    if expected and isinstance(value, str) and value[:1] not in ("$", "@", "%"):
        findings.problem(f"--{key}", f"expected {expected}, found the word {value!r}")


def _judge_added(
    config: Config, item_id: str, source: str, similarity: float, new: Collection[str], findings: Findings
) -> None:
    """An id that was new is a slip of the keyboard, unless something uses it; no slip of another new one."""
    parent_id, _, key = item_id.rpartition(SEPARATOR)
    parent = config.get(parent_id)
    if "_target_" in parent or item_id.startswith("presets::"):
        return  # `components` compares them with what the code and the config use
    if item_id in config.references or item_id in RUNNER_IDS:
        return
    others = [str(name) for name in parent if name != key] if isinstance(parent, dict) else []
    siblings = [name for name in others if (SEPARATOR.join([parent_id, name]) if parent_id else name) not in new]
    close = difflib.get_close_matches(key, siblings, n=1, cutoff=similarity)
    if close or not (parent_id or source):
        meant = [] if parent_id else [other for other in config.named(key) if other != item_id]
        meant += [SEPARATOR.join([parent_id, name] if parent_id else [name]) for name in close]
        text = "expected an id of the config, found one that nothing uses"
        where = f"{source}: {item_id}" if source else f"--{item_id}"
        findings.problem(where, text + (f"; did you mean '{meant[0]}'?" if meant else hint(key, siblings)))


def _expand(config: Config, node: Any, item_id: str, findings: Findings) -> None:
    """Make relative ids absolute, and replace macros (%id, %file.json::id) by what they name, in place."""
    for key, value in list(node.items() if isinstance(node, dict) else enumerate(node)):
        child = f"{item_id}{SEPARATOR}{key}" if item_id else str(key)
        if isinstance(value, dict | list):
            _expand(config, value, child, findings)
        elif isinstance(value, str) and (value[:1] in ("@", "%", "$")):
            value = value.replace("#", SEPARATOR)
            for prefix in sorted(set(RELATIVE.findall(value)), reverse=True):
                value = value.replace(prefix, _absolute(prefix, child))
            node[key] = _macro(config, value[1:], child, findings) if value.startswith("%") else value


def _absolute(prefix: str, item_id: str) -> str:
    parts = item_id.split(SEPARATOR)[: -prefix.count(SEPARATOR)]
    return prefix[0] + "".join(part + SEPARATOR for part in parts)


def _macro(config: Config, target: str, item_id: str, findings: Findings) -> Any:
    match = CONFIG_FILE.fullmatch(target)
    source, wanted = config, target
    try:
        if match:
            source, wanted = Config(), match[2] or ""
            source.tree = read_mapping(match[1], "config for a macro")
        return copy.deepcopy(source.get(wanted))
    except KeyError:
        findings.problem(item_id, f"expected %{target} to name an id, found none{source.suggest(wanted)}")
    except UserError as error:
        findings.problem(item_id, str(error))
    return None


def _collect_references(config: Config, findings: Findings) -> None:
    for item_id, value in config.items():
        if not isinstance(value, str):
            continue
        for reference in REFERENCE.findall(value):
            if value.startswith("$") or value == reference:
                config.references.setdefault(reference[1:], []).append(item_id)
    for reference, users in config.references.items():
        if reference not in config:
            for user in users:
                findings.problem(user, f"refers to @{reference}, which does not exist{config.suggest(reference)}")
