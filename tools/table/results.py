"""What a comparison has measured: the scores of its runs, and the settings that they were made with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.errors import UserError
from scripts.files import read_json
from scripts.scoring.tables import ALL, Row, over_seeds, read_scores_csv

from ..compare.state import RUN, read_state

ROLES = ("validation", "test")


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
    methods: in no particular order.
    runs: those that were scored, by method and seed.
    tested: runs that have been scored on the test set.
    missing: runs without these scores, and why.
    commits: of the code that worked on the runs.
    """

    settings: Mapping[str, Any]
    labels: list[str]
    role: str
    methods: list[Measured]
    runs: list[Scored]
    tested: int
    missing: list[str]
    commits: list[str]


def collect(folder: Path, role: str | None, kind: str) -> Results:
    """Read a comparison.

    Args:
        folder: of `compare`.
        role: "validation" or "test"; None takes the test set where all scored runs have been scored on it, too.
        kind: which scores: "native_mm" for scores_native_mm.csv.

    Raises:
        UserError: no scored run, or runs with other settings, cases or classes than the others.
    """
    runs = {file.parent: read_json(file, "description of a run") for file in sorted(folder.glob(f"*/seed*/{RUN}"))}
    states = {run: read_state(run) for run in runs}
    scored = {each: [run for run in runs if each in states[run]] for each in ROLES}
    role = role or ("test" if scored["test"] and scored["test"] == scored["validation"] else "validation")
    if not scored[role]:
        found = f"{len(runs)} runs without" if runs else "no run"
        raise UserError(
            f"{folder}: expected a comparison with {role} scores, found {found}; give the --output of "
            "`python -m tools compare`" + (", run with --test" if role == "test" else " and let it score a run")
        )
    settings = runs[scored[role][0]]["shared"]
    for run in scored[role]:
        if runs[run]["shared"] != settings:
            raise UserError(f"{run}: expected the settings of {scored[role][0]}, found others; compare them apart")
    scores = {run: _read(run / role / f"scores_{kind}.csv") for run in scored[role]}
    over_seeds({str(run): rows for run, rows in scores.items()})  # refuses runs that were not scored alike
    methods = [
        _measured([run for run in scored[role] if runs[run]["method"] == name], runs, scores)
        for name in dict.fromkeys(runs[run]["method"] for run in scored[role])
    ]
    single = [
        Scored(runs[run]["method"], runs[run]["seed"], _means({str(run): rows}), rows, states[run])
        for run, rows in scores.items()
    ]
    single.sort(key=lambda run: (run.method, run.seed))
    missing = [_why(runs[run], states[run]) for run in runs if run not in scored[role]]
    codes = [code for run in scored[role] for code in states[run].get("code", [])]
    commits = dict.fromkeys(code["commit"][:10] + (" with changes" if code["dirty"] else "") for code in codes)
    labels = runs[scored[role][0]]["labels"]
    return Results(settings, labels, role, methods, single, len(scored["test"]), missing, [*commits])


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
