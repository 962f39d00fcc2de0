"""`compare --tune`: as many trials for every method, chosen by validation, and final runs as published and tuned."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.tools.trainings import SMALL, Compare, Trainings
from tools.compare.request import Request, find_bundle
from tools.compare.tuning import AS_PUBLISHED, Trial, read_trials, trials_of


@pytest.fixture
def trials(heart_phantom: Path, output: Path) -> Callable[..., list[Trial]]:
    """The trials of a method on the phantom, in the settings of the tests."""

    def of(method: str, count: int, preset: str = "cpu", **settings: str) -> list[Trial]:
        given = dict(word.split("=", 1) for word in SMALL) | {"split_file": str(heart_phantom / "split.json")}
        settings = {key.replace("__", "::"): value for key, value in settings.items()}
        request = Request(
            bundle=find_bundle("dca_acdc"),
            data=heart_phantom,
            output=output,
            methods=[method],
            percent=50,
            preset=preset,
            overrides=given | settings,
        )
        return trials_of(request, count)[method]

    return of


def rates(trials: Sequence[Trial]) -> list[float]:
    return [float(trial.settings.get("lr", 0.03)) for trial in trials]


@pytest.mark.parametrize("method", ["supervised", "cps", "dca", "dca_plus", "fully_supervised", "ss_net"])
def test_every_method_has_as_many_trials_and_none_twice(trials: Callable[..., list[Trial]], method: str) -> None:
    tried = trials(method, 16)
    assert [trial.number for trial in tried] == list(range(1, 17))
    assert tried[0].settings == {}
    assert (tried[1].settings, tried[1].published) == (AS_PUBLISHED, True)
    assert len({trial.words for trial in tried}) == 16
    assert not any(trial.published for trial in tried[2:])


def test_a_draw_is_the_methods_own_and_the_same_again_and_longer(trials: Callable[..., list[Trial]]) -> None:
    first = trials("cps", 8)
    assert trials("cps", 12)[:8] == first
    assert [trial.settings for trial in trials("urpc", 8)] != [trial.settings for trial in first]  # of the same grid


def test_draws_are_from_the_grid(trials: Callable[..., list[Trial]]) -> None:
    """CPS: three learning rates, its own weight of 0.1 and two others, its own ramp of 1 and one other."""
    tried = trials("cps", 19)
    options = [
        [trial.settings.get(f"method_options::{key}") for trial in tried] for key in ("unsup_weight", "ramp_length")
    ]
    drawn = [*zip(rates(tried), *options, strict=True)][2:]
    grid = set(itertools.product((0.03, 0.01, 0.09), (None, "0.3", "1.0"), (None, "0.4")))
    assert set(drawn) == grid - {(0.03, None, None)}
    assert len(drawn) == 17


def test_a_small_grid_is_filled_up_with_further_learning_rates(trials: Callable[..., list[Trial]]) -> None:
    further = trials("supervised", 14)[10:]  # its grid: three rules for absent classes, three rates, less its own
    assert rates(further) == pytest.approx([0.27, 0.03 / 9, 0.03 * math.sqrt(3), 0.03 / math.sqrt(3)], rel=1e-3)
    assert all(trial.settings.keys() == {"lr"} for trial in further)


def test_what_is_recommended_is_not_tried_again_under_its_value(trials: Callable[..., list[Trial]]) -> None:
    drawn = {trial.settings.get("method_options::jitter") for trial in trials("dca", 160)[2:]}
    assert drawn == {None, "0.0", "0.2"}  # for slices 0.4 is recommended


def test_what_a_variant_or_the_user_fixes_is_not_tuned(trials: Callable[..., list[Trial]]) -> None:
    assert all(trial.settings.keys() <= {"lr"} for trial in trials("dca_plus", 8)[2:])
    options = {key for trial in trials("mean_teacher_cp_jitter", 40)[2:] for key in trial.settings}
    assert options == {"lr", *(f"method_options::{key}" for key in ("unsup_weight", "ramp_length", "teacher_decay"))}
    tried = trials("cps", 8, lr="0.001", method_options__ramp_length="0.2")[2:]
    assert not any("method_options::ramp_length" in trial.settings for trial in tried)
    assert {f"{rate:.2g}" for rate in rates(tried)} <= {"0.03", "0.00033", "0.003"}  # 0.03: no rate of its own


def test_where_the_recommended_settings_are_the_published_ones_they_are_one_trial(
    trials: Callable[..., list[Trial]],
) -> None:
    tried = trials("dca", 4, preset="published")
    assert [trial.published for trial in tried] == [True, False, False, False]
    assert [trial.published for trial in trials("supervised", 3, lr="0.02")] == [True, False, False]


def calls(trainings: Trainings, output: Path) -> list[str]:
    """The folders of the trainings, in the comparison's."""
    folders = [Path(options["run_dir"]) for options in trainings.options if "resume" in options]
    return [folder.relative_to(output).as_posix() for folder in folders]


def by_rate(options: Mapping[str, str]) -> Sequence[float]:
    """The lower of the tried learning rates are the better ones; published ones are the worst."""
    if "options_preset" in options:
        return (0.1, 0.1, 0.1)
    return (0.8, 0.8, 0.8) if float(options.get("lr", 1)) < 0.02 else (0.5, 0.5, 0.5)


def test_the_best_trial_on_validation_is_trained_anew_beside_the_published_settings(
    compare: Compare, trainings: Trainings, output: Path
) -> None:
    trainings.dice = by_rate
    code, printed, _ = compare("supervised,cps", "--tune", 5, "--seeds", "0,1")
    assert code == 0
    assert "tuning: 10 runs" in printed
    tried = [f"tuning/trial{k}/{method}/seed1000" for k in range(1, 6) for method in ("supervised", "cps")]
    assert calls(trainings, output)[:10] == tried
    assert calls(trainings, output)[10:] == [
        f"{arm}/{method}/seed{seed}"
        for arm in ("published", "tuned")
        for seed in (0, 1)
        for method in ("supervised", "cps")
    ]
    rows = read_trials(output)
    assert [(row["method"], row["trial"]) for row in rows] == [
        (m, str(k)) for m in ("supervised", "cps") for k in range(1, 6)
    ]
    for method in ("supervised", "cps"):
        (chosen,) = (row for row in rows if row["method"] == method and row["chosen"])
        first = next(row for row in rows if row["method"] == method and row["dice"] == "0.800000")
        assert chosen == first  # of equal ones the earlier
        tuned = json.loads((output / "tuned" / method / "seed1" / "run.json").read_text())
        assert set(chosen["settings"].split()) <= {f"{key}={value}" for key, value in tuned["set"].items()}
        published = json.loads((output / "published" / method / "seed1" / "run.json").read_text())
        assert published["set"]["options_preset"] == "published"
        assert published["shared"] == tuned["shared"]


def test_a_method_whose_best_trial_is_the_published_one_is_not_trained_twice(
    compare: Compare, trainings: Trainings, output: Path, table: Callable[..., str]
) -> None:
    trainings.dice = lambda options: (
        (0.9 if ("options_preset" in options) == (options["method"] == "cps") else 0.2,) * 3
    )
    assert compare("supervised,cps", "--tune", 3)[0] == 0
    assert not (output / "tuned" / "cps").exists()
    assert calls(trainings, output)[6:] == [
        "published/supervised/seed0",
        "published/cps/seed0",
        "tuned/supervised/seed0",
    ]
    rows = [line.split("|")[1:3] for line in table().splitlines() if line.startswith("| ")]
    found = {name.strip(): text.split("[")[0].strip(" ¹²") for name, text in rows[:7]}
    assert found["CPS, as published"] == found["CPS, tuned"] == "**90.00**"
    assert (found["labels only, as published"], found["labels only, tuned"]) == ("20.00", "**90.00**")
    text = table()
    assert "- ¹ ² ³: the best of a column, among the published and among the tuned settings apart\n" in text
    assert "- tuned: the best of 3 trials a method by validation Dice, with seeds 1000 (tuning/trials.csv): " in text
    assert "cps 2 (options_preset=published)" in text
    assert "supervised 1 (as recommended)" in text
    assert "preset cpu, image_size=[32,32], network_def::width=4, val_steps=2; seeds 0\n" in text
    assert text.count("options_preset") == 1
    assert "CPS, tuned" not in table("--arm", "published")
    assert "Dice less that of CPS, tuned" in table("--format", "statistics", "--against", "cps")
    assert "Dice less that of CPS, as published" in table("--format", "statistics", "--arm", "published")


def test_a_trial_that_fails_counts_as_the_worst_and_is_not_tried_again(
    compare: Compare, trainings: Trainings, output: Path
) -> None:
    trainings.faults = {"supervised training": "error: the loss is nan"}
    compare("supervised", "--tune", 2)
    rows = read_trials(output)
    assert [(row["dice"], row["chosen"]) for row in rows] == [("0.000000", "yes"), ("0.000000", "")]
    trainings.faults = {}
    trainings.calls.clear()
    trainings.options.clear()
    assert compare("supervised", "--tune", 2)[0] == 0
    assert calls(trainings, output) == ["published/supervised/seed0", "tuned/supervised/seed0"]


def test_what_is_tuned_goes_on_and_new_methods_are_tuned_alike(
    compare: Compare, trainings: Trainings, output: Path
) -> None:
    trainings.faults = {"supervised validation": "error: no space left"}
    compare("supervised", "--tune", 2, "--tune-seeds", "7,8")
    trainings.faults = {}
    trainings.options.clear()
    assert compare("supervised,cps", "--tune", 2, "--tune-seeds", "7,8")[0] == 0
    tuned = [call for call in calls(trainings, output) if call.startswith("tuning/")]
    assert tuned == [f"tuning/trial{k}/cps/seed{seed}" for k in (1, 2) for seed in (7, 8)]
    methods = {row["method"] for row in read_trials(output)}
    assert methods == {"supervised", "cps"}
    code, _, error = compare("supervised", "--tune", 2, "--tune-seeds", "7,8", steps=8)
    assert (code, "steps 6 there, 8 here" in error) == (2, True)


def test_trials_score_neither_the_test_set_nor_the_last_checkpoint(compare: Compare, trainings: Trainings) -> None:
    assert compare("supervised", "--tune", 2, "--test")[0] == 0
    scored = [options for options in trainings.options if "output_dir" in options]
    of_trials = {Path(o["output_dir"]).name for o in scored if "/tuning/" in o["run_dir"]}
    of_finals = {Path(o["output_dir"]).name for o in scored if "/tuning/" not in o["run_dir"]}
    assert (of_trials, of_finals) == ({"validation"}, {"validation", "validation_last", "test"})


def test_equal_time_is_timed_as_recommended_and_as_published(
    compare: Compare, trainings: Trainings, output: Path
) -> None:
    trainings.dice = by_rate
    trainings.pace = {"supervised": 0.5}
    assert compare("supervised", "--tune", 3, "--minutes", 0.5, steps=None, settings=("val_steps=300",))[0] == 0
    record = json.loads((output / "timing.json").read_text())
    assert record["seconds"] == {"recommended": {"supervised": 0.5}, "published": {"supervised": 0.5}}
    steps = {Path(o["run_dir"]).parts[-3]: o["steps"] for o in trainings.options if "/timing/" not in o["run_dir"]}
    assert set(steps.values()) == {"60"}
    assert steps.keys() >= {"trial1", "trial2", "trial3", "published"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--tune", 2, "--seeds", "0,1000"], "--tune-seeds: expected seeds that --seeds does not have, found 1000"),
        (["--tune", 1], "--tune: expected at least 2, found 1"),
        (["--tune", 2, "--tune-seeds", "x"], "--tune-seeds: expected whole numbers such as 0,1,2, found 'x'"),
        (["--tune", 2, "--set", "seed=3"], "--set seed: expected a setting that this command does not make itself"),
        (["--tune", 2, "--set", "lr=abc"], "lr: expected"),
        (["--tune", 3, "--preset", "cpuu"], "expected a key that exists, found 'cpuu'"),
    ],
)
def test_mistakes_are_told_before_any_trial(
    compare: Compare, trainings: Trainings, output: Path, words: list[Any], message: str
) -> None:
    code, _, error = compare("supervised", *words)
    assert (code, trainings.calls) == (2, [])
    assert message in error
    assert not output.exists()
