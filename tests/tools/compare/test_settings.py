"""`compare`: runs of one folder are comparable, their settings on record, and mistakes told before anything begins."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.tools.trainings import Compare, Trainings
from tools.compare.state import read_state


def test_config_is_written_with_values_for_what_it_refers_to(
    compare: Compare, trainings: Trainings, output: Path
) -> None:
    compare("dca_no_split", "--preset", "published")
    config = json.loads((output / "dca_no_split" / "seed0" / "config.json").read_text())
    preset = config["presets"]["published"]
    assert (config["lr"], config["interpolation"]) == (preset["lr"], preset["interpolation"])
    assert (config["epochs"], config["train"]["dataloader"]["steps"]) == (3, 2)
    assert config["optimizer"]["lr"] == preset["lr"]
    assert config["optimizer"]["params"] == "$@train::method.parameters()"  # needs code that is not run
    assert config["network_def"]["method"] == "dca_no_split"
    assert config["output_dir"] == "@run_dir"  # a place, which another call may choose anew


def test_config_has_the_learning_rate_of_the_methods_release(
    compare: Compare, trainings: Trainings, output: Path
) -> None:
    compare("dhc,dca", "--preset", "published")
    rates = {}
    for method in ("dhc", "dca"):
        config = json.loads((output / method / "seed0" / "config.json").read_text())
        rates[method] = config["lr"], config["optimizer"]["lr"]
    assert rates == {"dhc": (0.01, 0.01), "dca": (0.001, 0.001)}


def test_strong_names_stand_for_their_methods_with_the_recipe(
    compare: Compare, trainings: Trainings, output: Path
) -> None:
    compare("supervised,supervised_strong,dca_strong")
    found = {}
    for name in ("supervised", "supervised_strong", "dca_strong"):
        config = json.loads((output / name / "seed0" / "config.json").read_text())
        found[name] = [config[key] for key in ("method", "augmentation", "deep_supervision", "average_decay")]
    assert found == {
        "supervised": ["supervised", "plain", False, 0.0],
        "supervised_strong": ["supervised", "strong", True, 0.99],
        "dca_strong": ["dca", "strong", True, 0.99],
    }


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"steps": 8}, "steps 6 there, 8 here"),
        ({"settings": ("lr=0.5",)}, "lr 0.03 there, 0.5 here"),
        ({"settings": ("method_options::grouping=uniform",)}, "method_options::grouping not set there, uniform here"),
    ],
)
def test_other_settings_than_those_of_a_finished_run_are_refused_and_named(
    compare: Compare, trainings: Trainings, output: Path, change: dict[str, object], difference: str
) -> None:
    compare("dca")
    trainings.calls.clear()
    code, _, error = compare("dca", **change)
    assert code == 2
    assert f"{output}: expected the settings of the runs that are there; choose another --output" in error
    assert f"{output / 'dca' / 'seed0'}: " in error
    assert difference in error
    assert trainings.calls == []


def test_other_data_are_refused_and_the_same_data_elsewhere_are_not(
    compare: Compare, trainings: Trainings, output: Path, heart_phantom: Path, tmp_path: Path
) -> None:
    trainings.faults = {"cps training": "error: interrupted"}
    compare("supervised,cps")
    record = (output / "supervised" / "seed0" / "run.json").read_text()
    shutil.copytree(heart_phantom, tmp_path / "moved")
    trainings.faults = {}
    assert compare("supervised,cps", data=tmp_path / "moved")[0] == 0
    assert trainings.calls[4:6] == ["cps 0 training", "cps 0 validation"]
    assert all(options["dataset_dir"] == str(tmp_path / "moved") for options in trainings.options[4:])
    assert (output / "supervised" / "seed0" / "run.json").read_text() == record
    content = json.loads((tmp_path / "moved" / "split.json").read_text())
    content["validation"].reverse()
    (tmp_path / "moved" / "split.json").write_text(json.dumps(content))
    code, _, error = compare("supervised", data=tmp_path / "moved")
    assert code == 2
    assert "content of split_file" in error


def test_methods_of_one_comparison_have_one_budget_but_may_have_options_of_their_own(
    compare: Compare, trainings: Trainings, output: Path
) -> None:
    compare("supervised")
    assert compare("dca", settings=("lr=0.01",))[0] == 0
    code, _, error = compare("cps", steps=8)
    assert code == 2
    assert "steps 6 there, 8 here" in error
    assert not (output / "cps").exists()


def test_a_run_that_left_nothing_starts_anew_with_new_settings(
    compare: Compare, trainings: Trainings, output: Path
) -> None:
    trainings.faults = {"supervised training": "error: out of memory"}
    compare("supervised")
    (output / "supervised" / "seed0" / "resume.pt").unlink()
    trainings.faults = {}
    assert compare("supervised", steps=8)[0] == 0
    assert trainings.options[-1]["steps"] == "8"


def test_a_method_that_cannot_divide_these_classes_is_named_and_does_not_stop_the_others(
    compare: Compare, trainings: Trainings, output: Path
) -> None:
    code, printed, _ = compare("dca_sequential,supervised")
    assert code == 1
    assert "2 runs" in printed
    assert "0 finished, 1 to do, 1 impossible" in printed
    assert "failed: dca_sequential, seed 0: method_options::grouping: grouping rule 'sequential'" in printed
    assert {call.split()[0] for call in trainings.calls} == {"supervised"}
    assert read_state(output / "dca_sequential" / "seed0")["state"] == "failed"
    trainings.calls.clear()
    code, _, error = compare("dca_sequential")
    assert (code, trainings.calls) == (2, [])
    assert "grouping rule 'sequential'" in error


def test_all_and_variants_stand_for_the_names_of_the_code(trainings: Trainings) -> None:
    from scripts.methods import METHODS
    from scripts.methods.variants import VARIANTS
    from tools.compare.request import choose_methods

    assert choose_methods("all") == [*METHODS]
    assert choose_methods("dca,variants,dca") == ["dca", *VARIANTS]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--methods", "dcaa"], "--methods: expected known names, found 'dcaa'; did you mean 'dca'?"),
        (["--bundle", "dca_liver"], "dca_amos, dca_synapse, or the path of a bundle, found 'dca_liver'"),
        (["--methods", ","], "--methods: expected at least one name, found ','; choose from supervised, "),
        (["--slurm", "timeout_min=9"], "--slurm: expected --executor slurm beside it, found --executor local; add it"),
        (["--seeds", "0;1"], "--seeds: expected whole numbers such as 0,1,2, found '0;1'"),
        (["--workers", "0"], "--workers: expected at least 1, found 0"),
        (["--set", "lr"], "--set: expected KEY=VALUE, found 'lr'"),
        (["--set", "seed=3"], "--set seed: expected a setting that this command does not make itself"),
        (["--set", "lrr=3"], "--lrr: expected an id of the config, found one that nothing uses"),
        (["--preset", "cpuu"], "expected a key that exists, found 'cpuu'; did you mean 'cpu'?"),
        (["--dataset_dir", "nowhere"], "expected the folder of a data set, found no"),
    ],
)
def test_mistakes_are_told_before_anything_begins(
    compare: Compare, trainings: Trainings, output: Path, words: list[str], message: str
) -> None:
    code, _, error = compare("supervised", *words)
    assert (code, trainings.calls) == (2, [])
    assert message in error
    assert not output.exists()
