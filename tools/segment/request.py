"""What the user wants segmented, as plain values: other processes are told by it, and nothing heavy is imported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ..common.bundles import bundle_argument
from .cases import Case, channels_of, find_cases, modality_of
from .options import Options

# Cases under way at once where the network is on a GPU: one loads, one has the network, one is written.
GPU_OVERLAP = 3


@dataclass(frozen=True)
class Ready:
    """A network that is loaded.

    segment: segments a case unless that has been done, and returns what went wrong, or None. Threads may share it.
    overlap: how many cases are under way at once, each in memory with its image. One on a CPU, all of whose cores the
        network uses.
    """

    segment: Callable[[Case], str | None]
    overlap: int = 1


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the user wants segmented.

    source: a NIfTI file, a DICOM file, or a folder of either.
    output: folder of results.
    bundle: folder of the bundle.
    options: how to segment.
    """

    source: Path
    output: Path
    bundle: Path
    options: Options = field(default_factory=Options)

    def cases(self) -> list[Case]:
        """The cases, in the same order every time.

        Raises:
            UserError: nothing to segment, channels that are missing, or images whose results would have one name.
        """
        modality = modality_of(self.bundle, self.options.settings)
        channels = channels_of(self.bundle, self.options)
        return find_cases(self.source, self.output, modality, self.options.series, channels)

    def ready(self, progress: bool = False) -> Ready:
        """Load the network.

        Args:
            progress: show a bar within each case.

        Raises:
            UserError: a missing model, an unknown setting or device, weights of another network.
        """
        from .preparing import prepare
        from .running import try_case

        work = prepare(self.bundle, self.options)
        overlap = GPU_OVERLAP if work.segmenter.device.type == "cuda" else 1
        return Ready(lambda case: try_case(case, self.output / case.name, work, progress), overlap)

    def words(self) -> list[str]:
        """The arguments of `segment` that make this request."""
        return [str(self.source), str(self.output), "--bundle", bundle_argument(self.bundle), *self.options.words()]
