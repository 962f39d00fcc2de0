"""The app: what it is started with, the operators one after the other, and how it ends."""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from pathlib import Path

import torch
from monai.deploy.conditions import CountCondition
from monai.deploy.core import AppContext, Application, init_app_context

from scripts.errors import UserError, user_message
from scripts.files import read_json

from ...common.torchscript import plain_settings, read_script
from ...segment.options import Options
from ...segment.preparing import prepare
from ...segment.running import Work
from .operators import BundleSegmenter, ResultWriter, SeriesLoader, SeriesSelector
from .outcome import Outcome

# A container is given variables, so there are no options for these.
SERIES, PHASES, SETTINGS = "DCA_SERIES", "DCA_PHASES", "DCA_SET"


class BundleApp(Application):
    """Loads, selects, segments and writes.

    Args:
        source, output: folders of DICOM files and of results.
        work: the bundle with its network, and the settings.
        scratch: a folder for volumes on the way.
        outcome: takes what came of it.
    """

    def __init__(self, source: Path, output: Path, work: Work, scratch: Path, outcome: Outcome) -> None:
        self.source, self.output, self.work, self.scratch, self.outcome = source, output, work, scratch, outcome
        super().__init__()

    def compose(self) -> None:
        """Connect the operators."""
        work, outcome = self.work, self.outcome
        load = SeriesLoader(self, CountCondition(self, 1), input_folder=self.source, name="load")
        select = SeriesSelector(
            self,
            modality=work.modality,
            where=str(self.source),
            series=os.environ.get(SERIES) or None,
            outcome=outcome,
            name="select",
        )
        segment = BundleSegmenter(self, work=work, scratch=self.scratch, outcome=outcome, name="segment")
        write = ResultWriter(self, work=work, output=self.output, outcome=outcome, name="write")
        self.add_flow(load, select, {("dicom_study_list", "dicom_study_list")})
        self.add_flow(select, segment, {("study_selected_series_list", "study_selected_series_list")})
        self.add_flow(segment, write, {("segmentations", "segmentations")})


def main(bundle: Path, models: Path) -> int:
    """Run the app with the arguments of the command line, or the variables of MONAI Deploy.

    Args:
        bundle: folder of the bundle, in the app's folder.
        models: where the model is, unless the command line or a variable says otherwise.

    Returns:
        The exit code: 0, or 1 if some series failed, or 2 if nothing was segmented.
    """
    # MONAI warns of decoders that nobody asked for.
    warnings.filterwarnings("ignore", "NvImgCodecPydicomReader")
    os.environ.setdefault("HOLOSCAN_MODEL_PATH", str(models))
    outcome = Outcome()
    context = init_app_context()
    try:
        source, output = Path(context.input_path), Path(context.output_path)
        if not source.is_dir():
            raise UserError(f"--input: expected a folder of DICOM files, found none at {source}")
        with tempfile.TemporaryDirectory(dir=context.workdir or None) as scratch:
            weights = _extract_weights(context, bundle, Path(scratch) / "model.pt")
            settings = os.environ.get(SETTINGS, "").split()
            options = Options(model=weights, formats=("seg", "csv"), phases=_phases(), settings=settings)
            BundleApp(source, output, prepare(bundle, options), Path(scratch), outcome).run()
    except (UserError, OSError) as error:
        message = user_message(error)
        if message is None:
            raise
        outcome.failures.append(message)
    for failure in outcome.failures:
        print(f"error: {failure}", file=sys.stderr)
    if outcome.finished:
        total = len(outcome.finished) + len(outcome.failures)
        print(f"{len(outcome.finished)} of {total} series segmented: {output}")
    return outcome.exit_code


def _phases() -> list[int] | None:
    words = os.environ.get(PHASES, "")
    try:
        return [int(word) for word in words.split(",")] if words else None
    except ValueError:
        raise UserError(f"{PHASES}: expected numbers from 0, such as 0,9, found {words!r}") from None


def _extract_weights(context: AppContext, bundle: Path, target: Path) -> Path:
    """The weights of the model.ts that the context names, as a file that the bundle's own network loads.

    The network of the bundle's code runs, and not its TorchScript: in the bundle's precision, with its experts, whose
    disagreement only it gives, and so voxel for voxel as `segment` does.
    """
    known = [Path(model.path) for _, model in context.models.items()] if context.models else []
    found = [path for path in known if path.is_file()]
    if len(found) != 1:
        raise UserError(
            f"--model: expected model.ts, or a folder with one model in a folder of its own, found {len(found)} models "
            f"at {context.model_path}"
        )
    settings, state = read_script(found[0])
    config = bundle / "configs" / "inference.json"
    if settings != plain_settings(read_json(config, "bundle's settings")):
        raise UserError(
            f"{found[0]}: expected a model of the bundle {bundle.name} with the settings of {config}, found another; "
            "write an app of its own for it (`python -m tools deploy`)"
        )
    torch.save(state, target)
    return target
