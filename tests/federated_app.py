"""Two sites learn together, as a federated system would have them: `python federated_app.py JOB` in any folder.

JOB is a JSON file: {"bundle": folder, "sites": [overrides of each], "rounds": n, "output": folder}. Writes the weights
that each round averages as average_ROUND.pt, and what the sites say of them as report.json.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems, ModelType
from monai.fl.utils.exchange_object import ExchangeObject

Weights = dict[str, torch.Tensor]


def average(sites: list[Weights]) -> Weights:
    """The mean of the numbers; what is counted, or says which class is whose, is the first site's."""
    means = {key: torch.stack([site[key].double() for site in sites]).mean(0).to(v) for key, v in sites[0].items()}
    return {key: means[key] if value.is_floating_point() else value for key, value in sites[0].items()}


def main(job: dict[str, Any]) -> None:
    """Train and evaluate in rounds, and report."""
    output = Path(job["output"])
    sites = []
    for number, overrides in enumerate(job["sites"]):
        best = str(Path(overrides["ckpt_dir"]) / "model.pt")
        kwargs = {"train_kwargs": dict(overrides), "eval_kwargs": dict(overrides), "best_model_filepath": best}
        sites.append(MonaiAlgo(job["bundle"], send_weight_diff=False, **kwargs))
        sites[-1].initialize({ExtraItems.CLIENT_NAME: f"site {number}"})
    report: list[dict[str, Any]] = []
    weights = {key: value.clone() for key, value in sites[0].trainer.network.state_dict().items()}
    for number in range(1, job["rounds"] + 1):
        found: dict[str, Any] = {"rates": [], "moved": [], "best": []}
        trained = []
        for site in sites:
            found["rates"].append(site.trainer.optimizer.param_groups[0]["lr"])
            site.train(ExchangeObject(weights=weights))
            trained.append({key: value.clone() for key, value in site.get_weights().weights.items()})
            moved = [(trained[-1][key] - value).norm() for key, value in weights.items() if key.endswith("weight")]
            found["moved"].append(float(torch.stack(moved).norm()))
            best = site.get_weights({ExtraItems.MODEL_TYPE: ModelType.BEST_MODEL}).weights
            found["best"].append(sorted(best) == sorted(weights))
        weights = average(trained)
        torch.save(weights, output / f"average_{number}.pt")
        found["metrics"] = [dict(site.evaluate(ExchangeObject(weights=weights)).metrics) for site in sites]
        report.append(found)
    for site in sites:
        site.finalize()
    (output / "report.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
