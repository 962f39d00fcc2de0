"""`python -m experiments.simulate`: does labelling patients of some choice beat labelling any?

For every seed, a model is trained with the labels of some patients. Then more patients get their label, in each arm
by another rule, which sees this model's predictions and features. All arms train from scratch, alike.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.data.datalists import patients_by_role, read_datalist
from scripts.errors import UserError, first_few
from scripts.files import read_json, write_json
from tools.common.arguments import read_pairs
from tools.common.stopping import STOPPED
from tools.common.trained import class_groups
from tools.compare.executors import run_here
from tools.compare.plan import plan
from tools.compare.request import Request, find_bundle, read_seeds
from tools.compare.state import LOG, MODEL, TEST, VALIDATION, is_finished, read_state

START = "start"
ARMS = {
    "disagreement": "those on which the experts disagree most",
    "coverage": "one after the other what leaves all patients closest to a labelled one (`coverage.gains`)",
    "mixture": "the same, where a patient counts as much as the experts disagree on it",
    "random": "any",
}
METHOD = "dca"
PERCENT = 10  # under which a split lists its labelled patients, however many they are
SCORES = "summary_native_mm.csv"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("--bundle", required=True, help="bundle to train, such as dca_acdc")
    parser.add_argument("--dataset_dir", required=True, type=Path, help="data set with a label for every case")
    parser.add_argument("--split_file", required=True, type=Path, help="its training, validation and test patients")
    parser.add_argument("--output", required=True, type=Path, help="folder of the runs; the same command goes on")
    parser.add_argument("--labelled", type=int, default=3, help="patients with a label at first (default: %(default)s)")
    parser.add_argument("--more", type=int, default=3, help="patients that get one (default: %(default)s)")
    parser.add_argument("--pool", type=int, help="training patients of a seed, drawn from all (default: all)")
    parser.add_argument("--seeds", default="0,1,2,3,4", help="(default: %(default)s)")
    parser.add_argument("--preset", help="preset of the bundle")
    parser.add_argument("--steps", type=int, help="length of each training")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="other settings")
    parser.add_argument("--test", action="store_true", help="score the test patients, not those of validation")


def run(args: argparse.Namespace) -> int:
    """Do what is left of the simulation, and print the scores of the arms.

    Raises:
        UserError: numbers that do not fit the data, settings that differ from those of runs that are there, or a
            training that failed.
    """
    roles = patients_by_role(args.split_file, 100)
    train = sorted(roles["labelled"])
    cases = read_datalist(args.dataset_dir / "datalist.json")["cases"]
    without = set(train) - {case["patient"] for case in cases if "label" in case}
    if without:
        found = first_few(sorted(without))
        raise UserError(f"{args.dataset_dir}: expected a label for every training patient, found none for {found}")
    pool = args.pool or len(train)
    if min(args.labelled, args.more) < 1 or not args.labelled + args.more < pool <= len(train):
        raise UserError(
            f"--labelled {args.labelled}, --more {args.more}, --pool {pool}: expected 1 or more of each, and more than "
            f"both together in the pool, which is at most the {len(train)} training patients of {args.split_file}"
        )
    rows = []
    try:
        for seed in read_seeds(args.seeds):
            rows += _one_seed(args, roles, train, pool, seed)
            write_json(args.output / "results.json", {"runs": rows})
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on")
        return STOPPED
    print(_report(rows))
    print(f"wrote {args.output / 'results.json'}")
    return 0


def _one_seed(
    args: argparse.Namespace, roles: Mapping[str, Sequence[str]], train: Sequence[str], pool: int, seed: int
) -> list[dict[str, Any]]:
    """The scores of one seed: a row of the start and one of each arm."""
    import numpy as np
    from scipy.stats import spearmanr

    order = [train[i] for i in np.random.default_rng(seed).permutation(len(train))[:pool]]
    first, others = order[: args.labelled], order[args.labelled :]

    def trained(arm: str, labelled: Sequence[str]) -> Path:
        return _train(args, roles, sorted(order), arm, seed, labelled)

    start = trained(START, first)
    found = _looked_at(args, start, order)
    doubt = {patient: found[patient]["disagreement"] for patient in others}
    features = {patient: found[patient]["features"] for patient in order}
    chosen = {
        "disagreement": sorted(others, key=lambda patient: -doubt[patient])[: args.more],
        "coverage": _covering(features, first, args.more),
        "mixture": _covering(features, first, args.more, doubt),
        "random": others[: args.more],
    }
    folders = {START: start} | {arm: trained(arm, first + chosen[arm]) for arm in ARMS}
    tail = class_groups((start / MODEL).with_suffix(".json"))[-1]
    rows = [
        {"seed": seed, "arm": arm, "labelled": first + chosen.get(arm, []), **_dice(folder, args.test, tail)}
        for arm, folder in folders.items()
    ]
    pairs = [(found[patient]["disagreement"], found[patient]["error"]) for patient in others]
    rows[0]["rank_correlation"] = float(spearmanr(pairs).statistic)
    return rows


def _covering(
    features: Mapping[str, Sequence[float]],
    labelled: Sequence[str],
    count: int,
    weights: Mapping[str, float] | None = None,
) -> list[str]:
    """The patients that `coverage.next_by_gain` asks for, one after the other."""
    from tools.segment.coverage import next_by_gain

    chosen: list[str] = []
    for _ in range(count):
        chosen.append(next_by_gain(features, [*labelled, *chosen], weights)[0])
    return chosen


def _train(
    args: argparse.Namespace,
    roles: Mapping[str, Sequence[str]],
    patients: Sequence[str],
    arm: str,
    seed: int,
    labelled: Sequence[str],
) -> Path:
    """Train with these labels, unless that is done, and return the folder of the run."""
    output = (args.output / f"seed{seed}" / arm).resolve()
    split = {"source": f"simulate, {arm}", "train": list(patients), "labelled": {str(PERCENT): list(labelled)}}
    split |= {role: roles[role] for role in ("validation", "test")}
    file = output / "split.json"
    if not file.is_file():
        write_json(file, split)
    elif read_json(file, "split") != split:
        raise UserError(f"{file}: expected the patients of earlier runs, found others; choose another --output")
    request = Request(
        bundle=find_bundle(args.bundle),
        data=args.dataset_dir.resolve(),
        output=output,
        methods=[METHOD],
        seeds=[seed],
        percent=PERCENT,
        preset=args.preset,
        steps=args.steps,
        overrides={**read_pairs(args.set, "--set"), "split_file": str(file)},
        test=args.test,
        scored=(VALIDATION, TEST),
    )
    runs = plan(request).runs
    folder = runs[0].folder
    if not is_finished(read_state(folder), args.test):
        print(f"seed {seed}, {arm}: training with {len(labelled)} labelled patients", flush=True)
        run_here(runs, args.test, 1, lambda _: None)
    if not is_finished(state := read_state(folder), args.test):
        found = state.get("error") or state.get("state")
        raise UserError(f"{folder}: expected a training that succeeds, found: {found}; see {folder / LOG}")
    return folder


def _looked_at(args: argparse.Namespace, start: Path, patients: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What this model says of each patient, means over its cases: disagreement, features, and error (1 - Dice)."""
    file = start / "looked_at.json"
    if not file.is_file():
        import nibabel as nib
        import numpy as np

        from tools.segment.disagreement import by_group, differences, overall
        from tools.segment.options import Options
        from tools.segment.segmenter import Segmenter

        segmenter = Segmenter(find_bundle(args.bundle), Options(model=start / MODEL))
        segmenter.collect_features()
        names = {c: str(c) for c in segmenter.groups}
        cases = read_datalist(args.dataset_dir / "datalist.json")["cases"]
        found = {}
        for patient in patients:
            scores, features = [], []
            for case in (case for case in cases if case["patient"] == patient):
                result = segmenter(args.dataset_dir / case["image"])
                label = np.asarray(nib.nifti1.load(args.dataset_dir / case["label"]).dataobj)
                errors = differences(result.labels, label, len(names))
                organs = by_group(result.disagreement or {}, segmenter.groups, names)
                scores.append((overall(organs), sum(errors.values()) / max(1, len(errors))))
                assert result.features is not None  # torch runs the network here
                features.append(result.features)
            disagreement, error = np.mean(scores, axis=0).tolist()
            mean = np.stack(features).mean(0).tolist()
            found[patient] = {"disagreement": disagreement, "error": error, "features": mean}
        write_json(file, found)
    return read_json(file, "what a model says of the patients")


def _dice(folder: Path, test: bool, tail: Sequence[int]) -> dict[str, float]:
    """Mean over the classes, and over those of the tail."""
    with (folder / ("test" if test else "validation") / SCORES).open(newline="", encoding="utf-8") as file:
        dice = {row["class"]: float(row["dice"] or "nan") for row in csv.DictReader(file)}
    return {"dice": dice["average"], "tail_dice": sum(dice[str(c)] for c in tail) / len(tail)}


def _report(rows: Sequence[Mapping[str, Any]]) -> str:
    """A line per seed and arm, then mean and standard deviation over the seeds, and of the difference of the arms."""
    import numpy as np

    lines = [f"{'seed':>4}  {'arm':14}{'dice':>7}{'tail':>8}"]
    lines += [f"{row['seed']:>4}  {row['arm']:14}{row['dice']:>7.3f}{row['tail_dice']:>8.3f}" for row in rows]
    table = {
        arm: np.array([[row["dice"], row["tail_dice"]] for row in rows if row["arm"] == arm]) for arm in (START, *ARMS)
    }
    table |= {f"{arm} - random": table[arm] - table["random"] for arm in ARMS if arm != "random"}
    for arm, values in table.items():
        means, spreads = values.mean(0), values.std(0, ddof=1) if len(values) > 1 else values.mean(0) * np.nan
        pairs = ", ".join(f"{n} {m:.3f} ± {s:.3f}" for n, m, s in zip(("dice", "tail"), means, spreads, strict=True))
        lines.append(f"mean  {arm:22}{pairs}")
    found = [row["rank_correlation"] for row in rows if "rank_correlation" in row]
    lines.append(f"rank correlation of disagreement and error, mean over the seeds: {np.mean(found):.2f}")
    return "\n".join(lines)


if __name__ == "__main__":
    from tools.__main__ import run_command

    what = "whether labelling studies of some choice beats labelling any"
    sys.exit(run_command("experiments.simulate", "python -m experiments.simulate", what, sys.argv[1:]))
