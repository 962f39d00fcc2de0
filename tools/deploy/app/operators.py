"""The operators: from a folder of DICOM files to DICOM SEG and volumes.

Loading and selecting are MONAI Deploy's operators with the step replaced that decides what a series is; see
docs/how-to/deploy.md for why. What they pass on is what the originals do.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai.deploy.core import Fragment, Operator, OperatorSpec
from monai.deploy.core.domain.dicom_series import DICOMSeries
from monai.deploy.core.domain.dicom_series_selection import SelectedSeries, StudySelectedSeries
from monai.deploy.core.domain.dicom_study import DICOMStudy
from monai.deploy.operators.dicom_data_loader_operator import DICOMDataLoaderOperator
from monai.deploy.operators.dicom_series_selector_operator import DICOMSeriesSelectorOperator

from scripts.errors import UserError
from scripts.files import new_folder, write_json

from ...dicom.choosing import choose
from ...dicom.reading import Series, find_series
from ...segment.cases import series_case
from ...segment.results import is_finished, write_table
from ...segment.running import Work, predict_case, write_case
from .outcome import Outcome


class FoundSeries(DICOMSeries):
    """A series as MONAI Deploy passes it on, with what `tools.dicom` reads it by."""

    def __init__(self, series: Series) -> None:
        super().__init__(series.uid)
        self.found = series
        # MONAI Deploy's own filling in stops at attributes that are there and empty.
        self.Modality, self.SeriesDescription = series.get("Modality"), series.get("SeriesDescription")
        for head in series.heads:
            self.add_sop_instance(head)


class SeriesLoader(DICOMDataLoaderOperator):
    """MONAI Deploy's loader, which keeps all images of a place (phases, copies) and notes damaged files."""

    def load_data_to_studies(self, input_path: Path) -> list[DICOMStudy]:
        """The studies of a folder and its sub-folders; none where there are no images."""
        studies: dict[str, DICOMStudy] = {}
        for series in find_series(Path(input_path)):
            uid = series.get("StudyInstanceUID")
            studies.setdefault(uid, DICOMStudy(uid)).add_series(FoundSeries(series))
        return list(studies.values())


class SeriesSelector(DICOMSeriesSelectorOperator):
    """MONAI Deploy's selector with the choice of `dicom.choosing` instead of rules: all that suit the bundle.

    Args:
        modality: "CT" or "MR", as the bundle takes.
        where: the folder of the series, for messages.
        series: SeriesInstanceUID of the one that the user wants; None takes all that suit.
        outcome: takes why there is none.
    """

    def __init__(
        self,
        fragment: Fragment,
        *args: Any,
        modality: str,
        where: str,
        series: str | None,
        outcome: Outcome,
        **kwargs: Any,
    ) -> None:
        self.modality, self.where, self.series, self.outcome = modality, where, series, outcome
        super().__init__(fragment, *args, **kwargs)

    def filter(
        self,
        selection_rules: object,
        dicom_study_list: Sequence[DICOMStudy],
        all_matched: bool = False,
        sort_by_sop_instance_count: bool = False,
    ) -> list[StudySelectedSeries]:
        """The studies with their suitable series; the arguments but the list are not used."""
        by_study = {study: study.get_all_series() for study in dicom_study_list}
        found = [series.found for those in by_study.values() for series in those]
        try:
            chosen = {series.uid for series in choose(found, self.modality, self.where, self.series)}
        except UserError as error:
            self.outcome.fail(self.where, error)
            return []
        selected = []
        for study, those in by_study.items():
            of_study = StudySelectedSeries(study)
            for series in those:
                if series.SeriesInstanceUID in chosen:
                    of_study.add_selected_series(SelectedSeries("", series, None))
            if of_study.selected_series:
                selected.append(of_study)
        return selected


class BundleSegmenter(Operator):
    """Segments each selected series with the bundle, as `python -m tools segment` does.

    Args:
        work: the bundle with its network, and the settings.
        scratch: a folder for volumes on the way.
        outcome: takes what went wrong, per series.
    """

    def __init__(
        self, fragment: Fragment, *args: Any, work: Work, scratch: Path, outcome: Outcome, **kwargs: Any
    ) -> None:
        self.work, self.scratch, self.outcome = work, scratch, outcome
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Declare the ports."""
        spec.input("study_selected_series_list")
        spec.output("segmentations")

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        """Emits a list of (case, predictions), without the series that failed."""
        segmentations = []
        for study in op_input.receive("study_selected_series_list"):
            for selected in study.selected_series:
                case = series_case(selected.series.found)
                try:
                    segmentations.append((case, predict_case(case, self.scratch, self.work)))
                except Exception as error:  # the other series are to be segmented all the same
                    self.outcome.fail(case.source, error)
        op_output.emit(segmentations, "segmentations")


class ResultWriter(Operator):
    """Writes a folder per series with its DICOM SEG, and the volumes of all series as CSV and JSON.

    Args:
        work: the bundle with its network, and the settings.
        output: folder for all of it.
        outcome: takes the folders that were written, and what went wrong.
    """

    def __init__(
        self, fragment: Fragment, *args: Any, work: Work, output: Path, outcome: Outcome, **kwargs: Any
    ) -> None:
        self.work, self.output, self.outcome = work, output, outcome
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Declare the port."""
        spec.input("segmentations")

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        """Writes whole folders only."""
        rows: list[dict[str, Any]] = []
        for case, predictions in op_input.receive("segmentations"):
            folder = self.output / case.name
            try:
                is_finished(folder, {}, overwrite=True)  # refuses to replace a folder of something else
                with new_folder(folder, replace=True) as partial:
                    of_case = write_case(case, partial, self.work, predictions)
            except Exception as error:
                self.outcome.fail(case.source, error)
                continue
            rows += of_case
            self.outcome.finished.append(folder.name)
        if not self.outcome.finished:
            return
        algorithm = self.work.algorithm
        about = {"algorithm": algorithm.name, "version": algorithm.version, "weights": algorithm.weights}
        write_table(self.output / "volumes.csv", rows)
        write_json(self.output / "volumes.json", about | {"failures": self.outcome.failures, "volumes": rows})
