import re

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import Compose, Flipd, Rotate90d, Rotated

from scripts.data.transforms import LoadCased, RandTurnOrRotated
from scripts.errors import UserError

AFFINE = np.diag([-1.5, -1.5, 8.0, 1.0])
SHAPE = (6, 5, 4)


def write(path, array):
    nib.save(nib.Nifti1Image(array, AFFINE), path)
    return str(path)


def label_array():
    return (np.arange(np.prod(SHAPE)).reshape(SHAPE) % 4).astype(np.uint8)


@pytest.fixture
def case(tmp_path):
    """A sound case: file names of image and label, labels 0..3."""
    image = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    return {
        "image": write(tmp_path / "image.nii.gz", image),
        "label": write(tmp_path / "label.nii.gz", label_array()),
        "id": "case_1",
    }


def error_of(case, **options):
    with pytest.raises(UserError) as info:
        LoadCased(num_classes=3, **options)(case)
    message = str(info.value)
    assert "\n" not in message
    return message


def test_sound_case_becomes_tensors_with_affine(case):
    item = LoadCased(num_classes=3)(case)
    assert item["id"] == "case_1"
    for key in ("image", "label"):
        assert item[key].shape == (1, *SHAPE)
        assert item[key].dtype == torch.float32
        np.testing.assert_allclose(np.abs(np.diag(item[key].affine)), np.abs(np.diag(AFFINE)))
    np.testing.assert_array_equal(item["label"][0].numpy(), label_array())


def test_unlabelled_case_needs_no_label(case):
    del case["label"]
    assert set(LoadCased(num_classes=3)(case)) == {"image", "id"}


def test_an_item_has_the_modality_that_its_case_names_or_else_the_usual_one(case):
    load = LoadCased(num_classes=3, modality="MR")
    assert load(case)["modality"] == "MR"
    assert load(case | {"modality": "XR"})["modality"] == "XR"


def test_stack_of_slices_can_be_asked_for(case, tmp_path):
    flat = write(tmp_path / "flat.nii.gz", np.eye(6, 5, dtype=np.float32))
    assert LoadCased(num_classes=3, spatial_dims=2)({"image": flat})["image"].shape == (1, 6, 5)


@pytest.mark.parametrize("key", ["image", "label"])
def test_missing_file_is_named(case, tmp_path, key):
    case[key] = str(tmp_path / "gone.nii.gz")
    assert error_of(case).startswith(f"{case[key]}: expected a 3D NIfTI volume, found no such file; restore the file")


@pytest.mark.parametrize("key", ["image", "label"])
def test_truncated_file_is_named(case, tmp_path, key):
    noise = np.random.default_rng(0).integers(0, 3, size=(64, 64, 8)).astype(np.uint8)
    path = tmp_path / "cut.nii.gz"
    write(path, noise)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    case[key] = str(path)
    message = error_of(case)
    assert message.startswith(f"{path}: expected a readable image, found: ")
    assert "end-of-stream" in message


def test_file_of_another_format_is_named(case, tmp_path):
    case["image"] = str(tmp_path / "text.nii.gz")
    (tmp_path / "text.nii.gz").write_text("no image\nat all\n")
    assert re.match(
        r".*text\.nii\.gz: expected a 3D NIfTI volume, .* found content that is not NIfTI; ", error_of(case)
    )


@pytest.mark.parametrize("key", ["image", "label"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_named(case, tmp_path, key, value):
    array = label_array().astype(np.float32)
    array[1, 2, 3] = value
    case[key] = write(tmp_path / "nan.nii.gz", array)
    expected = "finite numbers, found NaN or infinity; " if key == "image" else f"label values 0..3, found {value}; "
    assert error_of(case).startswith(f"{case[key]}: expected {expected}")


@pytest.mark.parametrize("value", [7, 4, -1, 1.5])
def test_wrong_label_value_is_named(case, tmp_path, value):
    array = label_array().astype(np.float32)
    array[0, 0, 0] = value
    case["label"] = write(tmp_path / "wrong.nii.gz", array)
    assert error_of(case).startswith(f"{case['label']}: expected label values 0..3, found {value:g}; ")


@pytest.mark.parametrize("key", ["image", "label"])
@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 4, 2)])
def test_wrong_number_of_axes_is_named(case, tmp_path, key, shape):
    case[key] = write(tmp_path / "axes.nii.gz", np.zeros(shape, np.float32))
    found = f"{len(shape)}D ({' x '.join(map(str, shape))})"
    assert error_of(case).startswith(f"{case[key]}: expected a 3D NIfTI volume, found {found}; export the file as one")


def test_label_of_another_shape_is_named(case, tmp_path):
    case["label"] = write(tmp_path / "shape.nii.gz", label_array()[:, :, :3])
    expected = f"{case['label']}: expected the shape of its image (6, 5, 4), found (6, 5, 3); "
    assert error_of(case).startswith(expected)


MOVED = {"keys": ("image", "label"), "allow_missing_keys": True}


def drawn(seed, item):
    transform = RandTurnOrRotated(**MOVED, degrees=20, mode=("bilinear", "nearest"))
    transform.set_random_state(seed)
    return transform, transform(item)


@pytest.mark.parametrize(("size", "quarters"), [((24, 24), {1, 2, 3}), ((24, 17), {2})], ids=["square", "not square"])
def test_slices_are_moved_as_monai_moves_them_and_keep_their_size(size, quarters):
    item = {"image": torch.rand(1, *size), "label": torch.randint(0, 4, (1, *size), dtype=torch.uint8), "id": "a"}
    kinds = set()
    for seed in range(24):
        transform, moved = drawn(seed, item)
        if transform.rotates:
            mode, padding = ("bilinear", "nearest"), "border"
            expected = Rotated(**MOVED, angle=transform.angle, mode=mode, padding_mode=padding)(item)
        else:
            k = transform.turns if transform.turns in quarters else 2
            turn = [Rotate90d(**MOVED, k=k), *[Flipd(**MOVED, spatial_axis=0)] * transform.flips]
            expected = Compose(turn)(item)
        torch.testing.assert_close(moved["image"], expected["image"].as_tensor(), rtol=0, atol=1e-5)
        assert torch.equal(moved["label"].float(), expected["label"].as_tensor().float())
        assert moved["id"] == "a"
        assert moved["image"].shape[1:] == size
        kinds.add("rotated" if transform.rotates else (k, transform.flips))
    assert len(kinds) == 1 + 2 * len(quarters)


def test_image_moves_alike_with_and_without_a_label():
    item = {"image": torch.rand(1, 8, 8), "label": torch.zeros(1, 8, 8)}
    for seed in range(8):
        assert torch.equal(drawn(seed, item)[1]["image"], drawn(seed, {"image": item["image"]})[1]["image"])


def test_every_move_is_as_likely_as_its_share():
    transform = RandTurnOrRotated(**MOVED, degrees=20, mode=("bilinear", "nearest"))
    transform.set_random_state(0)
    draws = []
    for _ in range(3000):
        transform.randomize()
        draws.append((transform.rotates, transform.flips, transform.turns, transform.angle))
    rotates, flips, turns, angles = (np.array(column) for column in zip(*draws, strict=True))
    three_sigma = 3 * 0.5 / np.sqrt(3000)
    assert np.mean(rotates) == pytest.approx(0.5, abs=three_sigma)
    assert np.mean(flips[~rotates]) == pytest.approx(0.5, abs=2 * three_sigma)
    assert [np.mean(turns == k) for k in range(5)] == pytest.approx([0, 1 / 3, 1 / 3, 1 / 3, 0], abs=three_sigma)
    shares, _ = np.histogram(np.rad2deg(angles), bins=4, range=(-20, 20))
    assert shares / 3000 == pytest.approx([0.25] * 4, abs=three_sigma)


def test_slices_whose_classes_have_sides_are_turned_and_never_mirrored() -> None:
    slice_ = torch.arange(16.0).view(1, 4, 4)
    turns = {tuple(slice_.rot90(k, (1, 2)).flatten().tolist()) for k in range(4)}
    mirrored = {tuple(slice_.rot90(k, (1, 2)).flip(1).flatten().tolist()) for k in range(1, 4)}
    seen = {flips: set() for flips in (False, True)}
    for flips, found in seen.items():
        move = RandTurnOrRotated(["image"], degrees=0, mode=["nearest"], flips=flips).set_random_state(seed=0)
        found |= {tuple(move({"image": slice_})["image"].flatten().tolist()) for _ in range(60)}
    assert seen[False] == turns
    assert seen[True] > mirrored
