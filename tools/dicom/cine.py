"""Several images at the same place: the phases of a cine, or the same image twice."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.errors import UserError

from .frames import Frame
from .geometry import same_place

TIMES = ("TriggerTime", "TemporalPositionIdentifier", "InstanceNumber")


def split_phases(frames: Sequence[Frame], name: str) -> list[list[Frame]]:
    """The frames of each phase of a cine, in the order of time; one list where no place occurs twice.

    At each place the frames are ordered by trigger time, else by temporal position, else by instance number, whichever
    is the first that tells them apart; the phase is the rank in that order, since trigger times differ from one
    breath-hold to the next.

    Raises:
        UserError: places with different numbers of images, or images that nothing orders.
    """
    places = same_place(frames, name)
    counts = sorted({len(place) for place in places})
    if len(counts) > 1:
        raise UserError(
            f"{name}: expected as many phases at every slice, found {' and '.join(map(str, counts))}; "
            "export the series whole, and nothing else with it"
        )
    ordered = [_in_time(place, name) for place in places]
    return [[place[phase] for place in ordered] for phase in range(counts[0])]


def _in_time(place: list[Frame], name: str) -> list[Frame]:
    for kind in range(len(TIMES)):
        times = [frame.times[kind] for frame in place]
        if None not in times and len(set(times)) == len(times):
            return sorted(place, key=lambda frame: frame.times[kind] or 0.0)
    if len(place) == 1:
        return place
    raise UserError(
        f"{name}: expected {' or '.join(TIMES)} to order the {len(place)} images at one place, found none that differs"
        " between them; export the series again"
    )
