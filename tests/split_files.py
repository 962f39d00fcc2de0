"""A datalist and a split to change: 20 training patients, two for validation, one for test; no image exists."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from scripts.data.datalists import load_split

PATIENTS = [f"p{number:02d}" for number in range(1, 21)]
PUBLISHED = ["p07", "p03"]


def case(patient: str) -> dict[str, Any]:
    return {
        "id": f"{patient}_ED",
        "patient": patient,
        "image": f"images/{patient}.nii",
        "label": f"labels/{patient}.nii",
    }


def write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def edit(path: Path, **changes: Any) -> None:
    write(path, json.loads(path.read_text(encoding="utf-8")) | changes)


def split_at(folder: Path, percent: float) -> dict[str, list[dict[str, Any]]]:
    return load_split(folder / "datalist.json", folder / "split.json", percent)
