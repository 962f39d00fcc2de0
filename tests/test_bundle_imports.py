"""A bundle trains and scores in an environment that has what bundles may count on, and nothing for DICOM."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.bundle_commands import ACDC, EVALUATE, TRAIN, places, shell
from tests.bundle_runner import ROOT

ABSENT = ("itk", "pydicom", "highdicom", "SimpleITK", "openvino", "submitit")
# Arguments: folder of the bundles; then the words of the runner's calls, one call after the other.
PROGRAM = f"""
import importlib, pathlib, runpy, sys
for name in {ABSENT}:
    sys.modules[name] = None  # importing it fails from now on
bundles, *words = sys.argv[1:]
sys.path.insert(0, bundles)
for file in sorted(pathlib.Path(bundles, 'scripts').rglob('*.py')):
    importlib.import_module('.'.join(file.relative_to(bundles).with_suffix('').parts).removesuffix('.__init__'))
while words:
    end = words.index('then') if 'then' in words else len(words)
    sys.argv, words = ['monai.bundle', *words[:end]], words[end + 1:]
    runpy.run_module('monai.bundle', run_name='__main__', alter_sys=True)
"""


def test_training_and_scoring_need_nothing_for_dicom(heart_phantom: Path, tmp_path: Path) -> None:
    tiny = [
        "--percent",
        "50",
        "--steps",
        "2",
        "--val_steps",
        "2",
        "--image_size",
        "[32,32]",
        "--network_def::width",
        "4",
    ]
    options = [*places(heart_phantom, tmp_path), *tiny]
    calls = [*TRAIN, *options, "then", *EVALUATE, *options]
    shell(sys.executable, "-c", PROGRAM, str(ROOT / "bundles"), *calls, cwd=ACDC).check()
    assert (tmp_path / "models" / "model.pt").is_file()
    assert list((tmp_path / "validation").glob("summary_*.csv"))
