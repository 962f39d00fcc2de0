"""`segment` gives what the bundle's own inference gives, for NIfTI and for DICOM, and one bad case stops no other."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import highdicom as hd
import nibabel as nib
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydicom.uid import RLELossless

from scripts.methods import create_predictor
from tests.bundle_commands import ACDC, INFER, SYNAPSE, TINY_3D
from tests.bundle_runner import BundleRunner, Result
from tests.tools.dicom_files import write_series
from tools.__main__ import main

SETTINGS = [f"{key.removeprefix('--')}={value.title()}" for key, value in zip(TINY_3D[::2], TINY_3D[1::2], strict=True)]
CASE = "abdomen005"
UID, BROKEN = "1.2.3.4", "1.2.3.5"
LIVER = 6


def load(path: Path) -> NDArray[Any]:
    return np.asarray(nib.nifti1.load(path).dataobj)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


Run = tuple[Result, Path, Path]  # how it ended, INPUT, OUTPUT


@pytest.fixture(scope="module")
def segment(runner: BundleRunner, synapse_run: tuple[Path, str]) -> Callable[..., Result]:
    """Runs the verb with the tiny model of the phantom."""

    def run(source: Path, output: Path, *words: str) -> Result:
        model = ["--bundle", "dca_synapse", "--model", str(synapse_run[0] / "models"), "--set", *SETTINGS]
        return runner.run_tool(["segment", str(source), str(output), *model, *words])

    return run


@pytest.fixture(scope="module")
def done(segment: Callable[..., Result], abdomen_phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A folder with an image, the same as a compressed series, and a series that lacks a slice; all maps asked for."""
    folder = tmp_path_factory.mktemp("segment")
    source, output = folder / "in", folder / "out"
    image = nib.nifti1.load(abdomen_phantom / "images" / f"{CASE}.nii.gz")
    (source / "nifti").mkdir(parents=True)
    image.to_filename(source / "nifti" / "one.nii.gz")
    values = np.asarray(image.dataobj)
    write_series(source / "dicom", values, image.affine, syntax=RLELossless, SeriesInstanceUID=UID)
    write_series(
        source / "broken",
        values,
        image.affine,
        change=lambda images: images[:9] + images[10:],
        SeriesInstanceUID=BROKEN,
    )
    return segment(source, output, "--probabilities", "--disagreement"), source, output


@pytest.fixture(scope="module")
def predictions(
    runner: BundleRunner, synapse_run: tuple[Path, str], done: Run, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, NDArray[Any]]:
    """The label maps of the bundle's own inference, by each prediction."""
    found = {}
    for prediction in ("aggregated", "stitched"):
        folder = tmp_path_factory.mktemp(prediction)
        places = ["--dataset_dir", str(done[1] / "nifti"), "--output_dir", str(folder)]
        model = ["--ckpt_dir", str(synapse_run[0] / "models"), "--prediction", prediction]
        runner.run([*INFER, *places, *model, *TINY_3D], SYNAPSE).check()
        found[prediction] = load(folder / "one_seg.nii.gz")
    return found


def dicom_folder(output: Path) -> Path:
    (folder,) = output.glob("P_01_series3_*")
    return folder


def test_label_map_equals_the_bundles_own_inference_voxel_for_voxel(
    done: Run, predictions: dict[str, NDArray[Any]], abdomen_phantom: Path
) -> None:
    labels = nib.nifti1.load(done[2] / "nifti_one" / "labels.nii.gz")
    assert labels.get_data_dtype() == np.uint8
    assert np.array_equal(np.asarray(labels.dataobj), predictions["aggregated"])
    assert len(np.unique(predictions["aggregated"])) > 2
    assert np.allclose(labels.affine, nib.nifti1.load(abdomen_phantom / "images" / f"{CASE}.nii.gz").affine, atol=1e-4)


def test_dicom_gives_the_label_map_that_nifti_gives(done: Run, abdomen_phantom: Path) -> None:
    of_nifti = nib.nifti1.load(done[2] / "nifti_one" / "labels.nii.gz")
    of_dicom = nib.nifti1.load(dicom_folder(done[2]) / "labels.nii.gz")
    maps = [np.asarray(nib.as_closest_canonical(image).dataobj) for image in (of_nifti, of_dicom)]
    assert np.array_equal(*maps)
    assert np.allclose(*(nib.as_closest_canonical(image).affine for image in (of_nifti, of_dicom)), atol=1e-3)


def test_dicom_seg_holds_the_label_map(done: Run) -> None:
    folder = dicom_folder(done[2])
    labels = load(folder / "labels.nii.gz")
    segmentation = hd.seg.segread(folder / "segmentation.dcm")
    names = json.loads((SYNAPSE / "configs" / "data_set.json").read_text())["labels"]
    present = [str(c) for c in np.unique(labels) if c]
    assert [segment.SegmentLabel for segment in segmentation.SegmentSequence] == [names[c] for c in present]
    volume = segmentation.get_volume(combine_segments=True)
    assert np.bincount(volume.array.ravel())[1:].tolist() == [int((labels == int(c)).sum()) for c in present]


def test_broken_series_is_named_and_leaves_nothing(done: Run) -> None:
    result, _, output = done
    assert result.code == 1
    (line,) = (line for line in result.error.splitlines() if line.startswith("failed: "))
    assert f"series {BROKEN} (phantom): expected a slice every" in line
    assert "2 of 3 segmented" in result.out
    assert sorted(path.name for path in output.iterdir()) == sorted(
        ["nifti_one", dicom_folder(output).name, "volumes.csv"]
    )


def test_volumes_are_those_of_the_label_maps(done: Run) -> None:
    rows = rows_of(done[2] / "volumes.csv")
    assert len(rows) == 2 * 13
    labels = nib.nifti1.load(done[2] / "nifti_one" / "labels.nii.gz")
    millilitres = np.prod(labels.header.get_zooms()) / 1000
    own = [row for row in rows if row["case"] == "nifti_one"]
    assert own == rows_of(done[2] / "nifti_one" / "volumes.csv")
    for row in own:
        voxels = int((np.asarray(labels.dataobj) == int(row["class"])).sum())
        assert int(row["voxels"]) == voxels
        assert float(row["volume_ml"]) == pytest.approx(voxels * millilitres, abs=1e-3)
    assert [row["name"] for row in own][LIVER - 1] == "liver"


def test_disagreement_is_that_of_the_two_predictions(done: Run, predictions: dict[str, NDArray[Any]]) -> None:
    first, second = predictions["aggregated"], predictions["stitched"]
    assert (first != second).any()
    for row in rows_of(done[2] / "nifti_one" / "volumes.csv"):
        a, b = first == int(row["class"]), second == int(row["class"])
        if a.any() or b.any():
            assert float(row["disagreement"]) == pytest.approx(1 - 2 * (a & b).sum() / (a.sum() + b.sum()), abs=1e-4)
        else:
            assert row["disagreement"] == ""
    distance = nib.nifti1.load(done[2] / "nifti_one" / "disagreement.nii.gz").get_fdata()
    assert 0 <= distance.min() < distance.max() <= 1
    assert distance[first != second].mean() > 2 * distance[first == second].mean()


def test_probabilities_agree_with_the_label_map(done: Run, predictions: dict[str, NDArray[Any]]) -> None:
    probabilities = nib.nifti1.load(done[2] / "nifti_one" / "probabilities.nii.gz").get_fdata()
    labels = predictions["aggregated"]
    assert probabilities.shape == (*labels.shape, 13)
    assert probabilities.sum(-1).max() < 1 + 13 / 255
    highest = np.sort(probabilities, axis=-1)
    clear = (labels > 0) & (highest[..., -1] > highest[..., -2] + 1 / 255)
    assert clear.mean() > 0.02
    assert np.array_equal(1 + probabilities.argmax(-1)[clear], labels[clear])


def test_a_second_call_repeats_nothing_but_what_failed(done: Run, segment: Callable[..., Result]) -> None:
    _, source, output = done
    before = {path: path.stat().st_mtime_ns for path in output.glob("*/*")}
    again = segment(source, output, "--probabilities", "--disagreement")
    assert again.code == 1
    assert again.error.count("finished before") == 2
    assert {path: path.stat().st_mtime_ns for path in output.glob("*/*")} == before


def test_what_is_written_is_chosen_and_a_finished_case_is_repeated_with_overwrite(
    done: Run, segment: Callable[..., Result], tmp_path: Path
) -> None:
    source = done[1] / "dicom"
    words = ["--fast", "--formats", "csv"]
    assert segment(source, tmp_path, *words, "--series", UID).code == 0
    folder = dicom_folder(tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == ["case.json", "volumes.csv"]
    assert {row["disagreement"] for row in rows_of(folder / "volumes.csv")} == {""}
    assert segment(source, tmp_path, "--overwrite").code == 0
    assert (folder / "labels.nii.gz").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--bundle", "dca_liver"], "expected one of dca_acdc"),
        (["--model", "nowhere"], "expected a trained model"),
        (["--set", "spacin=[8,8,8]"], "did you mean 'spacing'"),
        (["--device", "tpu"], "--device: expected a device such as cpu or cuda:0, found 'tpu'; name one"),
        (["--device", "cuda:99"], "--device: expected one of this machine (cpu"),
        (["--fast", "--disagreement"], "--fast: expected without --disagreement"),
        (["--series", "1.2.9"], "--series: expected a series"),
        (["--shard", "3/2"], "--shard: expected a number and how many there are"),
        (["--shard", "1/2", "--executor", "slurm"], "--shard: expected without --executor slurm"),
        (["--workers", "0"], "--workers: expected at least 1"),
        (["--slurm", "gpus_per_node=1"], "--slurm: expected --executor slurm"),
    ],
)
def test_mistake_is_one_line(
    words: list[str], message: str, done: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model.pt").touch()
    given = ["segment", str(done[1] / "dicom"), str(tmp_path / "out"), "--bundle", "dca_synapse", "--model"]
    assert main([*given, str(tmp_path), *words]) == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))
    assert message in line
    assert not (tmp_path / "out").exists()


def test_phases_of_a_heart_cine_equal_the_bundles_own_inference(
    runner: BundleRunner, heart_phantom: Path, tmp_path: Path
) -> None:
    torch.manual_seed(3)
    network = {"style": "unet", "spatial_dims": 2, "in_channels": 1, "num_classes": 3, "width": 16}
    (tmp_path / "models").mkdir()
    predictor = create_predictor("dca", **network)
    torch.nn.init.normal_(predictor.aggregation.out.weight)  # untrained as it is, it names several classes
    torch.save(predictor.state_dict(), tmp_path / "models" / "model.pt")
    (tmp_path / "models" / "model.json").write_text('{"method": "dca", "preset": "demo", "network": {}}')
    images = [nib.nifti1.load(heart_phantom / "images" / f"heart008_{phase}.nii.gz") for phase in ("ED", "ES")]
    write_series(tmp_path / "cine", [np.asarray(image.dataobj) for image in images], images[0].affine, "MR")
    command = ["segment", str(tmp_path / "cine"), str(tmp_path / "out"), "--bundle", "dca_acdc"]
    runner.run_tool([*command, "--model", str(tmp_path / "models"), "--phases", "0,1"]).check()
    (tmp_path / "nifti").mkdir()
    for phase, image in zip(("ED", "ES"), images, strict=True):
        nib.Nifti1Image(np.asarray(image.dataobj), image.affine).to_filename(tmp_path / "nifti" / f"{phase}.nii.gz")
    places = ["--dataset_dir", str(tmp_path / "nifti"), "--output_dir", str(tmp_path / "own")]
    runner.run([*INFER, *places, "--ckpt_dir", str(tmp_path / "models"), "--preset", "demo"], ACDC).check()
    folder = dicom_folder(tmp_path / "out")
    for phase, name in (("ED", "phase00"), ("ES", "phase01")):
        own = nib.as_closest_canonical(nib.nifti1.load(tmp_path / "own" / f"{phase}_seg.nii.gz"))
        found = nib.as_closest_canonical(nib.nifti1.load(folder / f"{name}_labels.nii.gz"))
        assert np.array_equal(np.asarray(own.dataobj), np.asarray(found.dataobj))
        assert len(np.unique(own.dataobj)) > 1
        assert np.allclose(own.affine, found.affine, atol=1e-3)
        assert (folder / f"{name}_segmentation.dcm").exists()
    assert [row["phase"] for row in rows_of(folder / "volumes.csv")] == ["phase00"] * 3 + ["phase01"] * 3


def test_two_processes_give_what_one_gives(done: Run, segment: Callable[..., Result], tmp_path: Path) -> None:
    one, source, output = done
    two = segment(source, tmp_path, "--probabilities", "--disagreement", "--workers", "2")
    assert two.code == one.code == 1
    assert two.out.replace(str(tmp_path), str(output)) == one.out
    failed = [[line for line in run.error.splitlines() if line.startswith("failed: ")] for run in (one, two)]
    assert len(failed[0]) == 1
    assert failed[0] == failed[1]
    files = {path.relative_to(output) for path in output.rglob("*") if path.is_file()}
    assert {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()} == files
    for file in files:
        if file.suffix != ".dcm":  # which names its time and has a UID of its own
            assert (tmp_path / file).read_bytes() == (output / file).read_bytes(), file


def test_shards_together_do_what_the_whole_does(done: Run, segment: Callable[..., Result], tmp_path: Path) -> None:
    _, source, output = done
    words = ["--probabilities", "--disagreement"]
    for shard, done_by_it, code in (("1/2", "1 of 2", 1), ("2/2", "1 of 1", 0)):
        result = segment(source, tmp_path, *words, "--shard", shard)
        assert result.code == code
        assert f"{done_by_it} segmented" in result.out
        assert not (tmp_path / "volumes.csv").exists()
    again = segment(source, tmp_path, *words)
    assert again.error.count("finished before") == 2
    assert (tmp_path / "volumes.csv").read_bytes() == (output / "volumes.csv").read_bytes()


def test_stopping_is_told(
    done: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*arguments: object, **keywords: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tools.segment.workers.segment_here", interrupt)
    assert main(["segment", str(done[1] / "nifti"), str(tmp_path), "--bundle", "dca_synapse"]) == 130
    assert "stopped; the same command goes on" in capsys.readouterr().out
