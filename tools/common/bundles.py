"""The bundles that there are, by name or by folder."""

from __future__ import annotations

import os
from pathlib import Path

from scripts.errors import UserError

from .paths import BUNDLES


def expect_bundle(bundles: Path, name: str, config: str) -> Path:
    """The folder of a bundle, which has the file configs/CONFIG that the verb needs.

    Args:
        bundles: folder of the bundles that have names.
        name: one of them, or the path of a folder elsewhere, with a slash.
        config: name of a config.

    Raises:
        UserError: there is none of this name.
    """
    bundle = Path(os.path.abspath(name)) if os.sep in name else bundles / name
    if not (bundle / "configs" / config).is_file():
        known = sorted(path.parents[1].name for path in bundles.glob(f"*/configs/{config}"))
        raise UserError(f"--bundle: expected one of {', '.join(known)}, or the path of a bundle, found {name!r}")
    return bundle


def bundle_argument(bundle: Path) -> str:
    """What `expect_bundle` finds this folder by."""
    return bundle.name if bundle.parent == BUNDLES else str(bundle)
