"""What is found of a data set: its cases, and what it says of its classes and channels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ...common.case_files import CaseFiles


@dataclass(frozen=True)
class Case:
    """An image with or without a label.

    id: its name, unique in the data set.
    patient: whose it is; empty until that is known.
    images: a file per channel, or a single one that holds them all (see `Source.stacked`).
    label: None of an unlabelled case.
    role: "train", "validation" or "test" where the data set itself says so.
    """

    id: str
    patient: str
    images: tuple[Path, ...]
    label: Path | None = None
    role: str | None = None

    def files(self, modality: str | None = None) -> CaseFiles:
        """The case for `build_cases`; `modality` is "CT", "MR" or None."""
        return CaseFiles(self.id, self.patient, self.images[0], self.label, modality=modality, further=self.images[1:])


@dataclass(frozen=True)
class Source:
    """A data set as it was found; no image has been read.

    layout: its name, for the log.
    cases: in the order of their files.
    channels: a name for each; ("0", "1") where nothing names them.
    classes: names of the foreground by number; None if only the labels can tell.
    modality: "CT" or "MR" if the names of the channels say so.
    stacked: whether the channels lie in one file, along its fourth axis.
    """

    layout: str
    cases: tuple[Case, ...] = ()
    channels: tuple[str, ...] = ("0",)
    classes: Mapping[int, str] | None = None
    modality: str | None = None
    stacked: bool = False
