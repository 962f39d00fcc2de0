"""Two files of one patient are never apart: whose a file is, by its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tools.new.trees import found, look, make, patients_of
from tools.common.findings import Findings


@pytest.mark.parametrize(
    "patients",
    [
        {"patient001": ["patient001_frame01", "patient001_frame12"], "patient002": ["patient002_frame01"]},
        {"case_01": ["case_01_pre", "case_01_post"], "case_02": ["case_02_pre"]},
        {"case01": ["case01pre", "case01post"], "case02": ["case02pre"]},
        {"BraTS20_Training_001": ["BraTS20_Training_001"], "BraTS20_Training_002": ["BraTS20_Training_002"]},
        {"001": ["CT_001", "MR_001"], "002": ["CT_002"]},
        {"patient1": ["visit1_patient1", "visit2_patient1"], "patient2": ["visit1_patient2"]},
        {"p7": ["20200131_p7", "20210230_p7", "2022_p7"], "p8": ["20200131_p8"]},
        {"smith": ["smith_pre", "smith_post"], "jones": ["jones_pre"]},
        {"smith": ["pre_smith", "post_smith"], "jones": ["pre_jones"]},
        {"s1": ["s1/T1", "s1/T2"], "s2": ["s2/T1"]},
        {"p1": ["ED/p1", "ES/p1"], "p2": ["ED/p2"]},
        {"case_1": ["site1/case_1", "site2/case_1"], "case_2": ["site1/case_2"]},
        {"amos_0001": ["amos_0001"], "amos_2020": ["amos_2020"]},
        {"sub_2": ["ses-1_sub-2", "ses-2_sub-2"], "sub_3": ["ses-1_sub-3"]},
        {"scan_1": ["scan_1", "scan_1_day_2"], "scan_2": ["scan_2"]},
        {"scan01": ["scan01_run1", "scan01_run2"], "scan02": ["scan02_run1"]},
        {"patient001": ["patient001_frame01", "patient001_frame12"]},
        {"alone": ["alone"]},
    ],
    ids=lambda patients: next(iter(patients.values()))[0],
)
def test_files_of_one_patient_are_found_by_their_names(patients: dict[str, list[str]], tmp_path: Path) -> None:
    names = {name: patient for patient, several in patients.items() for name in several}
    make(tmp_path, *(f"{name}{end}.nii.gz" for name in names for end in ("", "_gt")))
    source = found(tmp_path)
    assert {case.images[0].relative_to(tmp_path).as_posix()[:-7]: case.patient for case in source.cases} == names


def test_labelled_and_unlabelled_images_of_one_patient_are_together(tmp_path: Path) -> None:
    make(tmp_path, "i/p_01_a.nii.gz", "l/p_01_a.nii.gz", "u/p_01_b.nii.gz", "u/p_02_b.nii.gz")
    source = found(tmp_path / "i", tmp_path / "l", tmp_path / "u")
    assert patients_of(source) == {"p_01_a": "p_01", "p_01_b": "p_01", "p_02_b": "p_02"}


def test_numbers_of_channels_tell_no_patient(tmp_path: Path) -> None:
    make(tmp_path, *(f"i/x_{p}_{t}_000{c}.nii.gz" for p in (1, 2) for t in "ab" for c in (0, 1)), "l/x_1_a.nii.gz")
    source = found(tmp_path / "i", tmp_path / "l")
    assert patients_of(source) == {"x_1_a": "x_1", "x_1_b": "x_1", "x_2_a": "x_2", "x_2_b": "x_2"}
    make(tmp_path / "names", "i/smith_0000.nii.gz", "i/jones.nii.gz", "l/smith.nii.gz")
    source = found(tmp_path / "names" / "i", tmp_path / "names" / "l")
    assert patients_of(source) == {"smith": "smith", "jones": "jones"}


def test_a_pattern_decides_against_everything_else(tmp_path: Path) -> None:
    make(tmp_path, "A-7-x.nii.gz", "A-7-x_gt.nii.gz", "B-7-y.nii.gz")
    assert patients_of(found(tmp_path, patients=r"^([AB])")) == {"A-7-x": "A", "B-7-y": "B"}
    assert patients_of(found(tmp_path, patients=r"[xy]")) == {"A-7-x": "x", "B-7-y": "y"}
    (tmp_path / "c.csv").write_text("image,label,patient\nA-7-x.nii.gz,A-7-x_gt.nii.gz,listed\n")
    assert patients_of(found(tmp_path / "c.csv", patients=r"^([AB])")) == {"A-7-x": "A"}
    assert patients_of(found(tmp_path / "c.csv")) == {"A-7-x": "listed"}


def test_a_pattern_may_fit_the_folder(tmp_path: Path) -> None:
    make(tmp_path, "x_1/imaging.nii.gz", "x_1/segmentation.nii.gz", "x_2/imaging.nii.gz")
    assert set(patients_of(found(tmp_path, patients=r"x_(\d)/")).values()) == {"1", "2"}


def test_a_pattern_that_does_not_fit_is_told(tmp_path: Path) -> None:
    make(tmp_path, "a1.nii.gz", "a1_gt.nii.gz", "b.nii.gz")
    (line,) = look(tmp_path, patients=r"(\d+)").lines
    assert line.startswith(f"{tmp_path / 'b.nii.gz'}: expected a patient by --patients '(\\\\d+)', found none; change")
    (line,) = look(tmp_path, patients="(").lines
    assert line.startswith("--patients: expected a regular expression, found '(' (")
    make(tmp_path, *(f"c{name}.nii.gz" for name in "abcdef"))
    (line,) = look(tmp_path, patients=r"(\d+)").lines
    assert "found none for 7 (b.nii.gz, ca.nii.gz, cb.nii.gz and 4 more)" in line


def test_what_was_done_is_noted(tmp_path: Path) -> None:
    make(tmp_path, "p1_a.nii.gz", "p1_b.nii.gz", "p2_a.nii.gz", "p1_a_gt.nii.gz")
    findings = Findings()
    found(tmp_path, findings=findings)
    assert findings.notes == [
        "patients by the names of files: 2 of 3 images, such as 'p1' of p1_a.nii.gz; --patients REGEX changes that"
    ]


def test_one_patient_in_two_of_the_data_sets_roles_is_told(tmp_path: Path) -> None:
    make(tmp_path, "p1_a.nii.gz", "p1_b.nii.gz", "p2_a.nii.gz", "l.nii.gz")
    rows = "image,label,role\np1_a.nii.gz,l.nii.gz,train\np1_b.nii.gz,,test\np2_a.nii.gz,,\n"
    (tmp_path / "c.csv").write_text(rows)
    (line,) = look(tmp_path / "c.csv").lines
    assert "expected one role of the patient p1, found p1_a (train) and p1_b (test); give them one role" in line
