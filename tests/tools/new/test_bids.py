"""Folders as BIDS has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tools.new.trees import found, labels_of, look, make
from tools.common.findings import Findings


def subject(name: str, *suffixes: str, session: str = "") -> list[str]:
    folder = f"sub-{name}/ses-{session}/anat" if session else f"sub-{name}/anat"
    stem = f"sub-{name}_ses-{session}" if session else f"sub-{name}"
    return [f"{folder}/{stem}_{suffix}.nii.gz" for suffix in suffixes]


@pytest.mark.parametrize(
    "label",
    [
        "sub-01/anat/sub-01_dseg.nii.gz",
        "sub-01/anat/sub-01_label-heart_mask.nii.gz",
        "derivatives/labels/sub-01/anat/sub-01_space-orig_desc-manual_dseg.nii.gz",
        "derivatives/sub-01_dseg.nii",
    ],
)
def test_labels_lie_beside_the_images_or_in_derivatives(label: str, tmp_path: Path) -> None:
    make(tmp_path, *subject("01", "T1w"), *subject("02", "T1w"), label)
    (tmp_path / "dataset_description.json").write_text("{}")
    source = found(tmp_path, tmp_path)
    assert (source.layout, source.channels, source.modality) == ("BIDS", ("T1w",), "MR")
    assert labels_of(source) == {"sub-01": Path(label).name, "sub-02": None}
    assert [case.patient for case in source.cases] == ["sub-01", "sub-02"]


def test_labels_lie_in_a_folder_of_their_own(tmp_path: Path) -> None:
    make(tmp_path / "raw", *subject("01", "ct"), *subject("02", "ct"))
    make(tmp_path / "labels", "sub-02_dseg.nii.gz")
    source = found(tmp_path / "raw", tmp_path / "labels")
    assert labels_of(source) == {"sub-01": None, "sub-02": "sub-02_dseg.nii.gz"}
    assert source.modality == "CT"


def test_suffixes_and_what_else_differs_are_channels(tmp_path: Path) -> None:
    names = ("T1w", "FLAIR", "ce-gad_T1w")
    make(tmp_path, *subject("01", *names), *subject("02", *names), *subject("01", "dseg"))
    source = found(tmp_path)
    assert source.channels == ("FLAIR", "T1w", "ce-gad_T1w")
    assert [path.name for path in source.cases[0].images] == [
        "sub-01_FLAIR.nii.gz",
        "sub-01_T1w.nii.gz",
        "sub-01_ce-gad_T1w.nii.gz",
    ]


def test_sessions_and_runs_are_cases_of_one_patient(tmp_path: Path) -> None:
    make(tmp_path, *subject("01", "run-1_T1w", "run-2_T1w", session="a"), *subject("01", "T1w", session="b"))
    make(tmp_path, "derivatives/sub-01_ses-b_dseg.nii.gz", "derivatives/sub-01_ses-a_run-2_dseg.nii.gz")
    source = found(tmp_path)
    assert labels_of(source) == {
        "sub-01_ses-a_run-1": None,
        "sub-01_ses-a_run-2": "sub-01_ses-a_run-2_dseg.nii.gz",
        "sub-01_ses-b": "sub-01_ses-b_dseg.nii.gz",
    }
    assert {case.patient for case in source.cases} == {"sub-01"}


def test_other_scans_and_masks_beside_labels_are_passed_over(tmp_path: Path) -> None:
    make(tmp_path, *subject("01", "T1w", "dseg", "desc-brain_mask"), shape=(4, 3, 2))
    make(tmp_path, "sub-01/func/sub-01_task-rest_bold.nii.gz", "derivatives/x/sub-01/anat/sub-01_space-MNI_T1w.nii.gz")
    findings = Findings()
    source = found(tmp_path, findings=findings)
    assert not findings.lines
    assert labels_of(source) == {"sub-01": "sub-01_dseg.nii.gz"}
    assert len(source.cases[0].images) == 1
    assert "labels are the files that end in _dseg; 1 files (sub-01_desc-brain_mask.nii.gz)" in findings.notes[0]


def test_images_may_lie_in_other_folders_than_anat(tmp_path: Path) -> None:
    make(tmp_path, "sub-01/ct/sub-01_ct.nii.gz", "sub-01/ct/sub-01_dseg.nii.gz", "sub-02/sub-02_ct.nii.gz")
    assert labels_of(found(tmp_path)) == {"sub-01": "sub-01_dseg.nii.gz", "sub-02": None}


def test_more_subjects_may_be_unlabelled(tmp_path: Path) -> None:
    make(tmp_path / "a", *subject("01", "T1w", "dseg"))
    make(tmp_path / "b", *subject("02", "T1w", "dseg"))
    assert labels_of(found(tmp_path / "a", None, tmp_path / "b")) == {"sub-01": "sub-01_dseg.nii.gz", "sub-02": None}


def test_folders_of_subjects_with_other_names_are_plain(tmp_path: Path) -> None:
    make(tmp_path, "sub-01/t1.nii.gz", "sub-01/mask.nii.gz", "sub-02/t1.nii.gz")
    source = found(tmp_path)
    assert source.layout == "plain folders"
    assert [(case.patient, case.label is None) for case in source.cases] == [("sub_01", False), ("sub_02", True)]


def test_faults_are_told_together(tmp_path: Path) -> None:
    make(tmp_path, *subject("01", "T1w", "T2w", "dseg"), *subject("02", "T1w"), "derivatives/sub-01_dseg.nii.gz")
    make(tmp_path, *subject("03", "run-1_T1w", "run-2_T1w", "run-1_T2w", "run-2_T2w", "dseg"))
    make(tmp_path, "derivatives/sub-09_dseg.nii.gz", "sub-01/more/anat/sub-01_T1w.nii.gz")
    text = "\n".join(look(tmp_path).lines)
    assert "sub-01_T1w.nii.gz: expected an image once, found another one at " in text
    assert "sub-02_T1w.nii.gz: expected the channels T1w, T2w of each case, found no T2w; " in text
    assert "sub-01_dseg.nii.gz: expected one label of a case, found another one at " in text
    assert "sub-03_dseg.nii.gz: expected one case that fits this label, found 2; name subject, session" in text
    assert "sub-09_dseg.nii.gz: expected one case that fits this label, found none; " in text
    assert len(text.splitlines()) == 5
