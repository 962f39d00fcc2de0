"""Applications find in each bundle what MONAI says a bundle has: the properties of its workflows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests import properties_app
from tests.bundle_commands import ACDC, AMOS, SYNAPSE
from tests.bundle_runner import BundleRunner

TINY_3D: dict[str, Any] = {"spacing": [8, 8, 8], "patch_size": [16, 16, 16], "width": 4}
TINY = {ACDC: {"image_size": [32, 32], "width": 4}, SYNAPSE: TINY_3D, AMOS: TINY_3D}


@pytest.mark.parametrize("bundle", TINY, ids=lambda bundle: bundle.name)
def test_no_property_is_missing_and_each_has_its_own_id(
    runner: BundleRunner, heart_phantom: Path, abdomen_phantom: Path, bundle: Path, tmp_path: Path
) -> None:
    data = heart_phantom if bundle == ACDC else abdomen_phantom
    tiny = TINY[bundle] | {"ckpt_dir": str(tmp_path / "models")}
    train = tiny | {"dataset_dir": str(data), "split_file": str(data / "split.json"), "percent": 50}
    overrides = {"train": train | {"run_dir": str(tmp_path)}, "inference": tiny | {"dataset_dir": str(data / "images")}}
    answer = tmp_path / "missing.json"
    runner.run_file(Path(properties_app.__file__), [str(answer), json.dumps(overrides)], bundle).check()
    assert json.loads(answer.read_text()) == {"train": [], "evaluate": [], "inference": []}
