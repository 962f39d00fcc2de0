"""Start-up: what verbs that only look at files must not import, whatever they cost in seconds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.startup import JOBS, help_words, prepare
from tools.common.paths import ROOT

HEAVY = {"torch", "monai", "ignite", "scipy", "skimage", "matplotlib", "pydicom", "highdicom", "itk"}
# Ends as the verb does; its last line tells what has been imported.
SPY = """
import runpy
import sys
package = sys.argv.pop(1)
try:
    runpy.run_module(package, run_name="__main__")
finally:
    print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("startup")
    prepare(folder)
    return folder


def imported(words: list[str], package: str = "tools") -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", SPY, package, *words], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return set(done.stdout.splitlines()[-1].split())


def test_help_imports_nothing_but_the_standard_library(folder: Path) -> None:
    assert imported(help_words(folder)) - set(sys.stdlib_module_names) <= {"tools", "scripts", "__main__"} | startup()


def startup() -> set[str]:
    """What this Python imports for itself, such as the hooks of installed packages."""
    code = "import sys; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    return set(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split())


def test_bench_has_help_without_heavy_imports() -> None:
    assert not imported(["--help"], "benchmarks") & (HEAVY | {"numpy"})


def test_jobs_run_the_verbs_from_the_checkout(folder: Path) -> None:
    printed = [job.variants[-1].make(folder)() for job in JOBS]
    assert "usage: python -m tools" in printed[0]
