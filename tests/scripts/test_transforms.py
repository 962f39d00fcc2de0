import nibabel as nib
import numpy as np
import pytest
import torch

from scripts.errors import UserError
from scripts.transforms import LoadCased

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


def test_stack_of_slices_can_be_asked_for(case, tmp_path):
    flat = write(tmp_path / "flat.nii.gz", np.zeros((6, 5), np.float32))
    assert LoadCased(num_classes=3, spatial_dims=2)({"image": flat})["image"].shape == (1, 6, 5)


@pytest.mark.parametrize("key", ["image", "label"])
def test_missing_file_is_named(case, tmp_path, key):
    case[key] = str(tmp_path / "gone.nii.gz")
    assert error_of(case).startswith(f"{case[key]}: expected a readable image, found: ")


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
    assert error_of(case).startswith(f"{case['image']}: expected a readable image, found: ")


@pytest.mark.parametrize("key", ["image", "label"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_named(case, tmp_path, key, value):
    array = label_array().astype(np.float32)
    array[1, 2, 3] = value
    case[key] = write(tmp_path / "nan.nii.gz", array)
    assert error_of(case).startswith(f"{case[key]}: expected finite numbers, found NaN or infinity; ")


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
    assert error_of(case).startswith(f"{case[key]}: expected an image of 3 axes, found shape {shape}; ")


def test_label_of_another_shape_is_named(case, tmp_path):
    case["label"] = write(tmp_path / "shape.nii.gz", label_array()[:, :, :3])
    expected = f"{case['label']}: expected the shape of its image (6, 5, 4), found (6, 5, 3); "
    assert error_of(case).startswith(expected)
