"""Fixtures that several test modules share. What they make is made once per session; a test must not write into it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# Before torch is imported, here and in processes that tests start: tensors are small, the sums are then the same
# on any number of cores, and two threads that wait for each other are slow on a machine that has other work.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from tests.bundle_runner import ROOT, BundleRunner
from tests.properties import profiles
from tools.phantom.command import make_phantom

if TYPE_CHECKING:
    from tests.packages import Package

profiles.use()


@pytest.fixture(scope="session")
def heart_phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a small cine heart data set: 4 training patients (2 labelled), 2 validation, 2 test; 64 x 64 x 6."""
    folder = tmp_path_factory.mktemp("phantoms") / "heart"
    make_phantom("heart", folder, cases=4, labelled=2, validation=2, test=2, size=(64, 64, 6), percent=50)
    return folder


@pytest.fixture(scope="session")
def abdomen_phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a small abdominal CT data set: 3 training patients (2 labelled), 1 validation, 1 test; 64 x 64 x 48."""
    folder = tmp_path_factory.mktemp("phantoms") / "abdomen"
    make_phantom("abdomen", folder, cases=3, labelled=2, validation=1, test=1, size=(64, 64, 48))
    return folder


@pytest.fixture(scope="session")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BundleRunner]:
    """Runs bundles without the seconds that each start would take."""
    runner = BundleRunner(tmp_path_factory.mktemp("output"))
    yield runner
    runner.close()


@pytest.fixture(scope="session")
def synapse_run(
    runner: BundleRunner, abdomen_phantom: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    """Folder and log of a tiny training of `dca_synapse` on the abdomen phantom."""
    from tests import bundle_commands as commands  # here, since it imports MONAI

    folder = tmp_path_factory.mktemp("synapse")
    options = [*commands.places(abdomen_phantom, folder), *commands.TINY_3D, *commands.STEPS_3D]
    return folder, runner.run([*commands.TRAIN, *options], commands.SYNAPSE).check().out


@pytest.fixture(scope="session")
def packages(
    runner: BundleRunner,
    heart_phantom: Path,
    abdomen_phantom: Path,
    synapse_run: tuple[Path, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Package]:
    """Packages of all bundles, by name."""
    from tests.packages import make_packages  # here, since it imports MONAI

    return make_packages(runner, heart_phantom, abdomen_phantom, synapse_run[0], tmp_path_factory.mktemp("packages"))


@pytest.fixture(scope="session")
def project_files() -> list[Path]:
    """What is, or is about to be, in the history: everything that git does not ignore."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip(f"needs a git checkout to know which files are the project's: {listed.stderr.strip()}")
    return sorted({path for entry in listed.stdout.split("\0") if entry and (path := ROOT / entry).is_file()})
