"""What a person reads of a new bundle: its plan and its model card."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .fingerprint import Fingerprint
from .planning import Decision, Plan
from .writing import LIKE, Content

PLAN = """# Plan of {name}

{cases} images, {labelled} of them with labels. The median image has {shape} voxels of {spacing} mm, along the
patient's right, front and head.

| what | decision | why | what changes it |
|---|---|---|---|
{decisions}

What changes a decision goes behind `python -m monai.bundle run training ...`; what begins with `new` is an argument of
`python -m tools new`.

| class | in labelled images | median voxels | median ml | share of the foreground |
|---|---|---|---|---|
{sizes}
"""

CARD = """# {name}

Segments {classes} in {modality} ({kind}), trained with DCA on a few labelled and many unlabelled images.
**For research; not a medical device, not for diagnosis.**

| | |
|---|---|
| input | {input} |
| output | label map on the image's own grid: 0 background, {named} |
| training data | {cases} images, {labelled} of them with labels |
| weights | none included |

How it was planned, with the reason of every setting: [plan.md](../plan.md).

## Train

In this folder:

```
python -m monai.bundle run training --config_file configs/train.json
```

`python -m tools compare --bundle {name}` trains other methods alike. Evaluation, inference and all settings are as in
the built-in bundle {like}.

## Limits

- Its scores are those of {validation} validation patients of the same source. They say nothing about other scanners.
"""


def write_pages(folder: Path, content: Content, found: Fingerprint, planned: Plan, more: Sequence[Decision]) -> None:
    """Write plan.md, the model card and the licence of the data."""
    decisions = (*planned.decisions, *more)
    (folder / "plan.md").write_text(PLAN.format(
        name=content.name, cases=found.cases, labelled=found.labelled, shape=_x(found.shape), spacing=_x(found.spacing),
        decisions="\n".join(f"| {one.what} | {one.value} | {one.why} | `{one.override}` |" for one in decisions),
        sizes="\n".join(
            f"| {number} {content.classes[number]} | {one.cases} of {found.labelled} | {one.voxels:.0f} "
            f"| {one.millilitres:.3g} | {one.share:.2%} |"
            for number, one in found.classes.items()
        ),
    ), encoding="utf-8")  # fmt: skip
    (folder / "docs").mkdir(exist_ok=True)
    (folder / "docs" / "README.md").write_text(_card(content, found, planned), encoding="utf-8")
    licence = (
        "No image, label or weight is part of this bundle. Whose data they are, and under which terms: fill in here.\n"
    )
    (folder / "docs" / "data_license.txt").write_text(licence, encoding="utf-8")


def _card(content: Content, found: Fingerprint, planned: Plan) -> str:
    classes = ", ".join(content.classes.values())
    return CARD.format(
        name=content.name,
        classes=classes,
        modality=content.modality,
        kind="slices" if planned.dims == 2 else "volumes",
        input=", ".join(content.channels) if content.channels[1:] else f"one image of {content.modality}",
        named=", ".join(f"{number} {name}" for number, name in content.classes.items()),
        cases=found.cases,
        labelled=found.labelled,
        like=LIKE[planned.dims],
        validation=len(content.split["validation"]),
    )


def _x(values: Sequence[float]) -> str:
    return " x ".join(f"{value:.4g}" for value in values)
