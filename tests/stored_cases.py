"""Cases for the tests of the store of volumes: two that a test may change, how they are preprocessed and compared."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.transforms import CastToTyped, Compose, ScaleIntensityRanged

from scripts.data.stores import StoredVolumes
from scripts.data.transforms import LoadCased

Items = list[dict[str, Any]]


def copied_cases(phantom: Path, folder: Path) -> Items:
    """Two cases of a phantom, copied into `folder`: one with a label, one without."""
    files = [sorted((phantom / part).iterdir()) for part in ("images", "labels")]
    for source in (*files[0][:2], files[1][0]):
        (folder / source.parent.name).mkdir(exist_ok=True)
        shutil.copy(source, folder / source.parent.name)
    first, second = (str(folder / "images" / file.name) for file in files[0][:2])
    label = str(folder / "labels" / files[1][0].name)
    return [{"id": "a", "image": first, "label": label, "modality": "CT"}, {"id": "b", "image": second}]


def preprocessing(window: float = 275) -> Compose:
    return Compose(
        [
            LoadCased(13),
            ScaleIntensityRanged("image", -125, window, 0, 1, clip=True),
            CastToTyped("label", torch.uint8, allow_missing_keys=True),
        ]
    )


def stored(items: Items, folder: Path, transform: Compose | None = None, **options: Any) -> StoredVolumes:
    return StoredVolumes(items, transform or preprocessing(), folder / "store", **options)


def entries(folder: Path) -> list[Path]:
    return sorted((folder / "store").iterdir())


def assert_as_computed(found: StoredVolumes, items: Items, transform: Compose | None = None) -> None:
    for mine, item in zip(found, items, strict=True):
        expected = (transform or preprocessing())(dict(item))
        assert mine.keys() == expected.keys()
        for key in ("image", "label"):
            assert (key in mine) == (key in expected)
            if key in mine:
                assert type(mine[key]) is torch.Tensor
                assert mine[key].dtype == expected[key].dtype
                assert torch.equal(mine[key], expected[key].as_tensor())


@contextmanager
def counted(transform: Compose) -> Iterator[list[str]]:
    """The ids of the items that the first transform was called with."""
    first, calls = transform.transforms[0], []
    plain = type(first).__call__

    def call(self: Any, data: Any) -> Any:
        calls.append(data["id"])
        return plain(self, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(first), "__call__", call)
        yield calls
