"""Real apps of MONAI Deploy, as processes in folders of their own; run by `make deploy-test`."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import highdicom as hd
import nibabel as nib
import numpy as np
import pytest
import torch
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless

from tests.bundle_commands import SYNAPSE
from tests.bundle_runner import BundleRunner
from tests.deploy_app import (
    Run,
    errors_of,
    expected_labels,
    folder_of,
    labels_in_patient,
    run_app,
    segments_of,
    write_app,
)
from tests.tools.dicom_files import write_enhanced, write_series

pytestmark = pytest.mark.deploy_app

CASE = "abdomen005"
# The same volume in every way that a series may come, each with the same label map to expect.
COMPRESSED = {
    "plain": None,
    "rle": RLELossless,
    "jpeg2000": JPEG2000Lossless,
    "jpegls": JPEGLSLossless,
    "jpeg": JPEGLosslessSV1,
}
SERIES = {name: f"1.2.3.{i}" for i, name in enumerate([*COMPRESSED, "enhanced", "gap", "localiser", "short", "mr"])}
TURNED = "1.2.4.1"  # of another study: rows from left to right, columns from back to front
STUDIES = ("1.2.3", "1.2.4")


def write_inputs(source: Path, image: nib.Nifti1Image, turned: nib.Nifti1Image) -> None:
    """Two studies, with all series of the first in one folder."""
    values = np.asarray(image.dataobj)
    ids = {"StudyInstanceUID": STUDIES[0], "PatientID": "first"}

    def write(name: str, part: slice = slice(None), **how: Any) -> None:
        write_series(source / "first", values[:, :, part], image.affine, SeriesInstanceUID=SERIES[name], **(ids | how))
        for file in (source / "first").glob("im*"):
            file.rename(file.with_name(f"{name}_{file.name}"))

    for name, syntax in COMPRESSED.items():
        write(name, **({"syntax": syntax} if syntax else {}))
    write("gap", change=lambda images: images[:9] + images[10:])
    write("localiser", slice(0, 12), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    write("short", slice(0, 5))
    write("mr", modality="MR")
    write_enhanced(
        source / "first" / "enhanced.dcm", [values], image.affine, SeriesInstanceUID=SERIES["enhanced"], **ids
    )
    ids = {"StudyInstanceUID": STUDIES[1], "PatientID": "second", "SeriesInstanceUID": TURNED}
    write_series(source / "second", np.asarray(turned.dataobj), turned.affine, **ids)


@pytest.fixture(scope="module")
def app(synapse_run: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The CT bundle's app."""
    return write_app("dca_synapse", synapse_run[0] / "models", tmp_path_factory.mktemp("app"))


@pytest.fixture(scope="module")
def abdomen(
    app: Path,
    runner: BundleRunner,
    synapse_run: tuple[Path, str],
    abdomen_phantom: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Run:
    """The CT bundle's app on two studies at once."""
    folder = tmp_path_factory.mktemp("abdomen")
    models = synapse_run[0] / "models"
    image = nib.nifti1.load(abdomen_phantom / "images" / f"{CASE}.nii.gz")
    images = {"straight": image, "turned": image.as_reoriented(np.array([[0, -1], [1, -1], [2, 1]]))}
    write_inputs(folder / "in", images["straight"], images["turned"])
    expected = expected_labels(runner, "dca_synapse", models, images, folder)
    result = run_app(app / "app", folder, "-i", folder / "in", "-o", folder / "out", "-m", app / "models")
    return Run(folder / "in", folder / "out", images, expected, result)


@pytest.mark.parametrize("name", [*COMPRESSED, "enhanced", "turned"])
def test_every_voxel_lies_in_the_patient_where_segment_has_it(abdomen: Run, name: str) -> None:
    form = "turned" if name == "turned" else "straight"
    uid = SERIES.get(name, TURNED)
    names = {label: entry["class"] for label, entry in segments_of(SYNAPSE).items()}
    segmentation = folder_of(abdomen.output, uid) / "segmentation.dcm"
    found = labels_in_patient(segmentation, abdomen.images[form], names)
    expected = abdomen.expected[form]
    assert len(np.unique(expected)) > 2
    for axis in range(3):  # left and right, front and back, head and feet could be told apart
        assert (expected != np.flip(expected, axis)).any()
    np.testing.assert_array_equal(found, expected)


def test_result_refers_to_its_study_and_series(abdomen: Run) -> None:
    for uid, study in ((SERIES["plain"], STUDIES[0]), (SERIES["enhanced"], STUDIES[0]), (TURNED, STUDIES[1])):
        segmentation = hd.seg.segread(folder_of(abdomen.output, uid) / "segmentation.dcm")
        assert segmentation.StudyInstanceUID == study
        assert [item.SeriesInstanceUID for item in segmentation.ReferencedSeriesSequence] == [uid]


def test_segments_have_code_name_colour_and_algorithm(abdomen: Run) -> None:
    segmentation = hd.seg.segread(folder_of(abdomen.output, SERIES["plain"]) / "segmentation.dcm")
    assert segmentation.SegmentationType == "BINARY"
    assert segmentation.Manufacturer == "dca-bundles"
    entries = segments_of(SYNAPSE)
    present = {entry["class"] for entry in entries.values()} & set(np.unique(abdomen.expected["straight"]))
    assert 0 < len(present) < len(entries)  # some organs are absent
    labels = [segment.SegmentLabel for segment in segmentation.SegmentSequence]
    assert labels == [name for name, entry in entries.items() if entry["class"] in present]
    for segment in segmentation.SegmentSequence:
        entry = entries[segment.SegmentLabel]
        code = segment.SegmentedPropertyTypeCodeSequence[0]
        assert (code.CodeValue, code.CodingSchemeDesignator) == (entry["type"]["value"], "SCT")
        colour = list(hd.color.CIELabColor.from_dicom_value(segment.RecommendedDisplayCIELabValue).to_rgb())
        assert np.abs(np.subtract(colour, entry["colour"])).max() <= 1
        (algorithm,) = segment.SegmentationAlgorithmIdentificationSequence
        assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("DCA abdominal CT", "0.1.0")


def test_failed_series_is_named_and_unsuitable_ones_are_passed_over(abdomen: Run) -> None:
    assert abdomen.result is not None
    assert abdomen.result.code == 1, abdomen.result.error
    (line,) = errors_of(abdomen.result)
    assert f"series {SERIES['gap']} (phantom): expected a slice every" in line
    assert "7 of 8 series segmented" in abdomen.result.out
    assert len(list(abdomen.output.glob("*/segmentation.dcm"))) == 7
    for name in ("localiser", "short", "mr"):
        assert f"passed over series {SERIES[name]}" in abdomen.result.error


def test_volumes_of_all_series_are_listed(abdomen: Run) -> None:
    with (abdomen.output / "volumes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 7 * 13
    content = json.loads((abdomen.output / "volumes.json").read_text())
    assert (content["algorithm"], content["version"]) == ("DCA abdominal CT", "0.1.0")
    assert [SERIES["gap"] in failure for failure in content["failures"]] == [True]
    assert [str(row["voxels"]) for row in content["volumes"]] == [row["voxels"] for row in rows]
    own = [row for row in rows if row["case"] == folder_of(abdomen.output, SERIES["plain"]).name]
    voxel = abs(np.linalg.det(abdomen.images["straight"].affine[:3, :3])) / 1000
    for row in own:
        voxels = int((abdomen.expected["straight"] == int(row["class"])).sum())
        assert int(row["voxels"]) == voxels
        assert float(row["volume_ml"]) == pytest.approx(voxels * voxel, abs=1e-3)


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs dciodvfy: apt-get install dicom3tools")
def test_dciodvfy_finds_no_error(abdomen: Run) -> None:
    for file in abdomen.output.glob("*/segmentation.dcm"):
        done = subprocess.run(["dciodvfy", "-new", str(file)], capture_output=True, text=True)
        assert [line for line in done.stderr.splitlines() if line.startswith("Error")] == []
        assert "Segmentation" in done.stderr


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("no DICOM", "expected DICOM images, found none"),
        ("MR", "expected CT, found MR"),
        ("no folder", "--input: expected a folder of DICOM files"),
        ("model", "--model: expected model.ts"),
        ("other model", "expected a model of the bundle dca_synapse"),
        ("phases", "DCA_PHASES: expected numbers from 0"),
    ],
)
def test_wrong_input_is_one_line_and_leaves_nothing(
    app: Path, abdomen_phantom: Path, tmp_path: Path, wrong: str, message: str
) -> None:
    source, models = tmp_path / "in", app / "models"
    source.mkdir()
    (source / "notes.txt").write_text("nothing")
    if wrong == "MR":
        image = nib.nifti1.load(abdomen_phantom / "images" / f"{CASE}.nii.gz")
        write_series(source, np.asarray(image.dataobj), image.affine, "MR")
    if wrong == "model":
        models = source
    if wrong == "other model":
        models = source / "model.ts"
        torch.jit.script(torch.nn.Linear(1, 1)).save(models)
    if wrong == "no folder":
        source = source / "notes.txt"
    variables = {"DCA_PHASES": "ED"} if wrong == "phases" else {}
    arguments = ["-i", source, "-o", tmp_path / "out", "-m", models]
    result = run_app(app / "app", tmp_path, *arguments, **variables)
    assert result.code == 2, result.error
    (line,) = errors_of(result)
    assert message in line
    assert "Traceback" not in result.error
    assert list((tmp_path / "out").iterdir()) == []
