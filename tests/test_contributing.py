"""The method that CONTRIBUTING.md shows is a method: one file and one line of registration."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bundle_runner import ROOT

LINE = '    "mean_teacher_cp": MeanTeacherCopyPaste,\n'
# What holds for every method and shows most of one; all of them at once take a while.
FILES = [f"tests/scripts/methods/test_{name}.py" for name in ("every_method", "learning")]
HOLDS = "3d or without_unlabelled or say_in_the_end or resumes or device or padding or learns"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the code and the tests with the method of the page."""
    for folder in ("bundles", "tests", "tools"):
        ignored = shutil.ignore_patterns("__pycache__", "runs", "models", "predictions")
        shutil.copytree(ROOT / folder, tmp_path / folder, symlinks=True, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert code
    methods = tmp_path / "bundles" / "scripts" / "methods"
    (methods / "cutmix_teacher.py").write_text(code[1], encoding="utf-8")
    registry = (methods / "__init__.py").read_text(encoding="utf-8")
    assert LINE in registry
    registry = registry.replace(LINE, f'{LINE}    "cutmix_teacher": CutMixTeacher,\n')
    registry = registry.replace("from .dca import", "from .cutmix_teacher import CutMixTeacher\nfrom .dca import")
    (methods / "__init__.py").write_text(registry, encoding="utf-8")
    return tmp_path


def test_the_method_of_the_page_passes_what_holds_for_every_method(checkout: Path) -> None:
    words = ["-p", "no:cacheprovider", "-q", "-k", f"cutmix_teacher and ({HOLDS})", *FILES]
    done = subprocess.run([sys.executable, "-m", "pytest", *words], cwd=checkout, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed
    assert int(passed[1]) == 9


def test_the_method_of_the_page_is_known_to_the_command_lines(checkout: Path, heart_phantom: Path) -> None:
    words = ["--dataset_dir", heart_phantom, "--split_file", heart_phantom / "split.json", "--percent", "50"]
    check = [sys.executable, "-m", "tools", "check", "bundles/dca_acdc/configs/train.json", *map(str, words)]
    done = subprocess.run([*check, "--method", "cutmix_teacher"], cwd=checkout, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "method cutmix_teacher" in done.stdout
