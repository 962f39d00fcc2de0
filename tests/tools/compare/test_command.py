"""`compare`: every run once, in a folder that says what it is; resumable; failures named; test data scored once."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
from pathlib import Path

from tests.tools.trainings import Compare, Trainings
from tools.compare.state import held, read_state, write_state


def test_every_method_and_seed_is_a_run_in_a_folder_that_says_what_it_is(
    compare: Compare, trainings: Trainings, output: Path
) -> None:
    code, printed, _ = compare("supervised,dca_no_dfam", "--seeds", "0,1")
    assert code == 0
    runs = [f"{method} {seed}" for seed in (0, 1) for method in ("supervised", "dca_no_dfam")]
    assert trainings.calls == [
        f"{run} {what}" for run in runs for what in ("training", "validation", "validation_last")
    ]
    folder = output / "dca_no_dfam" / "seed1"
    about, state = (json.loads((folder / name).read_text()) for name in ("run.json", "state.json"))
    assert (about["method"], about["variant_of"], about["seed"]) == ("dca_no_dfam", "dca", 1)
    assert about["shared"]["steps"] == 6
    assert about["shared"]["data"] == "Heart phantom"
    assert about["commands"]["training"][-2:] == ["--resume", "True"]
    assert state["state"] == "done"
    assert state["sha256"] == hashlib.sha256(b"dca_no_dfam 1 model.pt").hexdigest()
    assert len(state["code"]) == 1
    assert state["code"][0].keys() == {"commit", "dirty"}
    assert state["queued"] <= state["started"] <= state["finished"]
    assert (folder / "log.txt").read_text().split()[::2] == ["training", "validation", "validation_last"]
    for role, checkpoint in (("validation", "model.pt"), ("validation_last", "last.pt")):
        assert (folder / role / "scores_native_mm.csv").exists()
        assert state[role]["sha256"] == hashlib.sha256(f"dca_no_dfam 1 {checkpoint}".encode()).hexdigest()
        command = " ".join(about["commands"][role])
        assert f"--evaluate_on validation --checkpoint {folder / 'models' / checkpoint}" in command
    assert not (folder / "resume.pt").exists()
    assert "4 of 4: dca_no_dfam, seed 1: done after 0 s, validation Dice 0.6000" in printed


def test_a_finished_run_is_not_repeated_and_new_ones_are_added(compare: Compare, trainings: Trainings) -> None:
    compare("supervised")
    code, printed, _ = compare("supervised,cps", "--seeds", "0,1")
    assert code == 0
    assert "1 finished, 3 to do" in printed
    done = [call for call in trainings.calls if call.endswith("training")]
    assert done == ["supervised 0 training", "cps 0 training", "supervised 1 training", "cps 1 training"]


def test_a_killed_run_goes_on(compare: Compare, trainings: Trainings, output: Path) -> None:
    trainings.faults = {"supervised training": signal.SIGKILL}
    code, printed, _ = compare("supervised")
    assert code == 1
    assert "failed: supervised, seed 0: killed by signal 9 (SIGKILL)" in printed
    write_state(output / "supervised" / "seed0", state="running")  # as if all had been killed at once
    trainings.faults = {}
    assert compare("supervised")[0] == 0
    assert trainings.calls[1:3] == ["supervised 0 training", "supervised 0 validation"]
    assert all(options["resume"] == "True" for options in trainings.options if "resume" in options)


def test_what_is_trained_is_not_trained_again_when_its_evaluation_failed(
    compare: Compare, trainings: Trainings
) -> None:
    trainings.faults = {"supervised validation": "error: no space left"}
    assert compare("supervised")[0] == 1
    trainings.faults = {}
    assert compare("supervised")[0] == 0
    assert trainings.calls[2:] == ["supervised 0 validation", "supervised 0 validation_last"]


def test_a_run_that_another_process_works_on_is_left_alone(
    compare: Compare, trainings: Trainings, output: Path
) -> None:
    compare("supervised")
    folder = output / "supervised" / "seed1"
    folder.mkdir()
    with held(folder) as lock:
        assert lock is not None
        code, printed, _ = compare("supervised", "--seeds", "0,1")
    assert code == 0
    assert "2 of 2: supervised, seed 1: another process works on it" in printed
    assert "left alone: supervised, seed 1: another process works on it" in printed
    assert "supervised 1 training" not in trainings.calls


def test_a_failing_method_does_not_stop_the_others_and_is_named_with_its_last_words(
    compare: Compare, trainings: Trainings, output: Path
) -> None:
    trainings.faults = {"cps training": "error: the loss is nan"}
    code, printed, _ = compare("cps,supervised", "--seeds", "0,1")
    assert code == 1
    for seed in (0, 1):
        log = output / "cps" / f"seed{seed}" / "log.txt"
        assert f"failed: cps, seed {seed}: error: the loss is nan; see {log}" in printed
        assert read_state(output / "supervised" / f"seed{seed}")["state"] == "done"
    trainings.faults = {}
    trainings.calls.clear()
    assert compare("cps,supervised", "--seeds", "0,1")[0] == 0
    assert {call.split()[0] for call in trainings.calls} == {"cps"}
    assert "error" not in read_state(output / "cps" / "seed0")


def test_test_data_are_scored_once_with_the_checkpoint_that_validation_chose(
    compare: Compare, trainings: Trainings, output: Path
) -> None:
    compare("supervised")
    assert not any(call.endswith("test") for call in trainings.calls)
    code, printed, _ = compare("supervised,cps", "--test")
    assert code == 0
    scored = ["validation", "validation_last", "test"]
    assert trainings.calls[3:] == ["supervised 0 test", "cps 0 training", *(f"cps 0 {role}" for role in scored)]
    assert all(options["checkpoint"].endswith("model.pt") for options in trainings.options[3::4])
    state = read_state(output / "supervised" / "seed0")
    assert state["test"]["sha256"] == state["validation"]["sha256"] == state["sha256"]
    trainings.calls.clear()
    code, printed, error = compare("supervised,cps", "--test")
    assert (code, trainings.calls) == (2, [])
    assert f"it is scored once, and was {state['test']['at']}" in error
    code, printed, _ = compare("supervised,dca", "--test")
    assert code == 0
    assert "supervised, seed 0: its test set has been scored and is not scored again" in printed
    assert trainings.calls == [f"dca 0 {what}" for what in ("training", *scored)]


def test_another_checkpoint_than_the_one_that_validation_chose_is_not_scored_on_the_test_data(
    compare: Compare, trainings: Trainings, output: Path
) -> None:
    compare("supervised")
    (output / "supervised" / "seed0" / "models" / "model.pt").write_text("a better one")
    code, printed, _ = compare("supervised", "--test")
    assert code == 1
    assert "expected the checkpoint that validation chose, found another; test is not scored" in printed
    assert not any(call.endswith("test") for call in trainings.calls)


def test_a_last_checkpoint_that_is_not_the_trainings_is_not_scored(
    compare: Compare, trainings: Trainings, output: Path
) -> None:
    trainings.faults = {"supervised validation_last": "error: no space left"}
    compare("supervised")
    (output / "supervised" / "seed0" / "models" / "last.pt").write_text("another one")
    trainings.faults = {}
    code, printed, _ = compare("supervised")
    assert code == 1
    assert "last.pt: expected the checkpoint that the training ended with, found another" in printed


def test_a_training_of_older_code_has_no_last_checkpoint_and_its_best_one_is_scored(
    compare: Compare, trainings: Trainings, output: Path
) -> None:
    trainings.faults = {"supervised validation": "error: no space left"}
    compare("supervised")
    folder = output / "supervised" / "seed0"
    write_state(folder, last=None)
    (folder / "models" / "last.pt").unlink()
    config = json.loads((folder / "config.json").read_text())
    config["train"]["handlers"].pop()
    (folder / "config.json").write_text(json.dumps(config))
    trainings.faults = {}
    assert compare("supervised")[0] == 0
    assert trainings.calls[2:] == ["supervised 0 validation"]
    assert read_state(folder)["state"] == "done"


def test_test_data_have_to_be_there_before_anything_is_trained(
    compare: Compare, trainings: Trainings, heart_phantom: Path, tmp_path: Path
) -> None:
    shutil.copytree(heart_phantom, tmp_path / "data")
    content = json.loads((tmp_path / "data" / "split.json").read_text())
    (tmp_path / "data" / "split.json").write_text(json.dumps(content | {"test": []}))
    code, _, error = compare("supervised", "--test", data=tmp_path / "data")
    assert (code, trainings.calls) == (2, [])
    assert "--test: expected test cases" in error


def test_test_patients_that_train_are_refused_before_anything_is_trained(
    compare: Compare, trainings: Trainings, heart_phantom: Path, tmp_path: Path
) -> None:
    shutil.copytree(heart_phantom, tmp_path / "data")
    content = json.loads((tmp_path / "data" / "split.json").read_text())
    content["test"].append(content["train"][0])
    (tmp_path / "data" / "split.json").write_text(json.dumps(content))
    code, _, error = compare("supervised", "--test", data=tmp_path / "data")
    assert (code, trainings.calls) == (2, [])
    assert "found heart001 in both train and test" in error


def test_labels_only_sees_as_many_labelled_images_a_step_as_the_others_see_images(
    compare: Compare, trainings: Trainings, output: Path
) -> None:
    compare("supervised_4,supervised")
    training, plain = trainings.options[::3]
    assert (training["method"], training["batch_size"]) == ("supervised", "[4, 0]")
    assert "batch_size" not in plain
    assert {path.name for path in output.iterdir()} == {"supervised_4", "supervised"}


def test_fully_supervised_is_labels_only_with_all_of_them(
    compare: Compare, trainings: Trainings, output: Path, heart_phantom: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(heart_phantom, data)
    split = json.loads((data / "split.json").read_text())
    (data / "split.json").write_text(json.dumps(split | {"train": split["labelled"]["50"], "labelled": {}}))
    compare("fully_supervised,supervised", data=data)
    assert [(options["method"], options["percent"]) for options in trainings.options[::3]] == [
        ("supervised", "100"),
        ("supervised", "50"),
    ]
    assert {path.name for path in output.iterdir()} == {"fully_supervised", "supervised"}
