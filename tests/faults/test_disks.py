"""A full or read-only disk is told and leaves nothing half-written, and a clock that runs backwards changes nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.conftest import VERBS, Jobs, assert_whole, files, may_resume, result

pytestmark = pytest.mark.faults


class Disk:
    """A file system of its own in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def mount(self, options: str) -> None:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.folder)], check=True, capture_output=True
        )


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    found = Disk(tmp_path / "disk")
    found.folder.mkdir()
    try:
        found.mount("size=100m")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the right to mount a file system")
    try:
        yield found
    finally:
        subprocess.run(["umount", "--lazy", str(found.folder)], check=True)


def told(error: str) -> list[str]:
    """The lines of a user's error; a traceback is none."""
    assert "Traceback" not in error, error
    return [line for line in error.splitlines() if "expected" in line or "disk" in line]


@pytest.mark.parametrize("verb", VERBS)
def test_full_disk_is_told_in_a_line_and_the_next_try_succeeds(
    verb: str, jobs: Jobs, tmp_path: Path, disk: Disk
) -> None:
    unbroken, _ = jobs.unbroken(verb, tmp_path)
    expected = result(unbroken)
    size = sum(path.stat().st_size for path in files(unbroken).values())
    output = disk.folder / "output"
    output.mkdir()
    page = os.sysconf("SC_PAGE_SIZE")
    codes = []
    for share in (0.0, 0.6):
        room = int(size * share) // page
        filler = disk.folder / "filler"
        with filler.open("wb") as file:
            free = shutil.disk_usage(disk.folder).free
            file.write(bytes(max(0, free - room * page)))
        failed = jobs.run(verb, output, may_resume(output))
        filler.unlink()
        assert_whole(output)
        codes.append(failed.code)
        if failed.code == 0:
            continue  # there was room for it
        assert failed.code in (1, 2), failed.error
        assert any("no space left" in line for line in told(failed.error + failed.out)), failed.error + failed.out
    assert codes[0] != 0
    last = jobs.run(verb, output, may_resume(output))
    if not (verb == "phantom" and (output / "made").exists()):
        last.check()
    assert result(output) == expected


@pytest.mark.parametrize("verb", VERBS)
def test_read_only_disk_is_told_in_a_line(verb: str, jobs: Jobs, tmp_path: Path, disk: Disk) -> None:
    disk.mount("remount,ro")
    failed = jobs.run(verb, disk.folder)
    assert failed.code in (1, 2), failed.error
    assert any("read-only" in line for line in told(failed.error + failed.out)), failed.error + failed.out


@pytest.mark.parametrize("verb", VERBS)
def test_clock_that_runs_backwards_changes_nothing(verb: str, jobs: Jobs, tmp_path: Path) -> None:
    unbroken, _ = jobs.unbroken(verb, tmp_path)
    jobs.run(verb, tmp_path / "output", backwards=True).check()
    assert result(tmp_path / "output") == result(unbroken)
    for path in files(tmp_path / "output").values():
        os.utime(path, (4e9, 4e9))  # in the year 2096
    if verb not in ("phantom", "training"):  # which refuse to overwrite, and start anew
        jobs.run(verb, tmp_path / "output").check()
        assert result(tmp_path / "output") == result(unbroken)
