"""The bundles that there are, by name."""

from __future__ import annotations

from pathlib import Path

from scripts.errors import UserError


def expect_bundle(bundles: Path, name: str, config: str) -> Path:
    """The folder of a bundle, which has the file configs/CONFIG that the verb needs.

    Raises:
        UserError: there is none of this name.
    """
    bundle = bundles / name
    if not (bundle / "configs" / config).is_file():
        known = sorted(path.parents[1].name for path in bundles.glob(f"*/configs/{config}"))
        raise UserError(f"--bundle: expected one of {', '.join(known)}, found {name!r}")
    return bundle
