"""`check`: the shipped configs pass, every kind of mistake is named in a line of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.tools.check_runner import CONFIGS, TRAIN, Check, runner


@pytest.fixture
def check(heart_phantom: Path, capsys: pytest.CaptureFixture[str]) -> Check:
    """Runs the verb on the phantom."""
    return runner(heart_phantom, capsys)


def words(options: str) -> list[str]:
    """The words of a command line of options whose values may contain blanks."""
    return [
        part for option in options.replace(" --", "\n--").split("\n") for part in option.partition(" ")[::2] if part
    ]


def test_shipped_training_config_passes_and_is_summed_up(check: Check) -> None:
    code, printed, error = check(TRAIN)
    assert (code, error) == (0, [])
    preset = json.loads(TRAIN.read_text())["presets"]["cpu"]
    epochs = preset["steps"] // preset["val_steps"]
    for text in (
        f"image_size 64 x 64, {preset['steps']} steps ({epochs} epochs of {preset['val_steps']})",
        "head 2; medium 3; tail 1",
    ):
        assert text in printed
    assert "4 labelled (2 patients), 4 unlabelled (2 patients), 4 validation (2 patients), 4 test" in printed
    assert "1 right ventricle, 2 myocardium, 3 left ventricle" in printed


@pytest.mark.parametrize("preset", ["cpu", "published", "demo"])
@pytest.mark.parametrize("method", ["dca", "supervised"])
def test_every_method_and_preset_passes(check: Check, method: str, preset: str) -> None:
    assert check(TRAIN, "--method", method, "--preset", preset)[0] == 0


def test_it_works_from_any_folder(check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, printed, _ = check(TRAIN)
    assert code == 0
    assert "run it with this, too, for its own is '.'" in printed
    monkeypatch.chdir(CONFIGS)
    assert check("train.json", "--steps", 100)[0] == 0
    monkeypatch.chdir(CONFIGS.parent)
    code, printed, _ = check("configs/train.json")
    assert (code, "note" in printed) == (0, False)


def test_overlays_pass_on_top_of_the_training_config(check: Check, tmp_path: Path) -> None:
    assert check(f"['{TRAIN}', '{CONFIGS / 'multi_gpu_train.json'}']")[0] == 0
    (tmp_path / "model.pt").touch()
    files = [str(TRAIN), str(CONFIGS / "evaluate.json")]
    code, printed, _ = check(files, "--ckpt_dir", tmp_path)
    assert code == 0
    assert "runs     $@validate::evaluator.run()" in printed
    assert "steps" not in printed
    code, with_commas, _ = check(",".join(files), "--ckpt_dir", tmp_path)
    assert code == 0
    assert f'--config_file "{files}"' in with_commas
    assert "--config_file" not in printed


def test_evaluation_needs_a_checkpoint_and_a_role_that_exists(check: Check, tmp_path: Path) -> None:
    files = [str(TRAIN), str(CONFIGS / "evaluate.json")]
    code, _, error = check(files, "--ckpt_dir", tmp_path, "--evaluate_on", "tset")
    assert code == 2
    assert error[1:] == [
        "  evaluate_on: expected a known value, found 'tset'; did you mean 'test'?",
        f"  checkpoint: expected a checkpoint, found no {tmp_path}/model.pt; train first, or pass another",
        "  validate::dataset::data: expected a key that exists, found 'tset'; did you mean 'test'?",
    ]


def test_inference_needs_a_checkpoint_and_images(check: Check, tmp_path: Path) -> None:
    (tmp_path / "model.pt").touch()
    inference = CONFIGS / "inference.json"
    assert check(inference, "--ckpt_dir", tmp_path)[0] == 0
    code, _, error = check(inference, "--ckpt_dir", tmp_path / "no", data=tmp_path)
    assert code == 2
    assert error[0].endswith("2 problems")
    assert f"expected NIfTI images or a datalist.json, found none in {tmp_path}" in error[1]
    assert f"expected a checkpoint, found no {tmp_path}/no/model.pt" in error[2]


def test_overlay_alone_is_answered_with_how_to_merge(check: Check) -> None:
    code, _, error = check(CONFIGS / "evaluate.json")
    assert (code, len(error)) == (2, 1)
    assert "found 'validate::dataset::data' without 'validate'" in error[0]
    assert "['TRAIN.json','evaluate.json']" in error[0]


def test_new_options_of_similar_names_are_no_slips_of_each_other(check: Check) -> None:
    code, _, error = check(TRAIN, *words("--network_options::expert_channels own --network_options::expert_levels 3"))
    assert (code, error) == (0, [])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("--epochss 3", "--epochss: expected an id of the config, found one that nothing uses; did you mean 'epochs'?"),
        ("--max_epochs 3", "found one that nothing uses; did you mean 'train::trainer::max_epochs'?"),
        ("--trian::trainer::max_epochs 3", "found none of this name; did you mean 'train::trainer::max_epochs'?"),
        ("--train#datasett x", "--train::datasett: expected an id of the config, found one that nothing uses; did you"),
        (
            "--train::trainer::max_epoch 3",
            "expected an argument of scripts.training.engine.SemiSupervisedTrainer, found 'max_ep",
        ),
        ("--network_def::widht 3", "expected an option of the network of method dca, found 'widht'; did you mean 'wid"),
        ("--method_options::unsup_wight 3", "expected an option of method dca, found 'unsup_wight'; did you mean 'uns"),
        ("--method_options {rmap:linear}", "method_options::rmap: expected an option of method dca, found 'rmap'; did"),
        ("--network_options::stiching x", "network_options::stiching: expected an option of the network of method dca"),
        ("--presets::cpu::stepss 3", "presets::cpu::stepss: expected a setting that the config takes from its presets"),
        ("--method dcaa", "method: expected the name of a method, found 'dcaa'; did you mean 'dca'?"),
        ("--method supervised --prediction mean", "prediction: expected an option of the network of method supervised"),
        ("--preset cpuu", "expected a key that exists, found 'cpuu'; did you mean 'cpu'?"),
        ("--seed None", "--seed: MONAI's runner ignores an override by None"),
        ("--+train::handlers []", "--+train::handlers: MONAI's runner merges by + only in files"),
        ("--amp false", "--amp: expected True or False, found the word 'false'"),
        ("--data_on_device maybe", "data_on_device: expected true or false, found 'maybe'"),
        ("--num_classes four", "--num_classes: expected a number, found the word 'four'"),
        ("--image_size large", "image_size: expected two whole numbers from 1 to 8192, found 'large'"),
        ("training", "training: expected an override like --lr 0.1, found a word without an id"),
        ("--lr $@stepss/2", "lr: refers to @stepss, which does not exist; did you mean 'steps'?"),
        ("--lr @optimiser::lr", "lr: refers to @optimiser::lr, which does not exist; did you mean 'optimizer::lr'?"),
        ("--lr $1+", "lr: expected a Python expression after $, found '$1+': invalid syntax"),
        ("--lr $os.nice(0)", "lr: uses os, which nothing imports; add '$import os' to `imports`"),
        ("--lr $1/0", "lr: cannot be computed: division by zero"),
        ("--lr $@steps --steps $@lr", "expected no circle of references, found lr -> steps -> lr"),
        ("--lr %stepss", "lr: expected %stepss to name an id, found none; did you mean 'steps'?"),
        (
            "--optimizer::_target_ torch.optim.SGDD",
            "optimizer: expected _target_ to name a class or function, found no",
        ),
        ("--validate::inferer::_target_ SliceInferrer", "found no SliceInferrer; did you mean 'SliceInferer'?"),
        (
            "--train::inferer::_target_ scripts.enginee.X",
            "train::inferer: expected _target_ to name a class or function",
        ),
        (
            "--imports ['$import sys','$import nmpy as np']",
            "imports::1: expected a module to import, found none named n",
        ),
        ("--percent 0", "percent: expected a number above 0 and at most 100, found 0"),
        ("--percent 20", "found 20 % of 4 patients in "),
        ("--split_file nowhere.json", "nowhere.json: expected a split file, found no such file"),
        ("--datalist nowhere.json", "nowhere.json: expected a datalist, found no such file"),
        ("--image_size [64,0]", "image_size[1]: expected a whole number from 1 to 8192, found 0"),
        ("--image_size 64", "image_size: expected two whole numbers from 1 to 8192, found 64"),
        (
            "--image_size [64,64,64]",
            "image_size: expected 2 numbers (network_def::spatial_dims), found 3: 64 x 64 x 64",
        ),
        ("--validate::inferer::roi_size [64]", "validate::inferer::roi_size: expected 2 numbers"),
        (
            "--method_options {grouping:top3}",
            "method_options::grouping: grouping rule: expected one of top2, gaps, sequential",
        ),
        ("--labels {1:a,3:b}", "labels: expected a name for each of the classes 1..2"),
    ],
)
def test_mistake_in_an_override_is_named(check: Check, override: str, message: str) -> None:
    code, _, error = check(TRAIN, *words(override))
    assert code == 2
    assert any(message in line for line in error), error
    assert all(line.startswith("  ") for line in error[1:])


@pytest.mark.parametrize(
    "override",
    [
        "--train::trainer::max_epochs 3",
        "--train#trainer#max_epochs=3",
        "--resume",
        "--network_def::norm instance",
        "--method_options::unsup_weight 0.1",
        "--method_options {grouping:manual,manual_groups:[[3],[2],[1]]}",
        "--presets::mine {image_size:[64,64],interpolation:trilinear,width:8,lr:1,steps:9,val_steps:3} --preset mine",
        "--lr $2*@presets['cpu']['lr']",
        "--device $torch.device('cpu')",
        "--finalize ['$print(@lr)']",
        "--train::inferer %validate::inferer",
    ],
)
def test_right_override_passes(check: Check, override: str) -> None:
    code, _, error = check(TRAIN, *words(override))
    assert (code, error) == (0, [])


def test_all_problems_come_at_once_with_one_line_each(check: Check) -> None:
    code, _, error = check(
        TRAIN, "--epochss", 3, "--percent", 20, "--method", "dcaa", "--lr", "$1+", "--image_size", "[0]"
    )
    assert code == 2
    assert error[0] == f"error: {TRAIN}: 5 problems"
    assert len(error) == 6
    for start in ("--epochss:", "percent:", "method:", "lr:", "image_size"):
        assert any(line.strip().startswith(start) for line in error[1:])


def test_missing_data_set_is_one_problem(check: Check, tmp_path: Path) -> None:
    code, _, error = check(TRAIN, "--split_file", CONFIGS.parent / "splits" / "published.json", data=tmp_path / "no")
    assert (code, len(error)) == (2, 1)
    assert f"dataset_dir: expected the folder of a data set, found no {tmp_path}/no; make one with" in error[0]
