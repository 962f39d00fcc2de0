"""What a comparison has measured: the scores of its runs, and the settings that they were made with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.errors import UserError
from scripts.files import read_json
from scripts.scoring.tables import ALL, Row, over_seeds, read_scores_csv

from ..compare.state import RUN, TEST, VALIDATION, VALIDATION_LAST, read_state

ROLES = (VALIDATION, TEST)
BEST, LAST = "best", "last"  # the checkpoint that validation chose, and the one that the training ended with


@dataclass(frozen=True)
class Measured:
    """A method's scores over its seeds.

    name: of the method or variant; variant_of: the method that it is a variant of.
    seeds: of its runs, ascending.
    rows: of `over_seeds`, a row per class and "average".
    overrides: settings of its own.
    """

    name: str
    variant_of: str | None
    seeds: list[int]
    rows: list[Row]
    overrides: Mapping[str, str]


@dataclass(frozen=True)
class Scored:
    """A single run.

    method, seed: what it trained.
    rows: of `over_seeds` with this run alone.
    scores: a row per case and class, as the evaluation wrote them.
    state: its state.json.
    """

    method: str
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
    runs = {file.parent: read_json(file, "description of a run") for file in sorted(folder.glob(f"*/seed*/{RUN}"))}
    states = {run: read_state(run) for run in runs}
    if checkpoint == LAST and role == TEST:
        raise UserError(
            "--checkpoint last: expected the validation set, found --on test, which only the best checkpoint is scored "
            "on; leave one of them out"
        )
    all_scored = {each: [run for run in runs if each in states[run]] for each in (*ROLES, VALIDATION_LAST)}
    tested = all_scored[TEST]
    place = {LAST: VALIDATION_LAST}.get(checkpoint, role) or (
        TEST if tested and tested == all_scored[VALIDATION] else VALIDATION
    )
    scored = all_scored[place]
    if not scored:
        found = f"{len(runs)} runs without" if runs else "no run"
        raise UserError(
            f"{folder}: expected a comparison with {place} scores, found {found}; give the --output of "
            "`python -m tools compare`" + (", run with --test" if place == TEST else " and let it score a run")
        )
    settings = runs[scored[0]]["shared"]
    for run in scored:
        if runs[run]["shared"] != settings:
            raise UserError(f"{run}: expected the settings of {scored[0]}, found others; compare them apart")
    scores = {run: _read(run / place / f"scores_{kind}.csv") for run in scored}
    over_seeds({str(run): rows for run, rows in scores.items()})  # refuses runs that were not scored alike
    methods = [
        _measured([run for run in scored if runs[run]["method"] == name], runs, scores)
        for name in dict.fromkeys(runs[run]["method"] for run in scored)
    ]
    single = [
        Scored(runs[run]["method"], runs[run]["seed"], _means({str(run): rows}), rows, states[run])
        for run, rows in scores.items()
    ]
    single.sort(key=lambda run: (run.method, run.seed))
    missing = [_why(runs[run], states[run]) for run in runs if run not in scored]
    codes = [code for run in scored for code in states[run].get("code", [])]
    commits = dict.fromkeys(code["commit"][:10] + (" with changes" if code["dirty"] else "") for code in codes)
    labels = runs[scored[0]]["labels"]
    return Results(
        settings,
        labels,
        TEST if place == TEST else VALIDATION,
        checkpoint,
        methods,
        single,
        len(tested),
        missing,
        [*commits],
    )


def _read(path: Path) -> list[Row]:
    if not path.is_file():
        found = ", ".join(sorted(other.stem.removeprefix("scores_") for other in path.parent.glob("scores_*.csv")))
        raise UserError(f"{path}: expected this file of scores, found {found or 'none'}; see --scores")
    return read_scores_csv(path)


def _measured(
    folders: Sequence[Path], runs: Mapping[Path, Mapping[str, Any]], scores: Mapping[Path, list[Row]]
) -> Measured:
    about = runs[folders[0]]
    rows = _means({str(run): scores[run] for run in folders})
    seeds = sorted(runs[run]["seed"] for run in folders)
    return Measured(about["method"], about["variant_of"], seeds, rows, about["set"])


def _means(runs: Mapping[str, Sequence[Row]]) -> list[Row]:
    """Means over the cases of all modalities and over the runs."""
    return [row for row in over_seeds(runs) if row.get("modality", ALL) == ALL]


def _why(run: Mapping[str, Any], state: Mapping[str, Any]) -> str:
    error = f": {state['error']}" if "error" in state else ""
    return f"{run['method']} seed {run['seed']} ({state.get('state', 'not begun')}{error})"
