"""One class, two classes, and one or five groups, from training to an export: in slices and in volumes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from scripts.checkpoints import load_tensors
from scripts.group_names import GROUP_NAMES
from scripts.methods import create_predictor
from tests.bundle_commands import ACDC, EVALUATE, SYNAPSE, TINY_3D, TRAIN, places, read_table
from tests.bundle_runner import BundleRunner
from tools.segment.options import Options
from tools.segment.segmenter import Segmenter

TINY_2D = ["--image_size", "[32,32]", "--network_def::width", "4", "--percent", "50"]
SETTINGS_3D = [f"{key[2:]}={value.title()}" for key, value in zip(TINY_3D[::2], TINY_3D[1::2], strict=True)]
STEPS = ["--steps", "2", "--val_steps", "2"]
FIVE = [[6], [7, 1], [2, 3, 11, 8, 9], [10, 4, 5], [12, 13]]


@dataclass(frozen=True)
class Story:
    """A bundle, which of the phantom's classes make one of ours, and how these are divided into how many groups."""

    bundle: Path
    classes: Sequence[Sequence[int]]
    method_options: str
    groups: int


STORIES = {
    "2D, one class": Story(ACDC, [[1, 2, 3]], "{}", 1),
    "2D, two classes": Story(ACDC, [[1], [2, 3]], "{}", 2),
    "2D, three alike": Story(ACDC, [[1], [2], [3]], "{'grouping': 'gaps'}", 1),
    "3D, one class": Story(SYNAPSE, [[6]], "{}", 1),
    "3D, two far apart": Story(SYNAPSE, [[12], [6]], "{'grouping': 'gaps'}", 2),
    "3D, five groups": Story(
        SYNAPSE, [[c] for c in range(1, 14)], f"{{'grouping': 'manual', 'manual_groups': {FIVE}}}", 5
    ),
}


def relabelled(source: Path, folder: Path, classes: Sequence[Sequence[int]]) -> dict[str, str]:
    """Write a phantom's data set with other classes to a folder, its images linked; the names of the classes.

    A single class is not in the first labelled case.
    """
    content = json.loads((source / "datalist.json").read_text())
    table = np.zeros(256, np.uint8)
    for number, old in enumerate(classes, 1):
        table[list(old)] = number
    (folder / "labels").mkdir(parents=True)
    (folder / "images").symlink_to(source / "images")
    (folder / "split.json").symlink_to(source / "split.json")
    for number, case in enumerate(case for case in content["cases"] if "label" in case):
        label = nib.nifti1.load(source / case["label"])
        values = table[np.asarray(label.dataobj).astype(np.uint8)] * (len(classes) > 1 or number > 0)
        nib.save(nib.nifti1.Nifti1Image(values, label.affine), folder / case["label"])
        case["voxels"] = {str(c): int((values == c).sum()) for c in range(1, len(classes) + 1)}
    names = {str(c): f"class {c}" for c in range(1, len(classes) + 1)}
    content["labels"] = {"0": "background"} | names
    (folder / "datalist.json").write_text(json.dumps(content))
    return names


def adapted(bundle: Path, folder: Path, names: Mapping[str, str]) -> Path:
    """The bundle with other classes."""
    (folder / "configs").mkdir(parents=True)
    for file in (bundle / "configs").iterdir():
        (folder / "configs" / file.name).write_bytes(file.read_bytes())
    (folder / "scripts").symlink_to((bundle / "scripts").resolve())
    data_set = folder / "configs" / "data_set.json"
    data_set.write_text(json.dumps(json.loads(data_set.read_text()) | {"labels": names}))
    return folder


@pytest.mark.parametrize("name", STORIES)
def test_any_number_of_classes_and_groups_trains_scores_segments_and_exports(
    name: str, runner: BundleRunner, heart_phantom: Path, abdomen_phantom: Path, tmp_path: Path
) -> None:
    story = STORIES[name]
    flat = story.bundle == ACDC
    data = tmp_path / "data"
    names = relabelled(heart_phantom if flat else abdomen_phantom, data, story.classes)
    bundle = adapted(story.bundle, tmp_path / "bundle", names)
    options = [*places(data, tmp_path / "run"), *(TINY_2D if flat else [*TINY_3D, "--percent", "10"])]
    runner.run([*TRAIN, *options, *STEPS, "--method_options", story.method_options], bundle).check()
    about = json.loads((tmp_path / "run" / "models" / "model.json").read_text())
    found = about["found"]["grouping"]
    assert found["names"] == list(GROUP_NAMES[story.groups])
    owner = {c: expert for expert, group in enumerate(found["groups"]) for c in group}
    weights = load_tensors(tmp_path / "run" / "models" / "model.pt")
    assert {key.split(".")[1] for key in weights if key.startswith("experts.")} == set(map(str, range(story.groups)))
    assert weights["owner"].tolist() == [owner[c] for c in sorted(owner)]

    runner.run([*EVALUATE, *options, "--output_dir", str(tmp_path / "scores")], bundle).check()
    scored = {row["name"] for file in (tmp_path / "scores").glob("scores_*.csv") for row in read_table(file)}
    assert scored == set(names.values())

    image = next((data / "images").glob("*.nii.gz"))
    settings = ["image_size=[32,32]", "width=4"] if flat else [*SETTINGS_3D]
    segmenter = Segmenter(bundle, Options(model=tmp_path / "run" / "models", settings=[*settings, "prediction=mean"]))
    assert segmenter.groups == {c: g for g, of in zip(found["names"], found["groups"], strict=True) for c in of}
    result = segmenter(image)
    assert result.labels.shape == nib.nifti1.load(image).shape
    assert result.disagreement is not None

    if story.groups == 2:  # MONAI's export takes seconds
        return
    exported = ["--filepath", str(tmp_path / "model.ts"), "--ckpt_file", str(tmp_path / "run" / "models" / "model.pt")]
    config = ["--meta_file", "configs/metadata.json", "--config_file", "configs/inference.json", "--width", "4"]
    runner.run(["ckpt_export", "network_def", *exported, *config], bundle).check()
    script = torch.jit.load(tmp_path / "model.ts")
    patch = torch.rand(1, 1, *[32] * (2 if flat else 3))
    common = {"style": "unet" if flat else "vnet", "spatial_dims": 2 if flat else 3, "in_channels": 1, "width": 4}
    network = create_predictor("dca", num_classes=len(names), **common)
    network.load_state_dict(weights)
    with torch.no_grad():
        torch.testing.assert_close(script(patch), network.eval()(patch), atol=1e-4, rtol=1e-4)
