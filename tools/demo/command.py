"""`python -m tools demo`: train, evaluate and infer a bundle on the embedded phantom, through MONAI's own runner."""

from __future__ import annotations

import argparse
import csv
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from scripts.data.datalists import patients_by_role, read_datalist
from scripts.errors import UserError
from scripts.files import read_json

from ..common.bundles import expect_bundle
from ..common.paths import BUNDLES, ROOT

MARK = "DEMO.txt"  # a folder without it is not the demo's to replace


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("--bundle", default="dca_acdc", help="bundle to show (default: %(default)s)")
    parser.add_argument("--output", type=Path, help="folder of data and results (default: runs/demo_BUNDLE)")
    parser.add_argument("--steps", type=int, help="train for so many steps only, to see that everything runs")


def run(args: argparse.Namespace) -> int:
    """Make the phantom, run the bundle on it, print the scores and where the files are."""
    from ..phantom.command import make_phantom
    from .pictures import draw_cases

    bundle = BUNDLES / args.bundle
    settings = _settings(bundle)
    output = (args.output or ROOT / "runs" / f"demo_{args.bundle}").resolve()
    if output.exists() and any(output.iterdir()):
        if not (output / MARK).exists():
            raise UserError(f"{output}: expected a new folder or an earlier demo's, found other files; choose another")
        _empty(output)
    output.mkdir(parents=True, exist_ok=True)
    (output / MARK).write_text("made by `python -m tools demo`, which replaces this folder\n", encoding="utf-8")
    started = time.monotonic()
    data, scores, predictions = output / "data", output / "scores", output / "predictions"
    content = make_phantom(output=data, **settings["phantom"])
    labelled = settings["phantom"]["labelled"]
    _say(f"1/4 phantom: {len(content['cases'])} volumes, {labelled} training patients labelled, in {_short(data)}")

    shared = {"bundle_root": bundle, "preset": "demo", "ckpt_dir": output / "models"}
    short = {} if args.steps is None else {"steps": args.steps, "val_steps": args.steps}
    training = shared | short | {"dataset_dir": data, "split_file": data / "split.json", "run_dir": output}
    train, evaluate, infer = (bundle / "configs" / f"{name}.json" for name in ("train", "evaluate", "inference"))
    _say("2/4 training (a line per validation)")
    _monai("training", [train], training)
    _say("3/4 evaluation on the phantom's test patients")
    _monai("evaluating", [train, evaluate], training | {"evaluate_on": "test", "output_dir": scores})
    _say("4/4 inference on the same images")
    images = output / "images"
    _link_test_images(data, images)
    _monai("inference", [infer], shared | {"dataset_dir": images, "output_dir": predictions})
    pictures = draw_cases(data, predictions, output / "pictures")

    _say(f"done in {time.monotonic() - started:.0f} s")
    print(_dice_table(scores / "summary_native_mm.csv"))
    for what, path in (
        ("curves of the training", output / "curves.csv"),
        ("scores per case and class", scores / "scores_native_mm.csv"),
        ("weights", output / "models" / "model.pt"),
        ("segmentations", predictions),
        ("pictures", pictures[0].parent),
    ):
        print(f"  {what:26} {_short(path)}")
    return 0


def _empty(output: Path) -> None:
    """Remove all but the mark, without which a demo that is killed here would not know its own folder again."""
    for path in output.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != MARK:
            path.unlink()


def _settings(bundle: Path) -> dict[str, Any]:
    folder = expect_bundle(BUNDLES, bundle.name, "demo.json")
    return read_json(folder / "configs" / "demo.json", "settings of the demo")


def _monai(run_id: str, configs: list[Path], overrides: dict[str, Any]) -> None:
    """One call of MONAI's bundle runner in a process of its own, as a user would make it; its output passes through.

    Raises:
        UserError: the runner failed; what it printed says why.
    """
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", run_id]
    command += ["--config_file", str([str(c) for c in configs]) if len(configs) > 1 else str(configs[0])]
    for key, value in overrides.items():
        command += [f"--{key}", str(value)]
    if subprocess.run(command, cwd=ROOT, check=False).returncode != 0:
        raise UserError(f"demo: expected `{run_id}` to succeed, found the failure above; command: {' '.join(command)}")


def _link_test_images(data: Path, images: Path) -> None:
    """A folder of only the test images, as a user has it who wants segmentations."""
    test = set(patients_by_role(data / "split.json", 100)["test"])
    cases = read_datalist(data / "datalist.json")["cases"]
    images.mkdir()
    for case in cases:
        if case["patient"] in test:
            source = data / case["image"]
            shutil.copy2(source, images / source.name)


def _dice_table(path: Path) -> str:
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    lines = ["  Dice per class on the test patients"]
    lines += [f"    {row['name'] or row['class']:24} {float(row['dice']):.3f}" for row in rows]
    return "\n".join(lines)


def _short(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _say(text: str) -> None:
    print(f"== {text}", flush=True)
