"""`simulate`: who gets a label, what is trained, and what is told of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from tests.tools.trainings import SMALL, Trainings, leave_scores, stand_in
from tools.__main__ import run_command
from tools.phantom.command import make_phantom
from tools.segment.options import Options


def call(words: list[str]) -> int:
    """The command, as its command line calls it."""
    return run_command("experiments.simulate", "experiments.simulate", "", words)


GROUPING = {"grouping": {"groups": [[2], [3], [1]]}}
GROUPS = {2: "head", 3: "medium", 1: "tail"}
FEATURES = {1: [0.0], 2: [1.0], 3: [2.0], 4: [20.0], 5: [21.0], 6: [22.0]}  # of the patients, in two heaps


class Arms(Trainings):
    """Scores that tell the arms apart."""

    def __call__(self, command: Sequence[str], log: Path, environment: Mapping[str, str], held: int) -> int:
        code = super().__call__(command, log, environment, held)
        options = self.options[-1]
        arm = Path(options["split_file"]).parent.name
        (Path(options["run_dir"]) / "models" / "model.json").write_text(json.dumps({"found": GROUPING}))
        if "evaluate_on" in options:
            dice = {"start": 0.4, "disagreement": 0.6, "coverage": 0.7, "mixture": 0.3, "random": 0.5}[arm]
            leave_scores(Path(options["output_dir"]), (dice - 0.3, dice, dice + 0.3))
        return code


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom") / "heart"
    make_phantom("heart", folder, cases=6, labelled=6, validation=1, test=1, size=(32, 32, 4), percent=50)
    return folder


@pytest.fixture
def simulate(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs the verb with stand-ins for training and segmenting: the experts disagree more the later the patient."""

    class Segmenter:
        def __init__(self, bundle: Path, options: Options) -> None:
            self.groups = GROUPS
            assert options.model is not None
            assert options.model.is_file()

        def collect_features(self) -> None:
            pass

        def __call__(self, image: Path) -> Any:
            number = int(image.name[5:8])  # heart003_ED.nii.gz
            label = np.asarray(nib.nifti1.load(data / "labels" / image.name).dataobj).copy()
            for c in self.groups:  # the more disagreement, the greater the error
                (places,) = np.nonzero(label.ravel() == c)
                label.ravel()[places[: number * len(places) // 8]] = 0
            return SimpleNamespace(labels=label, disagreement={1: number**2 / 50}, features=np.array(FEATURES[number]))

    monkeypatch.setattr("tools.segment.segmenter.Segmenter", Segmenter)

    def run(*words: object) -> tuple[int, str, str]:
        given = ["--bundle", "dca_acdc", "--dataset_dir", data, "--split_file", data / "split.json"]
        given += ["--output", tmp_path / "out", "--labelled", 1, "--more", 2, "--steps", 6, "--set", *SMALL]
        code = call([*map(str, given), *map(str, words)])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.fixture
def arms(monkeypatch: pytest.MonkeyPatch) -> Arms:
    return stand_in(monkeypatch, Arms())


def labelled(folder: Path, seed: int, arm: str) -> list[str]:
    split = json.loads((folder / "out" / f"seed{seed}" / arm / "split.json").read_text())
    (patients,) = split["labelled"].values()
    return list(patients)


def test_each_arm_labels_by_its_rule_and_all_else_is_equal(
    simulate: Callable[..., tuple[int, str, str]], arms: Arms, tmp_path: Path
) -> None:
    code, printed, error = simulate("--seeds", "0,1")
    assert code == 0, error
    for seed in (0, 1):
        (first,) = labelled(tmp_path, seed, "start")
        others = sorted({f"heart{number:03d}" for number in range(1, 7)} - {first})
        assert labelled(tmp_path, seed, "disagreement") == [first, *others[:-3:-1]]
        covering = labelled(tmp_path, seed, "coverage")
        assert covering[:2] == [first, "heart002"]  # the middle of the other heap; both first patients are of one
        mixed = labelled(tmp_path, seed, "mixture")
        assert mixed == [first, "heart003", "heart006"]  # the doubtful end of each heap
        drawn = labelled(tmp_path, seed, "random")
        assert drawn[0] == first
        assert len(set(drawn)) == 3
    trained = [options for options in arms.options if "evaluate_on" not in options]
    assert len(trained) == 10
    for key in ("steps", "method", "percent", "dataset_dir"):
        assert len({options[key] for options in trained}) == 1
    assert [options["seed"] for options in trained] == ["0"] * 5 + ["1"] * 5
    assert "mean  disagreement - random dice 0.100 ± 0.000, tail 0.100 ± 0.000" in printed
    assert "mean  mixture - random      dice -0.200 ± 0.000, tail -0.200 ± 0.000" in printed
    assert "mean  random                dice 0.500 ± 0.000, tail 0.200 ± 0.000" in printed
    assert "error, mean over the seeds: 1.00" in printed
    runs = json.loads((tmp_path / "out" / "results.json").read_text())["runs"]
    assert [run["arm"] for run in runs] == ["start", "disagreement", "coverage", "mixture", "random"] * 2


def test_a_second_call_goes_on_where_the_first_ended(simulate: Callable[..., tuple[int, str, str]], arms: Arms) -> None:
    arms.faults = {"dca validation": "broken"}
    code, _, error = simulate("--seeds", "0")
    assert code == 2
    assert error.count("\n") == 1
    assert "expected a training that succeeds, found: broken" in error
    arms.faults = {}
    assert simulate("--seeds", "0")[0] == 0
    count = len(arms.calls)
    assert simulate("--seeds", "0")[0] == 0
    assert len(arms.calls) == count
    assert simulate("--seeds", "0", "--steps", "9")[0] == 2  # other settings than those of the runs
    code, _, error = simulate("--seeds", "0", "--more", "3")
    assert code == 2
    assert "expected the patients of earlier runs" in error


@pytest.mark.parametrize("words", [("--more", "5"), ("--labelled", "0"), ("--pool", "7"), ("--pool", "3")])
def test_numbers_that_do_not_fit_the_data_are_told(
    simulate: Callable[..., tuple[int, str, str]], words: tuple[str, ...], arms: Arms
) -> None:
    code, _, error = simulate(*words)
    assert code == 2
    assert error.count("\n") == 1
    assert arms.calls == []


def test_patients_without_a_label_are_told(
    heart_phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--bundle", "dca_acdc", "--dataset_dir", heart_phantom, "--split_file", heart_phantom / "split.json"]
    assert call([*map(str, words), "--output", str(tmp_path), "--labelled", "1", "--more", "1"]) == 2
    assert "found none for heart003, heart004" in capsys.readouterr().err
