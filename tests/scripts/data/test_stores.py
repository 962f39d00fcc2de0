"""The store of preprocessed volumes: the same batches, never a stale entry, only what is needed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import CacheDataset
from monai.transforms import ClassesToIndicesd, Compose, RandCropByLabelClassesd, RandFlipd

from scripts.data.stores import ABOUT, keep_volumes
from scripts.data.streams import SampleDataset
from scripts.errors import UserError
from tests.stored_cases import Items, assert_as_computed, copied_cases, counted, entries, preprocessing, stored
from tools.common.paths import BUNDLES


@pytest.fixture
def items(abdomen_phantom: Path, tmp_path: Path) -> Items:
    return copied_cases(abdomen_phantom, tmp_path)


@pytest.mark.parametrize(
    ("bundle", "settings"),
    [
        ("dca_synapse", {"spacing": [8, 8, 8], "patch_size": [16] * 3, "balanced_crops": True}),
        ("dca_amos", {"spacing": [8, 8, 8], "patch_size": [16] * 3, "balanced_crops": False, "flip_probability": 0.5}),
        ("dca_acdc", {"image_size": [32, 32]}),
    ],
)
def test_batches_are_bit_for_bit_those_of_memory(
    bundle: str, settings: dict[str, Any], heart_phantom: Path, abdomen_phantom: Path, tmp_path: Path
) -> None:
    data = heart_phantom if bundle == "dca_acdc" else abdomen_phantom
    found = []
    for cache_dir, workers in ((None, 0), (str(tmp_path / "store"), 0), (str(tmp_path / "store"), 2)):
        parser = ConfigParser()
        parser.read_config(str(BUNDLES / bundle / "configs" / "train.json"))
        root = {"bundle_root": str(BUNDLES / bundle), "dataset_dir": str(data), "split_file": str(data / "split.json")}
        parser.update({**root, "percent": 50, **settings})
        parser.update({"cache_dir": cache_dir, "num_workers": workers, "steps": 4, "epochs": 1, "num_classes": 15})
        parser.update({"unlabelled": "$@split['unlabelled']", "train::dataset_u::data": "@unlabelled"})
        parser.update(
            {"labels": {str(i): str(i) for i in range(1, 16)}} if bundle != "dca_acdc" else {"num_classes": 3}
        )
        loader = parser.get_parsed_content("train::dataloader")
        loader.set_epoch(0)
        found.append(list(loader))
    memory, *others = found
    assert len(memory) == 4
    for batches in others:
        for one, other in zip(memory, batches, strict=True):
            assert one.keys() == other.keys() == {"image", "label", "image_u"}
            assert all(one[key].dtype == other[key].dtype == torch.float32 for key in one)
            assert all(torch.equal(one[key], other[key]) for key in one)
    assert len(entries(tmp_path)) > 1


def test_without_a_folder_the_volumes_are_in_memory(items: Items) -> None:
    kept = keep_volumes(items, preprocessing(), cache_rate=0.5)
    assert isinstance(kept, CacheDataset)
    assert kept.cache_num == 1


def test_a_case_is_preprocessed_once_for_all_runs(items: Items, tmp_path: Path) -> None:
    with counted(preprocessing()) as calls:
        first = stored(items, tmp_path, num_workers=2)
        assert sorted(calls) == ["a", "b"]
        again = stored(items[::-1], tmp_path)
        assert [again[i]["id"] for i in (0, 1, 0)] == ["b", "a", "b"]
        assert sorted(calls) == ["a", "b"]
    assert_as_computed(first, items)
    assert_as_computed(again, items[::-1])
    assert len(entries(tmp_path)) == 2


def new_values(path: str) -> None:
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[::-1].copy(), image.affine), path)


def new_affine(path: str) -> None:
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), image.affine * 1.0001), path)


@pytest.mark.parametrize(("key", "change"), [("image", new_values), ("image", new_affine), ("label", new_values)])
def test_a_changed_file_of_the_same_name_makes_a_new_entry(
    key: str, change: Callable[[str], None], items: Items, tmp_path: Path
) -> None:
    stored(items, tmp_path)
    change(items[0][key])
    with counted(preprocessing()) as calls:
        found = stored(items, tmp_path)
    assert calls == ["a"]
    assert_as_computed(found, items)
    assert len(entries(tmp_path)) == 3


def test_a_file_that_was_moved_or_touched_does_not(items: Items, tmp_path: Path) -> None:
    stored(items, tmp_path)
    items[1]["image"] = shutil.move(items[1]["image"], tmp_path / "moved.nii.gz")
    os.utime(items[0]["image"], (0, 0))
    with counted(preprocessing()) as calls:
        stored(items, tmp_path)
    assert calls == []


def test_changed_settings_and_items_make_new_entries(items: Items, tmp_path: Path) -> None:
    stored(items, tmp_path)
    found = stored(items, tmp_path, preprocessing(window=200))
    assert_as_computed(found, items, preprocessing(window=200))
    assert len(entries(tmp_path)) == 4
    stored([{**items[0], "spacing": [1, 1, 2]}], tmp_path)
    assert len(entries(tmp_path)) == 5


def test_random_transforms_and_missing_files_are_refused(items: Items, tmp_path: Path) -> None:
    transform = Compose([*preprocessing().transforms, RandFlipd("image", prob=0.5)])
    with pytest.raises(UserError, match="cache_dir: expected deterministic transforms, found RandFlipd among them"):
        stored(items, tmp_path, transform)
    Path(items[1]["image"]).unlink()
    with pytest.raises(UserError, match=r"\.nii\.gz: expected a readable image, found: No such file"):
        stored(items, tmp_path)


def test_changes_to_a_sample_do_not_reach_the_store(items: Items, tmp_path: Path) -> None:
    found = stored(items, tmp_path)
    found[0]["image"].zero_()
    assert_as_computed(found, items)


def test_an_entry_says_what_it_is(items: Items, tmp_path: Path) -> None:
    [(entry, _)] = stored(items[:1], tmp_path).entries
    about = json.loads((entry / ABOUT).read_text())
    assert about["item"]["id"] == "a"
    assert len(about["item"]["image"]) == len(about["item"]["label"]) == 64  # hashes, no paths
    assert "LoadCased" in json.dumps(about["recipe"])
    assert {path.name for path in entry.iterdir()} == {ABOUT, "image.npy", "label.npy"}
    assert np.load(entry / "label.npy", allow_pickle=False).dtype == np.uint8


def test_a_crop_opens_the_arrays_of_its_case_and_copies_nothing_else(items: Items, tmp_path: Path) -> None:
    indices = ClassesToIndicesd("label", "_indices", num_classes=14, max_samples_per_class=50)
    crop = RandCropByLabelClassesd(
        ("image", "label"),
        "label",
        (16, 16, 16),
        [0] + [1] * 13,
        num_classes=14,
        indices_key="label_indices",
        warn=False,
    )
    found = stored(items[:1], tmp_path, Compose([*preprocessing().transforms, indices]))
    volume, opened = found[0]["image"], []
    open_map = np.memmap
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np, "memmap", lambda path, *rest: (opened.append(Path(path).name), open_map(path, *rest))[1])
        sample = SampleDataset(found, Compose([crop])).sample(0, seed=1)
    assert opened == ["image.npy", "label.npy", "label_indices.npy"]
    # The image is still a window into the file's map, nothing of it was copied; of the label, the window was.
    assert sample["image"].untyped_storage().nbytes() == volume.numel() * 4
    assert sample["image"].stride() == volume.stride()
    assert sample["label"].untyped_storage().nbytes() == 16**3 * 4
