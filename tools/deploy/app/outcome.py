"""What came of a run of the app."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from scripts.errors import first_line, user_message

logger = logging.getLogger(__name__)


@dataclass
class Outcome:
    """What the operators tell the process that runs them: an exception in one would end all of it.

    finished: folders that were written.
    failures: a line for each series that could not be segmented, or why there was none.
    """

    finished: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def fail(self, name: str, error: Exception) -> None:
        """Note an error, with a traceback in the log unless the message is all that a user needs."""
        message = user_message(error)
        if message is None:
            logger.error("%s", name, exc_info=error)
            message = f"{name}: {type(error).__name__}: {first_line(error)}"
        self.failures.append(message)

    @property
    def exit_code(self) -> int:
        """0: all was segmented; 1: some of it; 2: nothing."""
        return int(bool(self.failures)) if self.finished else 2
