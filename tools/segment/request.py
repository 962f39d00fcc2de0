"""What the user wants segmented, as plain values: other processes are told by it, and nothing heavy is imported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .cases import Case, find_cases, modality_of


@dataclass(frozen=True)
class Request:
    """What the user wants segmented.

    source, series: see `find_cases`.
    output: folder of results.
    bundle: folder of the bundle.
    model, device: see `Segmenter`.
    fast, probabilities, disagreement, settings: see `segmenter.Options`.
    phases, formats: see `Work`.
    overwrite: repeat finished cases.
    """

    source: Path
    output: Path
    bundle: Path
    formats: Sequence[str]
    model: Path | None = None
    device: str | None = None
    fast: bool = False
    series: str | None = None
    phases: Sequence[int] | None = None
    probabilities: bool = False
    disagreement: bool = False
    overwrite: bool = False
    settings: Sequence[str] = ()

    def cases(self) -> list[Case]:
        """The cases, in the same order every time.

        Raises:
            UserError: see `find_cases`.
        """
        return find_cases(self.source, self.output, modality_of(self.bundle, self.settings), self.series)

    def ready(self, progress: bool = False) -> Callable[[Case], str | None]:
        """Load the network: what segments a case unless that has been done, and returns what went wrong, or None.

        Args:
            progress: show a bar within each case.

        Raises:
            UserError: see `Segmenter`.
        """
        from .preparing import prepare
        from .running import try_case
        from .segmenter import Options

        options = Options(self.fast, self.probabilities, self.disagreement, self.settings)
        work = prepare(self.bundle, self.model, self.device, options, self.formats, self.phases)
        return lambda case: try_case(case, self.output / case.name, work, self.overwrite, progress)

    def words(self) -> list[str]:
        """The arguments of `segment` that make this request."""
        valued = {
            "--model": self.model,
            "--device": self.device,
            "--series": self.series,
            "--phases": None if self.phases is None else ",".join(map(str, self.phases)),
        }
        return [
            *(str(self.source), str(self.output), "--bundle", self.bundle.name, "--formats", ",".join(self.formats)),
            *(word for name, value in valued.items() if value is not None for word in (name, str(value))),
            *(f"--{name}" for name in ("fast", "probabilities", "disagreement", "overwrite") if getattr(self, name)),
            *(["--set", *self.settings] if self.settings else []),
        ]
