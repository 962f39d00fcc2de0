"""What a setting may be, checked before anything depends on it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .errors import UserError, did_you_mean
from .validation import problems


def expect_one_of(name: str, value: object, allowed: Iterable[str]) -> None:
    """Make sure that a setting has one of its values, before anything depends on it.

    Raises:
        UserError: another value.
    """
    known = list(allowed)
    if value not in known:
        raise UserError(f"{name}: expected a known value, found {value!r}; {did_you_mean(str(value), known)}")


def expect_at_least(name: str, value: float, least: float) -> None:
    """Make sure that a number is not too small.

    Raises:
        UserError: a smaller one.
    """
    if value < least:
        raise UserError(f"{name}: expected at least {least:g}, found {value!r}")


def expect_settings(**settings: Any) -> None:
    """Make sure that settings are in their ranges (schemas/settings.json), before anything depends on them.

    Args:
        settings: values by their names.

    Raises:
        UserError: what is wrong with them, all in one line.
    """
    found = [str(problem) for name, value in settings.items() for problem in problems(value, "settings", name)]
    window = settings.get("window")
    if not found and window is not None and not window[0] < window[1]:
        found = [f"window: expected two intensities, the lower first, found {list(window)}"]
    if found:
        raise UserError("; ".join(found))


def expect_device(name: str, value: object) -> None:
    """Make sure that this machine has a device, before data are loaded and a network is sent there.

    Raises:
        UserError: it has not, or the setting names none.
    """
    import torch  # here, since the tools import this module and start fast

    try:
        device = torch.device(value)  # type: ignore[call-overload]
    except (RuntimeError, TypeError):
        raise UserError(
            f"{name}: expected a device such as cpu or cuda:0, found {value!r}; name one, or leave it to the config"
        ) from None
    kind = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    count = torch.accelerator.device_count() if kind is not None else 0
    if device.type == "cpu" or (kind is not None and device.type == kind.type and (device.index or 0) < count):
        return
    known = ", ".join(["cpu", *(f"{kind}:{index}" for index in range(count))])
    mend = "name one of these, or leave it to the config"
    if device.type == "cuda" and torch.version.cuda is None:
        mend = "this torch is built without CUDA: install one that has it, or choose cpu"
    raise UserError(f"{name}: expected one of this machine ({known}), found {device}; {mend}")


def as_flag(name: str, value: object) -> bool:
    """A switch as a command line hands it over: MONAI passes `true` and `false` on as words, and every word is true.

    Raises:
        UserError: neither a bool nor one of these words.
    """
    if isinstance(value, bool):
        return value
    flag = {"true": True, "false": False}.get(str(value).lower()) if isinstance(value, str) else None
    if flag is None:
        raise UserError(f"{name}: expected true or false, found {value!r}")
    return flag
