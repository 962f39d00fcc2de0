"""Data sets of ramps: files on disk, as `prepare` finds them, and the lists that it makes of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from tests.properties.scans import Ramp, Storage, class_of, grids, hounsfield, images, labels, seeds
from tools.common.case_files import CaseFiles, build_cases, datalist
from tools.common.findings import Findings


@dataclass(frozen=True)
class Case:
    """A ramp, and how its image and label are written."""

    ramp: Ramp
    image: Storage
    label: Storage

    def save(self, folder: Path, name: str, classes: int, labelled: bool = True) -> CaseFiles:
        """Write the files."""
        grid, values = self.ramp.grid, self.ramp.at(self.ramp.grid.world())
        image = self.image.save(folder / f"{name}_image", hounsfield(values), grid.affine)
        label = self.label.save(folder / f"{name}_label", class_of(values, classes), grid.affine) if labelled else None
        return CaseFiles(name, name, image, label, modality="CT")


@st.composite
def cases(draw: Callable[..., Any]) -> Case:
    return Case(Ramp.through(draw(grids()), draw(seeds)), draw(images), draw(labels))


pairs = st.tuples(cases(), cases())


def prepared(folder: Path, files: list[CaseFiles], classes: int) -> dict[str, Any]:
    """The datalist that `prepare` makes of files, written; the first patient is labelled, the second is not."""
    findings = Findings()
    names = {c: f"class {c}" for c in range(classes + 1)}
    content = datalist("ramps", "CT", names, build_cases(files, names, folder, findings))
    assert findings.lines == []
    (folder / "datalist.json").write_text(json.dumps(content))
    split = {"train": [one.patient for one in files], "validation": [], "labelled": {"50": [files[0].patient]}}
    (folder / "split.json").write_text(json.dumps(split))
    return content
