"""Divide: the partition of the classes into groups by the gaps between their sizes (DCA, Divide)."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

from .errors import UserError
from .group_names import GROUP_NAMES, MOST_GROUPS

logger = logging.getLogger(__name__)

RULES = ("top2", "gaps", "sequential", "uniform", "threshold", "manual")
LEAST_GAP = 1.0  # of `gaps`: what is e = 2.7 times as small as its neighbour begins a group
# Gaps that differ by rounding only are ties: otherwise multiplying all sizes by a constant could move a cut.
GAP_DECIMALS = 9


@dataclass(frozen=True)
class Grouping:
    """A partition of the foreground classes 1..K by size.

    groups: class ids per group, head first, each sorted by size, the largest first (equal sizes by id).
    names: the groups' names, which also name their experts, by their number (`GROUP_NAMES`).
    proportions: P_c, the share of class c in all foreground, at index c - 1.
    gaps: G_j = log(P_(j) / P_(j+1)) over the classes that have voxels, sorted by size, the largest first.
    rule: the rule that made the groups.
    """

    groups: tuple[tuple[int, ...], ...]
    names: tuple[str, ...]
    proportions: tuple[float, ...]
    gaps: tuple[float, ...]
    rule: str

    def describe(self, labels: Mapping[int, str] | None = None) -> str:
        """Text for the log: the classes, largest first, with share, log-gap to the next class and group."""
        group_of = {c: name for name, group in zip(self.names, self.groups, strict=True) for c in group}
        order = _by_size(self.proportions)
        titles = {c: f"{c} {labels[c]}" if labels and c in labels else str(c) for c in order}
        width = max(len("class"), *(len(title) for title in titles.values()))
        lines = [
            f"class groups by rule {self.rule}, largest class first",
            f"  {'class':<{width}}  {'share':>9}  {'log-gap':>7}  group",
        ]
        for j, c in enumerate(order):
            gap = f"{self.gaps[j]:.3f}" if j < len(self.gaps) else "-"
            lines.append(f"  {titles[c]:<{width}}  {self.proportions[c - 1]:>9.4%}  {gap:>7}  {group_of[c]}")
        lines += [
            f"  {name}: {', '.join(titles[c] for c in group)}"
            for name, group in zip(self.names, self.groups, strict=True)
        ]
        return "\n".join(lines)


def group_classes(
    sizes: Sequence[float] | Mapping[int, float],
    rule: str = "top2",
    manual: Sequence[Sequence[int]] | None = None,
    thresholds: tuple[float, float] = (0.01, 0.10),
) -> Grouping:
    """Partition the foreground classes 1..K by their sizes over the labelled set (DCA, Divide).

    Rules, with the log-gaps G_j between neighbours of the classes sorted by size:
    - `top2`: cuts at the two largest gaps; of equal choices the one with the most even groups, then the first.
    - `gaps`: cuts at every gap of at least LEAST_GAP, at most the four largest, of equal ones the first; so there are
      one to five groups.
    - `sequential` (the printed formula): first cut at the largest gap, second at the largest gap after it.
    - `uniform`: three groups of equal numbers of classes, a remainder going to the larger classes.
    - `threshold`: share above thresholds[1] is head, below thresholds[0] tail, else medium; an empty group is left out.
    - `manual`: the groups given, head first.

    K < 3 gives one class per group under every rule but `gaps` and `manual`. Classes of size 0 have no gap: they
    follow the others in the last group, with a logged warning. Where fewer than three classes have a size, under the
    rules that make three groups each of these is a group, and the empty ones fill the remaining groups in the order of
    their ids, so that there are min(3, K) groups.

    Args:
        sizes: voxels or mm3 of class c at index c - 1, or a mapping from the ids 1..K.
        rule: one of RULES.
        manual: class ids per group for the rule `manual`; one to five groups that partition 1..K.
        thresholds: shares (tail, head) for the rule `threshold`.

    Raises:
        UserError: unknown rule, sizes that are not finite or all 0, `sequential` where its second cut does not exist,
            thresholds out of order, manual groups that are no partition of 1..K.

    Example:
        >>> group_classes([1000, 900, 100, 90, 5]).groups  # the largest gaps follow classes 2 and 4
        ((1, 2), (3, 4), (5,))
    """
    volumes = _checked_sizes(sizes)
    if rule not in RULES:
        raise UserError(f"grouping rule: expected one of {', '.join(RULES)}, found {rule!r}")
    if (manual is None) == (rule == "manual"):
        found = "no groups with rule 'manual'" if manual is None else f"manual groups with rule {rule!r}"
        raise UserError(f"grouping: expected manual groups exactly where the rule is 'manual', found {found}")
    order = _by_size(volumes)
    present = [c for c in order if volumes[c - 1] > 0]
    absent = order[len(present) :]
    gaps = tuple(math.log(volumes[a - 1]) - math.log(volumes[b - 1]) for a, b in pairwise(present))
    rounded = [round(g, GAP_DECIMALS) for g in gaps]
    total = math.fsum(volumes)
    proportions = tuple(v / total for v in volumes)
    if absent:
        found = ", ".join(map(str, absent))
        logger.warning("no labelled voxel of class %s: it has no part in the gaps and ranks last", found)

    if manual is not None:
        groups = _checked_manual(manual, order)
    elif rule == "gaps":
        groups = _cut(order, _wide_gaps(rounded))
    elif len(order) < 3 or (len(present) < 3 and rule != "threshold"):
        groups = [g for g in (order[:1], order[1:2], order[2:]) if g]
    elif rule == "threshold":
        groups = _by_share(order, proportions, thresholds)
    else:
        groups = _cut(order, _two_cuts(rule, rounded, len(present)))
    return Grouping(tuple(map(tuple, groups)), GROUP_NAMES[len(groups)], proportions, gaps, rule)


def _checked_sizes(sizes: Sequence[float] | Mapping[int, float]) -> list[float]:
    if isinstance(sizes, Mapping):
        if sorted(sizes) != list(range(1, len(sizes) + 1)):
            raise UserError(f"class sizes: expected the class ids 1..{len(sizes)}, found {sorted(sizes)}")
        sizes = [sizes[c] for c in range(1, len(sizes) + 1)]
    volumes = [float(v) for v in sizes]
    if not all(math.isfinite(v) and v >= 0 for v in volumes):
        raise UserError(f"class sizes: expected finite numbers of at least 0, found {volumes}")
    if not any(volumes):
        raise UserError("class sizes: expected a labelled voxel of at least one class, found none; check the labels")
    return volumes


def _by_size(sizes: Sequence[float]) -> list[int]:
    """Class ids, the largest class first, equal sizes by id."""
    return sorted(range(1, len(sizes) + 1), key=lambda c: (-sizes[c - 1], c))


def _cut(order: list[int], cuts: Sequence[int]) -> list[list[int]]:
    """Groups of classes; cuts: numbers of classes before each cut, rising."""
    return [order[a:b] for a, b in pairwise([0, *cuts, len(order)])]


def _wide_gaps(gaps: list[float]) -> list[int]:
    """Numbers of classes before each cut of the rule `gaps`."""
    wide = [j for j, gap in enumerate(gaps, 1) if gap >= LEAST_GAP]
    return sorted(sorted(wide, key=lambda j: -gaps[j - 1])[: MOST_GROUPS - 1])


def _two_cuts(rule: str, gaps: list[float], classes: int) -> tuple[int, int]:
    """Numbers of classes before the first and before the second cut; classes: those that have a size, at least 3."""
    if rule == "uniform":
        return math.ceil(classes / 3), math.ceil(2 * classes / 3)
    if rule == "sequential":
        first = gaps.index(max(gaps)) + 1
        if first == len(gaps):
            others = ", ".join(r for r in RULES if r != rule)
            raise UserError(
                f"grouping rule 'sequential': expected a gap after the largest one, found the largest gap "
                f"({gaps[-1]:.3f}) to be the last; choose another rule: {others}"
            )
        rest = gaps[first:]
        return first, first + rest.index(max(rest)) + 1

    def merit(cut: tuple[int, int]) -> tuple[float, int]:
        a, b = cut
        return round(gaps[a - 1] + gaps[b - 1], GAP_DECIMALS), -(a**2 + (b - a) ** 2 + (classes - b) ** 2)

    # The pair with the largest sum is the pair of the two largest gaps.
    return max(combinations(range(1, classes), 2), key=merit)


def _by_share(order: list[int], proportions: Sequence[float], thresholds: tuple[float, float]) -> list[list[int]]:
    tail, head = thresholds
    if not 0 <= tail < head <= 1:
        raise UserError(f"grouping thresholds: expected 0 <= tail < head <= 1, found tail {tail}, head {head}")
    groups: dict[str, list[int]] = {name: [] for name in GROUP_NAMES[3]}
    for c in order:
        share = proportions[c - 1]
        groups["head" if share > head else "tail" if share < tail or share == 0 else "medium"].append(c)
    empty = [name for name, group in groups.items() if not group]
    if empty:
        logger.warning("rule threshold (%g, %g) leaves no class for: %s", tail, head, ", ".join(empty))
    return [group for group in groups.values() if group]


def _checked_manual(manual: Sequence[Sequence[int]], order: list[int]) -> list[list[int]]:
    given = [c for group in manual for c in group]
    if sorted(given) != sorted(order) or not all(manual) or len(manual) > MOST_GROUPS:
        found = [list(group) for group in manual]
        raise UserError(
            f"manual groups: expected one to five non-empty groups with each class id of 1..{len(order)} "
            f"exactly once, found {found}"
        )
    return [sorted(group, key=order.index) for group in manual]
