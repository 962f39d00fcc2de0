"""The classes and functions that a config names by `_target_`, and their arguments."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Mapping
from pydoc import ErrorDuringImport, locate
from typing import TYPE_CHECKING, Any

from scripts.errors import UserError, first_line

from ..common.config import SEPARATOR
from ..common.findings import Findings, hint
from .values import Values, missing_module

if TYPE_CHECKING:
    from monai.bundle.config_item import ComponentLocator

    from scripts.methods.base import Method

SPECIAL_KEYS = {"_target_", "_disabled_", "_requires_", "_desc_", "_mode_"}
CHECKS = "scripts.settings."  # functions that look at settings and do nothing else
METHOD, NETWORK = "scripts.methods.create_method", "scripts.methods.create_predictor"
UNKNOWN: Any = object()
RANGE_CHECK = "scripts.settings.expect_settings"
PRESET_KEY = re.compile(r"@presets\[@(?:options_)?preset\]\[['\"](\w+)['\"]\]")


def check_components(values: Values, findings: Findings) -> None:
    """Find targets and imports that do not exist, arguments that the targets do not have, and settings that fail."""
    for item_id, component in values.config.components():
        target = component["_target_"]
        if isinstance(target, str) and target[:1] not in ("$", "@"):
            _check_target(item_id, target, component, values, findings)
    for item_id, text in values.config.expressions():
        name = missing_module(text)
        if name is not None:
            text = f"expected a module to import, found none named {name}; install it or correct the name"
            findings.problem(item_id, text)


def _check_target(item_id: str, target: str, component: Mapping[str, Any], values: Values, findings: Findings) -> None:
    found = find_target(target)
    if found is None:
        text = f"expected _target_ to name a class or function, found no {target}"
        findings.problem(item_id, text + hint(target.split(".")[-1], _known_names(target)))
        return
    accepted = arguments(found)
    for key in component:
        if accepted is not None and key not in SPECIAL_KEYS and key not in accepted:
            text = f"expected an argument of {target}, found {key!r}{hint(key, accepted)}"
            findings.problem(f"{item_id}{SEPARATOR}{key}", text)
    if target == METHOD:
        _check_method(item_id, "name", component, values, findings)
    elif target == NETWORK:
        _check_method(item_id, "method", component, values, findings)
    elif target.startswith(CHECKS):
        keys = [key for key in component if key not in SPECIAL_KEYS]
        given = {key: values.get(f"{item_id}{SEPARATOR}{key}", object, UNKNOWN) for key in keys}
        if target == RANGE_CHECK:
            for key in [key for key in keys if given[key] is not UNKNOWN]:
                _check_settings(item_id, found, {key: given[key]}, findings)
        elif UNKNOWN in given.values():
            return
        else:
            _check_settings(item_id, found, given, findings)


def _check_settings(item_id: str, check: Callable[..., Any], given: Mapping[str, Any], findings: Findings) -> None:
    try:
        check(**given)
    except UserError as error:
        findings.error(error)
    except TypeError as error:
        findings.problem(item_id, f"cannot be computed: {error}; correct the values that it uses")


def find_target(target: str) -> Callable[..., Any] | None:
    """The class or function that a `_target_` stands for, as MONAI finds it."""
    from monai.bundle.config_item import ConfigComponent

    name = ConfigComponent({"_target_": target}, locator=_locator()).resolve_module_name()
    try:
        found = locate(str(name))
    except ErrorDuringImport:
        return None
    return found if callable(found) else None


@functools.cache
def _locator() -> ComponentLocator:
    """MONAI's table of its own classes and functions, which takes a second to make."""
    from monai.bundle.config_item import ComponentLocator

    return ComponentLocator()


def _known_names(target: str) -> list[str]:
    """The names beside the last part of a target that was not found."""
    if "." not in target:
        return list(_locator()._components_table or {})
    module = locate(target.rpartition(".")[0])
    return [name for name in vars(module) if not name.startswith("_")] if inspect.ismodule(module) else []


def arguments(found: Callable[..., Any]) -> list[str] | None:
    """The names that a call accepts as keywords, or None if any is, or if they are not known.

    A class of this project passes what it takes by ** on to its base.
    """
    try:
        parameters = inspect.signature(found).parameters.values()
    except (TypeError, ValueError):  # compiled
        return None
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    if not any(p.kind == p.VAR_KEYWORD for p in parameters):
        return names
    if inspect.isclass(found) and found.__module__.startswith("scripts."):
        inherited = arguments(found.__bases__[0])
        return None if inherited is None else [*names, *inherited]
    return None


def _check_method(
    item_id: str, name_key: str, component: Mapping[str, Any], values: Values, findings: Findings
) -> None:
    """Compare the name and the options of a method with its class, or with the class of its network."""
    known = named_methods()
    name = values.get(f"{item_id}{SEPARATOR}{name_key}", str)
    if name is None:
        return
    if name not in known:
        where = values.origin(f"{item_id}{SEPARATOR}{name_key}")
        findings.problem(where, f"expected the name of a method, found {name!r}{hint(name, known)}")
        return
    what, accepted = f"method {name}", method_options(known[name])
    given = {}
    if name_key == "method":
        what, accepted = f"the network of method {name}", list(inspect.signature(known[name].network).parameters)
        common = (key for key in component if key not in SPECIAL_KEYS | {"method", "preset", "options"})
        # Common arguments that are None are left out where a network does not have them.
        places = {f"{item_id}{SEPARATOR}{key}": key for key in common}
        given = {where: key for where, key in places.items() if values.get(where, object) is not None}
    options = values.origin(f"{item_id}{SEPARATOR}options")
    given |= {f"{options}{SEPARATOR}{key}": key for key in values.get(options, dict) or {}}
    for where, key in given.items():
        if key not in accepted:
            text = f"expected an option of {what}, found {key!r}{hint(key, accepted)}"
            findings.problem(values.origin(where), text)


def check_building(values: Values, findings: Findings) -> None:
    """Find what the method and its network say of their options: both are made as torch makes them without memory.

    Called after `check_components`, and only if that found nothing: what has a wrong name cannot be made.
    """
    import torch

    from scripts.methods import create_predictor, unprepared_method

    where, of_network = _known_arguments(NETWORK, values)
    if not of_network:
        return
    try:
        with torch.device("meta"):
            network = create_predictor(**of_network)
            where, given = _known_arguments(METHOD, values)
            if given:
                chosen = {key: given[key] for key in ("name", "preset", "options") if key in given}
                unprepared_method(predictor=network, **chosen)
    except UserError as error:
        findings.error(error)
    except Exception as error:  # whatever torch says of sizes that do not fit
        findings.problem(where, f"cannot be made: {first_line(error)}; correct its options")


def _known_arguments(target: str, values: Values) -> tuple[str, dict[str, Any]]:
    """The id of a component, and those of its arguments that have values; none if there is no such component."""
    for item_id, component in values.config.components():
        if component["_target_"] == target:
            keys = [
                key for key in component if key not in SPECIAL_KEYS and f"{item_id}{SEPARATOR}{key}" in values.config
            ]
            found = {key: values.get(f"{item_id}{SEPARATOR}{key}", object, UNKNOWN) for key in keys}
            return item_id, {key: value for key, value in found.items() if value is not UNKNOWN}
    return "", {}


def named_methods() -> dict[str, type[Method]]:
    """The class behind every name that `--method` takes: those of methods, and those of their variants."""
    from scripts.methods import METHODS
    from scripts.methods.variants import VARIANTS

    return METHODS | {name: METHODS[variant.method] for name, variant in VARIANTS.items()}


def method_options(cls: type[Method]) -> list[str]:
    """The options of a method: the arguments of its class, but for the predictor."""
    return list(inspect.signature(cls).parameters)[1:]


def check_presets(values: Values, findings: Findings) -> None:
    """Find settings in `presets` that the config does not take from there."""
    used = {key for _, text in values.config.expressions() for key in PRESET_KEY.findall(text)}
    known = sorted(used & values.config.tree.keys()) or sorted(used)
    for name, settings in (values.get("presets", dict) or {}).items():
        for key in settings if isinstance(settings, dict) else ():
            if key not in used | values.config.tree.keys():  # a setting that an override replaces is not used
                where = SEPARATOR.join(("presets", name, key))
                findings.problem(where, f"expected a setting that the config takes from its presets{hint(key, known)}")
