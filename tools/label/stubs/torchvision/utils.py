"""The two functions that MONAI Label imports. Neither is called by what this project serves."""

from __future__ import annotations

from typing import Any, NoReturn


def make_grid(*args: Any, **kwargs: Any) -> NoReturn:
    """Only pictures of interactive models need it."""
    raise NotImplementedError("torchvision.utils.make_grid: install torchvision, this is a stub")


def save_image(*args: Any, **kwargs: Any) -> NoReturn:
    """Only pictures of interactive models need it."""
    raise NotImplementedError("torchvision.utils.save_image: install torchvision, this is a stub")
