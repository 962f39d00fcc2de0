"""What a setting may be, checked before anything depends on it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from .errors import UserError, did_you_mean

if TYPE_CHECKING:
    import torch


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


def expect_length_or_none(name: str, value: object) -> None:
    """Make sure that a setting is a finite number above 0, or null for none.

    Raises:
        UserError: anything else.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if value is not None and not (number and 0 < value < math.inf):  # type: ignore[operator]
        raise UserError(f"{name}: expected a number above 0, or null for none, found {value!r}")


def expect_volume_settings(spacing: Sequence[float], window: Sequence[float], overlap: float | Sequence[float]) -> None:
    """Make sure that the grid, the intensities and the windows of a 3D bundle make sense, before data are read.

    Args:
        spacing: mm per axis, above 0.
        window: the intensities that become 0 and 1, the lower first.
        overlap: share of a window that the next one covers again, from 0 to below 1; one number or one per axis.

    Raises:
        UserError: the first of them that does not.
    """
    if len(spacing) != 3 or not all(mm > 0 for mm in spacing):
        raise UserError(f"spacing: expected three numbers of mm above 0, found {list(spacing)}; set `spacing`")
    if len(window) != 2 or not window[0] < window[1]:
        raise UserError(f"window: expected two intensities, the lower first, found {list(window)}; set `window`")
    shares = [overlap] if isinstance(overlap, int | float) else list(overlap)
    if len(shares) not in (1, 3) or not all(0 <= share < 1 for share in shares):
        raise UserError(f"overlap: expected shares from 0 to below 1, found {overlap}; set `overlap`")


def device_named(name: str, value: object) -> torch.device:
    """The device that a setting names, whether this machine has it or not.

    Raises:
        UserError: it names none.
    """
    import torch  # here, since the tools import this module and start fast

    try:
        return torch.device(value)  # type: ignore[call-overload]
    except (RuntimeError, TypeError):
        raise UserError(
            f"{name}: expected a device such as cpu or cuda:0, found {value!r}; name one, or leave it to the config"
        ) from None


def expect_device(name: str, value: object) -> None:
    """Make sure that this machine has a device, before data are loaded and a network is sent there.

    Raises:
        UserError: it has not, or the setting names none.
    """
    import torch

    device = device_named(name, value)
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
