"""Packages of all three bundles with tiny models, for the tests of packaging and of what applications read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests import label_app
from tests.bundle_commands import ACDC, AMOS, SYNAPSE, TINY_3D, TRAIN, places
from tests.bundle_runner import BundleRunner, Result
from tools.__main__ import main

TINY_2D = ["--image_size", "[32,32]", "--width", "4", "--amp", "false"]


@dataclass
class Package:
    """A bundle as it is after a download, with what it takes to try it."""

    source: Path  # in the checkout
    models: Path  # what was packaged
    options: list[str]  # that the checkout needs to use these models
    dist: Path  # where the package was written
    folder: Path  # where MONAI extracted it
    image: Path
    cases: list[dict[str, str]]

    @property
    def name(self) -> str:
        return self.source.name


def make_packages(
    runner: BundleRunner, heart: Path, abdomen: Path, synapse_run: Path, folder: Path
) -> dict[str, Package]:
    """Train a bit, package, and have MONAI's own command extract each into an unrelated folder.

    dca_acdc and dca_amos are trained with another method than their configs' default, all in other sizes.
    """
    packages = {}
    for source, data, options in ((ACDC, heart, TINY_2D), (SYNAPSE, abdomen, TINY_3D), (AMOS, abdomen, TINY_3D)):
        run = synapse_run if source == SYNAPSE else folder / f"run_{source.name}"
        if source != SYNAPSE:
            steps = "120" if source == ACDC else "40"  # enough to tell something from the background
            trained = ["--percent", "50", "--lr", "0.1", "--steps", steps, "--val_steps", steps]
            options = [*options, "--method", "supervised"]
            runner.run([*TRAIN, *places(data, run), *options, *trained], source).check()
        dist, extracted = folder / "dist", folder / "downloaded"
        assert main(["package", source.name, "--models", str(run), "--output", str(dist)]) == 0
        archive = (dist / f"{source.name}_v0.1.0.zip").as_uri()
        download = ["download", "--name", source.name, "--url", archive, "--bundle_dir", str(extracted)]
        runner.run([*download, "--progress", "False"], folder).check()
        listed = json.loads((data / "datalist.json").read_text())["cases"]
        cases = [{key: str(data / case[key]) for key in ("image", "label")} for case in listed if "label" in case]
        image = Path(cases[-1]["image"])
        made = Package(source, run / "models", options, dist, extracted / source.name, image, cases)
        packages[source.name] = made
    return packages


def run_label_app(runner: BundleRunner, jobs: list[dict[str, Any]], folder: Path) -> Result:
    """Run the jobs of `label_app` in one process, in an empty folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "jobs.json").write_text(json.dumps(jobs))
    return runner.run_file(Path(label_app.__file__), [str(folder / "jobs.json")], folder).check()


def read_array(path: Path) -> np.ndarray:
    """A label map that `label_app` wrote."""
    return np.load(path, allow_pickle=False)
