"""Sizes of the classes in label files."""

import nibabel as nib
import numpy as np
import pytest

from scripts.class_sizes import class_sizes
from scripts.errors import UserError


def save(path, array, spacing=(1.0, 1.0, 1.0)):
    nib.save(nib.Nifti1Image(array, np.diag([*spacing, 1.0])), path)
    return path


def test_class_sizes_sum_over_files_in_voxels_and_mm3(tmp_path):
    first = np.zeros((4, 4, 4), np.uint8)
    first[0, 0, :3] = 1
    first[1, :2, 0] = 3
    second = np.zeros((3, 3, 3), np.int16)
    second[0, 0, 0] = 1
    files = [save(tmp_path / "a.nii.gz", first, (0.5, 0.5, 4)), save(tmp_path / "b.nii.gz", second, (2, 2, 2.5))]
    assert class_sizes(files, 3).tolist() == [4, 0, 2]
    assert class_sizes(files, 3, unit="mm3").tolist() == pytest.approx([3 * 1 + 10, 0, 2])


def test_background_comes_first_where_it_is_asked_for(tmp_path):
    label = np.zeros((3, 3, 3), np.uint8)
    label[0, 0] = 2
    assert class_sizes([save(tmp_path / "a.nii.gz", label)], 2, background=True).tolist() == [24, 0, 3]


def test_all_files_with_wrong_values_are_named_at_once(tmp_path):
    seven = np.zeros((2, 2, 2), np.int16)
    seven[0] = 7
    broken = np.full((2, 2, 2), np.nan, np.float32)
    broken[0] = 0.5
    files = [save(tmp_path / "seven.nii.gz", seven), save(tmp_path / "broken.nii.gz", broken), tmp_path / "none.nii.gz"]
    (tmp_path / "cut.nii.gz").write_bytes(files[0].read_bytes()[:-20])
    with pytest.raises(UserError) as caught:
        class_sizes([*files, tmp_path / "cut.nii.gz"], 3)
    message = str(caught.value)
    assert "\n" not in message
    seven, broken, none, cut, advice = message.split("; ")
    assert seven == f"{files[0]}: expected label values 0..3, found 7"
    assert broken == f"{files[1]}: expected label values 0..3, found 0.5, nan"
    assert none.startswith(f"{files[2]}: expected a readable label image, found: ")
    assert "cut.nii.gz: expected a readable label image, found: " in cut
    assert "None" not in none + cut  # but what the reader said
    assert advice == "correct the files or the number of classes"


def test_the_first_id_beyond_the_classes_is_wrong(tmp_path):
    file = save(tmp_path / "a.nii.gz", np.full((2, 2, 2), 4, np.uint8))
    assert class_sizes([file], 4).tolist() == [0, 0, 0, 8]
    with pytest.raises(UserError, match=r"expected label values 0\.\.3, found 4;"):
        class_sizes([file], 3)


@pytest.mark.parametrize(("count", "found"), [(8, "2, 3, 4, 5, 6, 7, 8, 9"), (9, "2, 3, 4, 5, 6, 7, 8, 9, ...")])
def test_of_many_wrong_values_the_first_eight_are_named(tmp_path, count, found):
    file = save(tmp_path / "a.nii.gz", np.arange(2, 2 + count, dtype=np.int16).reshape(-1, 1, 1))
    with pytest.raises(UserError) as caught:
        class_sizes([file], 1)
    assert f"expected label values 0..1, found {found};" in str(caught.value)


def test_unknown_unit_is_a_user_error():
    with pytest.raises(UserError, match="voxels or mm3, found 'ml'"):
        class_sizes([], 3, unit="ml")
