"""The verbs that write, each with a small job, and what there is to say about what they leave behind."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import os
import re
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest

from scripts.checkpoints import load_tensors
from tests.bundle_commands import ACDC, TRAIN, places
from tests.bundle_runner import ROOT, BundleRunner, Result
from tests.packages import TINY_2D
from tests.tools.acdc_download import add_patient
from tests.tools.trainings import leave_run

KILLS = int(os.environ.get("FAULTS_KILLS", "30"))
SEED = int(os.environ.get("FAULTS_SEED", "0"))
VERBS = ["prepare", "phantom", "doctor", "seeds", "table", "package", "segment", "training", "compare", "deploy"]
VERBS += ["demo", "label"]
# Between whole files, only what a killed process could not take away may lie: under a name that says so.
UNFINISHED = re.compile(r"\.partial(/|$)")
# What is another one each time: times, durations, the ids of new DICOM objects.
VARIES = re.compile(r"(log\.txt|state\.json|curves\.csv|resume\.pt|\.lock|\.dcm|events\..*)$|tensorboard/")


@dataclass
class Job:
    """A verb's command, but for the folder that it writes to.

    Args:
        words: its arguments; OUTPUT stands for the folder.
        module: what they are arguments of.
        cwd: where it starts.
        again: what the command has besides after it was cut off.
    """

    words: Sequence[str]
    module: str = "tools"
    cwd: Path = ROOT
    again: Sequence[str] = ()

    def command(self, output: Path, again: bool = False) -> list[str]:
        """The arguments that write to this folder."""
        return [word.replace("OUTPUT", str(output)) for word in [*self.words, *(self.again if again else ())]]


class Jobs:
    """Runs the jobs.

    Args:
        runner: starts them.
        jobs: by name.
    """

    def __init__(self, runner: BundleRunner, jobs: dict[str, Job]) -> None:
        self.runner, self.jobs = runner, jobs
        self._unbroken: dict[str, tuple[Path, float]] = {}

    def unbroken(self, name: str, folder: Path) -> tuple[Path, float]:
        """What a job makes when nothing goes wrong (made in `folder` the first time), and the seconds it takes."""
        if name not in self._unbroken:
            start = time.monotonic()
            self.run(name, folder / "unbroken").check()
            self._unbroken[name] = folder / "unbroken", time.monotonic() - start
        return self._unbroken[name]

    def run(self, name: str, output: Path, again: bool = False, **how: object) -> Result:
        """Run a job to its end; `how` is for the runner."""
        job = self.jobs[name]
        self.runner.start(job.command(output, again), job.cwd, module=job.module, **how)
        return self.runner.finish()


def files(folder: Path) -> dict[str, Path]:
    """What lies in a folder, but for what is marked as unfinished."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path for name, path in sorted(found.items()) if not UNFINISHED.search(name)}


def result(folder: Path) -> dict[str, str]:
    """The hash of every file that has to be the same each time, and the names of the others."""
    hashed = {}
    for name, path in files(folder).items():
        data = b"" if VARIES.search(name) else path.read_bytes().replace(str(folder).encode(), b"OUTPUT")
        content = hashlib.sha256(data).hexdigest()
        hashed[re.sub(r"events\..*", "events", name)] = content
    return hashed


def may_resume(output: Path) -> bool:
    """Whether a training has left something to go on with."""
    return any(name.endswith("resume.pt") for name in files(output))


def read_gzip(path: Path) -> None:
    with gzip.open(path) as file:
        while file.read(1 << 20):
            pass


def read_csv(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.endswith("\n")
    assert len({len(row) for row in csv.reader(text.splitlines())}) == 1


def read_zip(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None


def ends(end: str) -> Callable[[Path], None]:
    def check(path: Path) -> None:
        assert path.read_text(encoding="utf-8").rstrip().endswith(end)

    return check


READERS: dict[str, Callable[[Path], object]] = {
    ".json": lambda path: json.loads(path.read_text(encoding="utf-8")),
    ".gz": read_gzip,
    ".csv": read_csv,
    ".zip": read_zip,
    ".pt": load_tensors,
    ".dcm": lambda path: pydicom.dcmread(path).PixelData,
    ".html": ends("</html>"),
    ".md": ends(""),
}


def assert_whole(folder: Path) -> None:
    """Every file under a good name can be read to its end."""
    for name, path in files(folder).items():
        reader = READERS.get(path.suffix)
        try:
            _ = reader(path) if reader else None
        except Exception as error:
            raise AssertionError(f"{name} is not whole: {error!r}") from error


@pytest.fixture(scope="session")
def jobs(
    runner: BundleRunner,
    heart_phantom: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Jobs:
    """A job for each verb that writes; the network is tiny, and its training short."""
    folder = tmp_path_factory.mktemp("jobs")
    for number in range(1, 21):
        add_patient(folder / "acdc", f"patient{number:03d}")
    model = folder / "model"
    steps = ["--percent", "50", "--method", "supervised", "--steps", "4", "--val_steps", "2"]
    runner.run([*TRAIN, *places(heart_phantom, model), *TINY_2D, *steps], ACDC).check()
    for method in ("dca", "supervised"):
        for seed in range(3):
            leave_run(folder / "runs", method, seed)
    images = sorted((heart_phantom / "images").glob("*.nii.gz"))[-4:]
    (folder / "images").mkdir()
    for image in images:
        (folder / "images" / image.name).symlink_to(image)
    validations = [str(folder / "runs" / "dca" / f"seed{seed}" / "validation") for seed in range(3)]
    segment = ["segment", str(folder / "images"), "OUTPUT", "--bundle", "dca_acdc", "--model", str(model / "models")]
    small = ["image_size=[32,32]", "network_def::width=4", "val_steps=2", f"split_file={heart_phantom / 'split.json'}"]
    compare = ["compare", "--bundle", "dca_acdc", "--dataset_dir", str(heart_phantom), "--output", "OUTPUT"]
    compare += ["--methods", "supervised", "--percent", "50", "--steps", "6", "--set", *small]
    phantom = ["phantom", "--kind", "heart", "--cases", "4", "--validation", "2", "--test", "2"]
    phantom += ["--size", "48", "48", "4"]
    training = ["run", "training", "--config_file", "configs/train.json", *TINY_2D, *steps[:-4], "--steps", "8"]
    training += ["--val_steps", "2", *places(heart_phantom, Path("OUTPUT"))]
    server = folder / "environment" / "bin" / "python"  # what it would start is not written by `label`
    server.parent.mkdir(parents=True)
    server.write_text("#!/bin/sh\n")
    server.chmod(0o755)
    label = ["label", "--bundle", "dca_acdc", "--studies", str(folder / "images"), "--port", "0"]
    label += ["--environment", str(folder / "environment"), "--model", str(model / "models" / "model.pt")]
    return Jobs(
        runner,
        {
            "prepare": Job(["prepare", "acdc", "--source", str(folder / "acdc"), "--output", "OUTPUT"]),
            "phantom": Job([*phantom, "--dicom", "--output", "OUTPUT/made"]),
            "doctor": Job(["doctor", "--dataset", str(heart_phantom), "--output", "OUTPUT"]),
            "seeds": Job(["seeds", *validations, "--output", "OUTPUT/seeds.csv"]),
            "table": Job(["table", str(folder / "runs"), "--output", "OUTPUT/table.md"]),
            "package": Job(["package", "dca_acdc", "--models", str(model), "--output", "OUTPUT"]),
            "segment": Job(segment),
            "segment by two": Job([*segment, "--workers", "2"]),
            "training": Job(training, "monai.bundle", ACDC, ["--resume", "true"]),
            "compare": Job(compare),
            "deploy": Job(["deploy", "--bundle", "dca_acdc", "--models", str(model), "--output", "OUTPUT"]),
            "demo": Job(["demo", "--steps", "2", "--output", "OUTPUT/demo"]),
            "label": Job([*label, "--output", "OUTPUT/server"]),
        },
    )
