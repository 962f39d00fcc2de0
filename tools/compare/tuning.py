"""Fair tuning: as many trials for every method, and the best of them by its validation score."""

from __future__ import annotations

import csv
import inspect
import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from scripts.errors import UserError
from scripts.files import replacing
from scripts.scoring.tables import Row, csv_text

from ..common.config import SEPARATOR
from .plan import Plan, differences, plan, resolved
from .progress import average_dice
from .request import REFERENCES, Request
from .state import VALIDATION, Run, is_finished, read_state

FOLDER, RECORD = "tuning", "trials.csv"
RECOMMENDED, PUBLISHED, TUNED = "recommended", "published", "tuned"
AS_PUBLISHED = {"options_preset": "published"}
SEED = 0  # of the draws, beside the method's name
FACTORS = (1, 1 / 3, 3)  # of the learning rate


@dataclass(frozen=True)
class Trial:
    """Settings that a method is tried with.

    number: from 1.
    settings: what differs from the recommended settings, by id of the config.
    published: whether these are the method's published settings.
    """

    number: int
    settings: Mapping[str, str] = field(default_factory=dict)
    published: bool = False

    @property
    def words(self) -> str:
        """The settings as `--set` takes them."""
        return " ".join(f"{key}={value}" for key, value in self.settings.items())


def expect_other_seeds(tuning: Sequence[int], final: Sequence[int]) -> None:
    """Seeds of tuning must not be those of the final runs, or the best trial would be a lucky one of these.

    Raises:
        UserError: they share one.
    """
    both = [seed for seed in tuning if seed in final]
    if both:
        raise UserError(
            f"--tune-seeds: expected seeds that --seeds does not have, found {', '.join(map(str, both))} in both; "
            "choose others"
        )


def trials_of(request: Request, count: int) -> dict[str, list[Trial]]:
    """The trials of every method: as recommended, as published, and a draw without repetition from its grid.

    The grid is the method's `tuning` and three learning rates. What the user or a variant fixes is no part of it. A
    small grid is filled up with further learning rates. Where the published settings are the recommended ones, that is
    one trial.
    """
    return {method: list(itertools.islice(_trials(request, method), count)) for method in request.methods}


def _trials(request: Request, method: str) -> Iterator[Trial]:
    from scripts.methods import preset_options, published_options
    from scripts.methods.variants import VARIANTS, Variant

    from ..check.components import named_methods

    name = REFERENCES.get(method, {}).get("method", method)
    cls, variant = named_methods()[name], VARIANTS.get(name, Variant(name))
    own, published = (
        resolved(replace(request, own={method: settings}), method, request.seeds[0]) for settings in ({}, AS_PUBLISHED)
    )
    dims = own["network_def"]["spatial_dims"]
    fixed = {*variant.options, *own["method_options"]}
    fixed_network = {*variant.network_options, *own["network_options"]}
    others = {*published_options(cls, dims)} - fixed or {*cls.published_network} - fixed_network
    same = own["options_preset"] == "published" or not (others or differences(_choices(own), _choices(published)))
    yield Trial(1, published=same)
    numbers = itertools.count(2)
    if not same:
        yield Trial(next(numbers), AS_PUBLISHED, published=True)

    defaults = {key: p.default for key, p in inspect.signature(cls).parameters.items()}
    defaults |= preset_options(cls, own["options_preset"], dims)
    values = {
        key: [None, *(value for value in tried if value != defaults[key])]
        for key, tried in cls.tuning.items()
        if key not in fixed
    }
    grid = list(itertools.product(FACTORS, *values.values()))[1:]  # the first is as recommended
    random.Random(f"{SEED} {method}").shuffle(grid)
    rate = own["lr"]
    if not isinstance(rate, int | float):
        raise UserError(f"lr: expected a number, found {rate!r}; tuning tries fractions and multiples of it")
    for factor, *chosen in itertools.chain(grid, ([factor] for factor in _further_factors())):
        settings = {"lr": f"{factor * rate:.4g}"} if factor != 1 else {}
        options = zip(values, chosen, strict=False)
        settings |= {f"method_options{SEPARATOR}{key}": str(value) for key, value in options if value is not None}
        yield Trial(next(numbers), settings)


def _choices(config: Mapping[str, Any]) -> dict[str, Any]:
    """The plain settings at the top of a config, but for the names of presets."""
    plain = {key: value for key, value in config.items() if not isinstance(value, dict | list)}
    return {key: value for key, value in plain.items() if not key.endswith("preset")}


def _further_factors() -> Iterator[float]:
    """Learning rates between and beyond those of the grid, as factors: 9, 1/9, then what halves the gaps."""
    yield from (9, 1 / 9)
    for halvings in itertools.count(1):
        step = 2.0**-halvings
        for k in range(1, int(2 / step), 2):
            yield from (3 ** (k * step), 3 ** -(k * step))


def plan_trials(
    recommended: Request, published: Request, trials: Mapping[str, Sequence[Trial]], seeds: Sequence[int]
) -> list[Plan]:
    """The runs of all trials: a comparison of all methods for each number, in OUTPUT/tuning/trialN.

    Args:
        recommended, published: the request with the lengths of the trials; settings come from the trials.
        trials: of `trials_of`.
        seeds: of the trials.

    Raises:
        UserError: mistakes in the config that all methods share; or trials that have begun with other settings.
    """
    plans = []
    for number in range(1, 1 + max(map(len, trials.values()))):
        now = {method: of[number - 1] for method, of in trials.items() if number <= len(of)}
        lengths = {m: (published if trial.published else recommended).lengths.get(m) for m, trial in now.items()}
        request = replace(
            recommended,
            output=recommended.output / FOLDER / f"trial{number}",
            methods=[*now],
            seeds=seeds,
            lengths={method: length for method, length in lengths.items() if length is not None},
            own={method: trial.settings for method, trial in now.items()},
            test=False,
            scored=(VALIDATION,),
            what=f"trial {number}",
        )
        plans.append(plan(request, strict=number == 1))
    return plans


def choose(
    output: Path, trials: Mapping[str, Sequence[Trial]], runs: Sequence[Run], seeds: Sequence[int]
) -> dict[str, Trial]:
    """The trial of every method with the best mean validation Dice over the seeds, of equal ones the first.

    A trial that failed has a Dice of 0. All of them are written to OUTPUT/tuning/trials.csv, beside those of methods
    that are there.
    """
    scores = {(run.method, run.folder.parents[1].name, run.seed): _dice(run) for run in runs}
    file = output / FOLDER / RECORD
    rows = [row for row in read_trials(output) if row["method"] not in trials]
    chosen = {}
    for method, tried in trials.items():
        of = {trial.number: [scores[method, f"trial{trial.number}", seed] for seed in seeds] for trial in tried}
        best = max(tried, key=lambda trial: (sum(of[trial.number]), -trial.number))
        chosen[method] = best
        rows += [
            {
                "method": method,
                "trial": str(trial.number),
                "settings": trial.words,
                "published": "yes" if trial.published else "",
                "seed": str(seed),
                "dice": f"{dice:.6f}",
                "chosen": "yes" if trial is best else "",
            }
            for trial in tried
            for seed, dice in zip(seeds, of[trial.number], strict=True)
        ]
    with replacing(file, "the trials") as partial:
        partial.write_text(csv_text(rows), encoding="utf-8")
    return chosen


def settled(output: Path, trials: Mapping[str, Sequence[Trial]], seeds: Sequence[int]) -> dict[str, Trial]:
    """What `choose` has chosen before of just these trials, by method: it stays, and no failed trial is tried again."""
    rows, chosen = read_trials(output), {}
    for method, tried in trials.items():
        own = [row for row in rows if row["method"] == method]
        found = {(row["trial"], row["settings"], row["seed"]) for row in own}
        if found == {(str(trial.number), trial.words, str(seed)) for trial in tried for seed in seeds}:
            (best,) = {row["trial"] for row in own if row["chosen"]}
            chosen[method] = tried[int(best) - 1]
    return chosen


@dataclass(frozen=True)
class Chosen:
    """The trial that was chosen of a method's: its number out of how many, its settings, and whether published."""

    number: int
    count: int
    seeds: list[str]
    words: str
    published: bool


def read_chosen(output: Path) -> dict[str, Chosen]:
    """What a comparison's trials.csv says was chosen, by method; nothing without the file."""
    rows = read_trials(output)
    return {
        row["method"]: Chosen(
            int(row["trial"]),
            len({other["trial"] for other in rows if other["method"] == row["method"]}),
            [other["seed"] for other in rows if other["method"] == row["method"] and other["trial"] == row["trial"]],
            row["settings"],
            bool(row["published"]),
        )
        for row in rows
        if row["chosen"]
    }


def read_trials(output: Path) -> list[Row]:
    """The rows of a comparison's trials.csv; none without one."""
    file = output / FOLDER / RECORD
    if not file.is_file():
        return []
    with file.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def _dice(run: Run) -> float:
    """The validation Dice of a trial, the worst one if it failed."""
    dice = average_dice(run.folder / VALIDATION) if is_finished(read_state(run.folder)) else 0.0
    return 0.0 if math.isnan(dice) else dice


def final_requests(recommended: Request, published: Request, chosen: Mapping[str, Trial]) -> list[Request]:
    """The comparisons that tuning ends with: as published in OUTPUT/published, and tuned in OUTPUT/tuned.

    A method whose best trial is the published one has only the first: that is both.
    """
    tuned = {method: trial for method, trial in chosen.items() if not trial.published}
    first = replace(published, output=published.output / PUBLISHED, what="as published")
    second = replace(
        recommended,
        output=recommended.output / TUNED,
        methods=[*tuned],
        own={method: trial.settings for method, trial in tuned.items()},
        what=TUNED,
    )
    return [first, second] if tuned else [first]
