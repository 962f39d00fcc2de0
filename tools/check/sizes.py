"""The sizes of images, patches and windows, and what the networks can take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scripts.validation import shown

from ..common.config import SEPARATOR
from ..common.findings import Findings
from .cases import Cases
from .values import Values

# The networks halve every axis four times and pad it to a multiple of this before.
MULTIPLE = 16
SIZES = ("image_size", "patch_size")


def check_sizes(values: Values, cases: Cases | None, findings: Findings) -> None:
    """Find sizes that the network cannot take, and note those that it takes badly.

    A size below 16 would be padded to 16 with repeated voxels, so that most of what the network sees were invented:
    that is allowed, but noted, and so is a size that the volumes do not have.
    """
    axes = values.get(f"network_def{SEPARATOR}spatial_dims", int)
    windows = [
        item_id
        for item_id, value in values.config.items()
        if item_id.endswith(f"{SEPARATOR}roi_size") and not (isinstance(value, str) and value.startswith("@"))
    ]
    for item_id in [name for name in SIZES if name in values.config] + windows:
        size: Any = values.get(item_id, object)
        if size is None:
            continue
        if not _is_size(size):
            if item_id not in SIZES:  # which `expect_settings` looks at
                findings.problem(item_id, f"expected whole numbers above 0, found {shown(size)}")
        elif axes is not None and len(size) != axes:
            text = f"expected {axes} numbers (network_def::spatial_dims), found {len(size)}: {_by(size)}"
            findings.problem(item_id, text)
        else:
            _note_padding(item_id, size, findings)
            if cases is not None and item_id in SIZES:
                _compare_with_volumes(item_id, size, cases, findings)


def _is_size(size: Any) -> bool:
    return (
        isinstance(size, list | tuple)
        and len(size) > 0
        and all(isinstance(axis, int) and not isinstance(axis, bool) and axis > 0 for axis in size)
    )


def _note_padding(item_id: str, size: Sequence[int], findings: Findings) -> None:
    padded = [-(-axis // MULTIPLE) * MULTIPLE for axis in size]
    if min(size) < MULTIPLE:
        findings.note(f"{item_id} {_by(size)}: below {MULTIPLE} the network sees mostly padding; enlarge it")
    elif list(size) != padded:
        findings.note(f"{item_id} {_by(size)}: the network pads it to {_by(padded)}; better use that")


def _compare_with_volumes(item_id: str, size: Sequence[int], cases: Cases, findings: Findings) -> None:
    shapes = [case["shape"] for role in cases.roles for case in cases.roles[role] if "shape" in case]
    small = [shape for shape in shapes if any(axis < wanted for axis, wanted in zip(shape, size, strict=False))]
    if small:
        share = f"{len(small)} of {len(shapes)} volumes"
        findings.note(f"{item_id} {_by(size)} is larger than {share} (such as {_by(min(small))})")


def _by(size: Sequence[int]) -> str:
    return " x ".join(map(str, size))
