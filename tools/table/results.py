"""What a comparison has measured: the scores of its runs, and the settings that they were made with."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scripts.errors import UserError
from scripts.files import read_json
from scripts.scoring.tables import ALL, Row, over_seeds, read_scores_csv

from ..compare.state import RUN, TEST, VALIDATION, VALIDATION_LAST, read_state
from ..compare.tuning import PUBLISHED, TUNED, Chosen, read_chosen

ROLES = (VALIDATION, TEST)
# The settings of runs: the project's own, in METHOD/seedN, and what tuning leaves, in folders of their own.
ARMS = {"": "as recommended", PUBLISHED: "as published", TUNED: "tuned"}
BEST, LAST = "best", "last"  # the checkpoint that validation chose, and the one that the training ended with


@dataclass(frozen=True)
class Measured:
    """A method's scores over its seeds.

    name: of the method or variant; variant_of: the method that it is a variant of.
    arm: its settings, of ARMS.
    seeds: of its runs, ascending. steps: of each training.
    rows: of `over_seeds`, a row per class and "average".
    overrides: settings of its own.
    """

    name: str
    arm: str
    variant_of: str | None
    seeds: list[int]
    steps: int
    rows: list[Row]
    overrides: Mapping[str, str]

    @property
    def title(self) -> str:
        """Its name and settings."""
        return self.name + (f", {ARMS[self.arm]}" if self.arm else "")


@dataclass(frozen=True)
class Scored:
    """A single run.

    method, seed: what it trained; arm: its settings, of ARMS.
    rows: of `over_seeds` with this run alone.
    scores: a row per case and class, as the evaluation wrote them.
    state: its state.json.
    """

    method: str
    arm: str
    seed: int
    rows: list[Row]
    scores: list[Row]
    state: Mapping[str, Any]


@dataclass(frozen=True)
class Results:
    """What a table is made of.

    settings: that all runs share ("shared" in run.json).
    labels: names of the classes.
    role: "validation" or "test".
    checkpoint: BEST or LAST.
    methods: in no particular order.
    runs: those that were scored, by method and seed.
    tested: runs that have been scored on the test set.
    missing: runs without these scores, and why.
    commits: of the code that worked on the runs.
    tuned: by method, the trial that its tuning chose.
    patients: by case; older runs do not tell it.
    """

    settings: Mapping[str, Any]
    labels: list[str]
    role: str
    checkpoint: str
    methods: list[Measured]
    runs: list[Scored]
    tested: int
    missing: list[str]
    commits: list[str]
    tuned: Mapping[str, Chosen]
    patients: Mapping[str, str]

    @property
    def arms(self) -> list[str]:
        """Those of ARMS that there are, in this order."""
        return [arm for arm in ARMS if any(method.arm == arm for method in self.methods)]

    def of_arm(self, arm: str) -> Results:
        """What was measured with these settings."""
        methods = [method for method in self.methods if method.arm == arm]
        return replace(self, methods=methods, runs=[run for run in self.runs if run.arm == arm])


def collect(folder: Path, role: str | None, kind: str, checkpoint: str = BEST) -> Results:
    """Read a comparison.

    Args:
        folder: of `compare`.
        role: "validation" or "test"; None takes the test set where all scored runs have been scored on it, too.
        kind: which scores: "native_mm" for scores_native_mm.csv.
        checkpoint: BEST or LAST; the last one is scored on the validation set only.

    Raises:
        UserError: the last checkpoint on the test set, no scored run, or runs with other settings, cases or classes
            than the others.
    """
    if checkpoint == LAST and role == TEST:
        raise UserError(
            "--checkpoint last: expected the validation set, found --on test, which only the best checkpoint is scored "
            "on; leave one of them out"
        )
    tuned = read_chosen(folder)
    runs = list(_runs(folder, [method for method, trial in tuned.items() if trial.published]))
    scored_on = {each: [run for run in runs if each in run.state] for each in (*ROLES, VALIDATION_LAST)}
    tested = scored_on[TEST]
    role = role or (TEST if tested and tested == scored_on[VALIDATION] and checkpoint == BEST else VALIDATION)
    place = VALIDATION_LAST if checkpoint == LAST else role
    scored = scored_on[place]
    if not scored:
        found = f"{len(runs)} runs without" if runs else "no run"
        raise UserError(
            f"{folder}: expected a comparison with {place} scores, found {found}; give the --output of "
            "`python -m tools compare`" + (", run with --test" if place == TEST else " and let it score a run")
        )
    settings = scored[0].about["shared"]
    for run in scored:
        if run.about["shared"] != settings:
            raise UserError(
                f"{run.folder}: expected the settings of {scored[0].folder}, found others; compare them apart"
            )
    scores = {run.folder: _read(run.folder / place / f"scores_{kind}.csv") for run in scored}
    over_seeds({str(run): rows for run, rows in scores.items()})  # refuses runs that were not scored alike
    methods = [
        _measured([run for run in scored if (run.arm, run.about["method"]) == one], scores)
        for one in dict.fromkeys((run.arm, run.about["method"]) for run in scored)
    ]
    single = [
        Scored(
            run.about["method"],
            run.arm,
            run.about["seed"],
            _means({str(run.folder): scores[run.folder]}),
            scores[run.folder],
            run.state,
        )
        for run in scored
    ]
    single.sort(key=lambda run: (run.method, run.arm, run.seed))
    missing = [_why(run) for run in runs if run not in scored]
    codes = [code for run in scored for code in run.state.get("code", [])]
    commits = dict.fromkeys(code["commit"][:10] + (" with changes" if code["dirty"] else "") for code in codes)
    labels = scored[0].about["labels"]
    patients = {case: patient for run in scored for case, patient in run.about.get("patients", {}).items()}
    return Results(
        settings, labels, role, checkpoint, methods, single, len(tested), missing, [*commits], tuned, patients
    )


@dataclass(frozen=True)
class _Run:
    """A run as its folder shows it: its run.json, its state.json, and the settings that it stands for."""

    folder: Path
    arm: str
    about: Mapping[str, Any]
    state: Mapping[str, Any]


def _runs(folder: Path, tuned_as_published: Collection[str]) -> Iterator[_Run]:
    """The runs of a comparison; where the published settings are a method's best, its runs are both."""
    for arm in ARMS:
        for file in sorted((folder / arm).glob(f"*/seed*/{RUN}")):
            about, state = read_json(file, "description of a run"), read_state(file.parent)
            yield _Run(file.parent, arm, about, state)
            if arm == PUBLISHED and about["method"] in tuned_as_published:
                yield _Run(file.parent, TUNED, about, state)


def _read(path: Path) -> list[Row]:
    if not path.is_file():
        found = ", ".join(sorted(other.stem.removeprefix("scores_") for other in path.parent.glob("scores_*.csv")))
        raise UserError(f"{path}: expected this file of scores, found {found or 'none'}; see --scores")
    return read_scores_csv(path)


def _measured(runs: Sequence[_Run], scores: Mapping[Path, list[Row]]) -> Measured:
    about = runs[0].about
    rows = _means({str(run.folder): scores[run.folder] for run in runs})
    seeds = sorted(run.about["seed"] for run in runs)
    steps = about.get("steps") or about["shared"].get("steps", 0)  # older runs have it among what is shared
    return Measured(about["method"], runs[0].arm, about["variant_of"], seeds, steps, rows, about["set"])


def _means(runs: Mapping[str, Sequence[Row]]) -> list[Row]:
    """Means over the cases of all modalities and over the runs."""
    return [row for row in over_seeds(runs) if row.get("modality", ALL) == ALL]


def _why(run: _Run) -> str:
    error = f": {run.state['error']}" if "error" in run.state else ""
    arm = f", {ARMS[run.arm]}," if run.arm else ""
    return f"{run.about['method']}{arm} seed {run.about['seed']} ({run.state.get('state', 'not begun')}{error})"
