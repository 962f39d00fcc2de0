"""What the user wants segmented, as plain values: other processes are told by it, and nothing heavy is imported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from .cases import Case, find_cases, modality_of
from .options import Options


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
            UserError: nothing to segment, or two files whose results would have one name.
        """
        modality = modality_of(self.bundle, self.options.settings)
        return find_cases(self.source, self.output, modality, self.options.series)

    def ready(self, progress: bool = False) -> Callable[[Case], str | None]:
        """Load the network: what segments a case unless that has been done, and returns what went wrong, or None.

        Args:
            progress: show a bar within each case.

        Raises:
            UserError: a missing model, an unknown setting or device, weights of another network.
        """
        from .preparing import prepare
        from .running import try_case

        work = prepare(self.bundle, self.options)
        return lambda case: try_case(case, self.output / case.name, work, progress)

    def words(self) -> list[str]:
        """The arguments of `segment` that make this request."""
        return [str(self.source), str(self.output), "--bundle", self.bundle.name, *self.options.words()]
