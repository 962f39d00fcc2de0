"""What an application asks of a bundle first: `python properties_app.py ANSWER OVERRIDES` in the bundle's folder.

OVERRIDES is JSON by config ("train", "inference"). Writes what MONAI's `check_properties` finds missing, by workflow.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigWorkflow

# Evaluation changes train.json, so MONAI takes it for a training, too.
WORKFLOWS = {
    "train": (["train"], "train"),
    "evaluate": (["train", "evaluate"], "train"),
    "inference": (["inference"], "infer"),
}


def main(answer: Path, overrides: dict[str, dict[str, Any]]) -> None:
    """Check one workflow after the other; the first makes the weights that the others load."""
    missing = {}
    for name, (configs, kind) in WORKFLOWS.items():
        workflow = ConfigWorkflow(
            config_file=[f"configs/{config}.json" for config in configs],
            meta_file="configs/metadata.json",
            workflow_type=kind,
            **overrides[configs[0]],
        )
        workflow.initialize()
        missing[name] = workflow.check_properties()
        if name == "train":
            models = Path(overrides["train"]["ckpt_dir"])
            models.mkdir(parents=True)
            torch.save(workflow.network_def.state_dict(), models / "model.pt")
    answer.write_text(json.dumps(missing))


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
