"""The classes and functions that a config names by `_target_`, and their arguments."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Mapping
from typing import Any

from .config import SEPARATOR
from .expressions import Values
from .findings import Findings, hint
from .source import Definition, Found, SourceCode

SPECIAL_KEYS = {"_target_", "_disabled_", "_requires_", "_desc_", "_mode_"}
METHODS = "scripts.methods.METHODS"
VARIANTS = "scripts.methods.VARIANTS"
LEARNING_RATE = "scripts.methods.learning_rate"
VARIANT_PARTS = ("method", "options", "network_options")  # the arguments of `Variant`, in their order
PRESET_KEY = re.compile(r"@presets\[@preset\]\[['\"](\w+)['\"]\]")


def check_components(values: Values, source: SourceCode, findings: Findings) -> None:
    """Find targets and imports that do not exist, and arguments that the targets do not have."""
    for item_id, component in values.config.components():
        target = component["_target_"]
        if isinstance(target, str) and target[:1] not in ("$", "@"):
            _check_target(item_id, target, component, values, source, findings)
    for item_id, text in values.config.expressions():
        if text.startswith("$import "):
            name = text.removeprefix("$import ").split(" as ")[0].strip()
            if re.fullmatch(r"[\w.]+", name) and source.find(name) is None:
                text = f"expected a module to import, found none named {name}; install it or correct the name"
                findings.problem(item_id, text)


def _check_target(
    item_id: str, target: str, component: Mapping[str, Any], values: Values, source: SourceCode, findings: Findings
) -> None:
    candidates = find_target(target, source)
    if not candidates:
        known = source.known_names(target) if "." in target else [*source.monai_names]
        text = f"expected _target_ to name a class or function, found no {target}{hint(target.split('.')[-1], known)}"
        findings.problem(item_id, text)
        return
    given = [key for key in component if key not in SPECIAL_KEYS]
    signatures = [source.arguments(candidate) for candidate in candidates]
    accepted = [name for signature in signatures for name in signature or []]
    for key in given:
        if None not in signatures and key not in accepted:
            text = f"expected an argument of {target}, found {key!r}{hint(key, accepted)}"
            findings.problem(f"{item_id}{SEPARATOR}{key}", text)
    if target == "scripts.methods.create_method":
        _check_method(item_id, "name", component, values, source, findings)
    elif target == "scripts.methods.create_predictor":
        _check_method(item_id, "method", component, values, source, findings)


def find_target(target: str, source: SourceCode) -> list[Found]:
    """What a `_target_` may stand for; without a dot, MONAI looks in all its modules, then among the built-ins."""
    if "." in target:
        names = [target]
    elif target in source.monai_names:
        names = [f"{module}.{target}" for module in source.monai_names[target]]
    else:
        names = [f"builtins.{target}"] if hasattr(builtins, target) else []
    return [found for name in names if (found := source.find(name))]


def methods(source: SourceCode) -> dict[str, Definition]:
    """The class of every method of the bundle, by the method's name."""
    registry = source.find(METHODS)
    if not isinstance(registry, Definition) or not isinstance(registry.node, ast.Dict):
        return {}
    return {
        str(key.value): cls
        for key, value in zip(registry.node.keys, registry.node.values, strict=True)
        if isinstance(key, ast.Constant) and (cls := source.follow(value, registry.module))
    }


def variants(source: SourceCode) -> dict[str, dict[str, Any]]:
    """What every variant of the bundle fixes, by its name: "method", "options" and "network_options"."""
    registry = source.find(VARIANTS)
    if not isinstance(registry, Definition) or not isinstance(registry.node, ast.Dict):
        return {}
    found = {}
    for key, value in zip(registry.node.keys, registry.node.values, strict=True):
        if isinstance(key, ast.Constant) and isinstance(value, ast.Call):
            given = dict(zip(VARIANT_PARTS, value.args, strict=False))
            given |= {keyword.arg: keyword.value for keyword in value.keywords if keyword.arg}
            found[str(key.value)] = {"options": {}, "network_options": {}} | {
                part: ast.literal_eval(node) for part, node in given.items()
            }
    return found


def named_methods(source: SourceCode) -> dict[str, Definition]:
    """The class behind every name that `--method` takes: those of methods, and those of their variants."""
    known = methods(source)
    return known | {name: known[f["method"]] for name, f in variants(source).items() if f["method"] in known}


def method_options(cls: Definition, source: SourceCode) -> list[str] | None:
    """The options of a method: the arguments of its class, but for the predictor; None if they are not known."""
    arguments = source.arguments(cls)
    return None if arguments is None else arguments[1:]


def _check_method(
    item_id: str, name_key: str, component: Mapping[str, Any], values: Values, source: SourceCode, findings: Findings
) -> None:
    """Compare the name and the options of a method with its class, or with the class of its network."""
    known = named_methods(source)
    name = values.get(f"{item_id}{SEPARATOR}{name_key}", str)
    if name is None or not known:
        return
    if name not in known:
        where = values.origin(f"{item_id}{SEPARATOR}{name_key}")
        findings.problem(where, f"expected the name of a method, found {name!r}{hint(name, known)}")
        return
    what, accepted = f"method {name}", method_options(known[name], source)
    given = {}
    if name_key == "method":
        network = source.class_value(known[name], "network")
        cls = source.follow(network.node, network.module) if network and network.node else None
        what, accepted = f"the network of method {name}", source.arguments(cls)
        common = (key for key in component if key not in SPECIAL_KEYS | {"method", "preset", "options"})
        # Common arguments that are None are left out where a network does not have them.
        places = {f"{item_id}{SEPARATOR}{key}": key for key in common}
        given = {where: key for where, key in places.items() if values.get(where, object) is not None}
    options = values.origin(f"{item_id}{SEPARATOR}options")
    given |= {f"{options}{SEPARATOR}{key}": key for key in values.get(options, dict) or {}}
    for where, key in given.items():
        if accepted is not None and key not in accepted:
            text = f"expected an option of {what}, found {key!r}{hint(key, accepted)}"
            findings.problem(values.origin(where), text)


def know_learning_rates(values: Values, source: SourceCode) -> None:
    """Tell `values` what `scripts.methods.learning_rate` gives, out of the classes' `published_lr`."""
    for item_id, component in values.config.components():
        if component["_target_"] != LEARNING_RATE:
            continue
        method, preset, dims, rate = (
            values.get(f"{item_id}{SEPARATOR}{key}", object)
            for key in ("method", "preset", "spatial_dims", "otherwise")
        )
        cls = named_methods(source).get(str(method))
        published = source.class_value(cls, "published_lr") if cls else None
        if published is None or published.node is None or rate is None:
            continue
        rates = ast.literal_eval(published.node)
        values.known[item_id] = rates.get(dims, rate) if preset == "published" else rate


def check_presets(values: Values, findings: Findings) -> None:
    """Find settings in `presets` that the config does not take from there."""
    used = {key for _, text in values.config.expressions() for key in PRESET_KEY.findall(text)}
    known = sorted(used & values.config.tree.keys()) or sorted(used)
    for name, settings in (values.get("presets", dict) or {}).items():
        for key in settings if isinstance(settings, dict) else ():
            if key not in used | values.config.tree.keys():  # a setting that an override replaces is not used
                where = SEPARATOR.join(("presets", name, key))
                findings.problem(where, f"expected a setting that the config takes from its presets{hint(key, known)}")
