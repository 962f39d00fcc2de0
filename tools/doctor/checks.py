"""What may be wrong with a data set: with single cases, and with a case among the others."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median

import numpy as np

from .facts import ClassFacts, Facts
from .findings import ERROR, NOTE, WARNING, Finding

FEWEST = 5  # cases that make a rule to measure others by
SAME_PICTURE = 0.9995  # correlation of two thumbnails; two patients' scans of one protocol reach about 0.98
FAR = 6.0  # robust standard deviations
# Less than these no deviation is called one, however alike the others are.
LEAST_FACTOR, LEAST_RANK = 3.0, 0.3
SPACING_FACTOR = 3.0
WHOLE, IN_PARTS = 0.95, 0.7  # share of a class in its largest part: of the others' median, and of the one to look at
AGREE, TURNED = 0.95, 0.5  # share of cases that put two classes in one order, and of orders that a case reverses
AXES = ("left and right", "back and front", "bottom and top")  # of RAS+
SIDED = re.compile(r"\b(left|right)\b")


@dataclass(frozen=True)
class Case:
    """A case of the datalist, and what was measured of it.

    role: "train", or with a percentage "labelled" or "unlabelled"; "validation", "test"; "" without a split.
    """

    id: str
    patient: str
    image: str
    label: str | None
    modality: str | None
    role: str
    facts: Facts


def check_case(case: Case) -> Iterator[Finding]:
    """What one case tells without the others."""
    facts = case.facts
    if facts.repeated:
        count = f"{facts.repeated} of {facts.shape[2]} equal to the one before"
        yield Finding(WARNING, "repeated slices", case.image, "slices that differ", count, AGAIN)
    pairs = zip(facts.spacing, facts.affine_spacing, strict=True)
    if any(abs(own - other) > 0.01 * max(own, other) for own, other in pairs):
        words = f"pixdim {_listed(facts.spacing)}, affine {_listed(facts.affine_spacing)} mm"
        fix = "find out which is right, and correct the header; volumes and distances are by pixdim"
        yield Finding(WARNING, "two spacings", case.image, "one spacing", words, fix)
    if facts.qform_shift is not None and facts.qform_shift > 1:
        words = f"corners up to {facts.qform_shift:.3g} mm apart"
        fix = "correct the header; the sform is used, other programs may take the qform"
        yield Finding(WARNING, "two places", case.image, "qform and sform alike", words, fix)
    if case.label is not None and facts.label_content is None:
        fix = "leave the label out if nothing was drawn, for an empty one teaches that there is nothing"
        yield Finding(WARNING, "empty label", case.label, "a class in it", "background only", fix)


AGAIN = "look at it, and export it again or leave it out"


def check_all(cases: Sequence[Case], names: Mapping[int, str]) -> Iterator[Finding]:
    """What shows only beside other cases."""
    for check in (_duplicates, _orientations, _spacings, _intensities, _class_outliers, _sides, _turned, _classes):
        yield from check(cases, names)


def _duplicates(cases: Sequence[Case], names: Mapping[int, str]) -> Iterator[Finding]:
    thumbnails = np.stack([case.facts.thumbnail for case in cases]) if cases else np.zeros((0, 1))
    alike = thumbnails @ thumbnails.T
    labels = defaultdict(list)
    for i, case in enumerate(cases):
        if case.facts.label_content is not None:
            labels[case.facts.label_content].append(i)
        for j in range(i):
            other = cases[j]
            same = case.facts.content == other.facts.content
            if not same and (alike[i, j] < SAME_PICTURE or case.patient == other.patient):
                continue
            words = f"{'the same image' if same else 'nearly the same image'} in {other.image}{_roles(other)}"
            leak = case.role != other.role and {case.role, other.role} & {"validation", "test"}
            severe = ERROR if case.patient != other.patient or leak else WARNING
            kind = "leakage" if leak else "duplicate image"
            fix = "keep one of the two, or give both the same patient, so that they share a role"
            yield Finding(severe, kind, f"{case.image}{_roles(case)}", "each image once", words, fix)
    for places in labels.values():
        for i in places[1:]:
            words = f"the same label as {cases[places[0]].label}"
            if cases[i].facts.content != cases[places[0]].facts.content:
                fix = "one of the two is of another image: compare both with their images"
                yield Finding(ERROR, "duplicate label", str(cases[i].label), "a label of its own", words, fix)


def _roles(case: Case) -> str:
    return f" ({case.role})" if case.role else ""


def _orientations(cases: Sequence[Case], names: Mapping[int, str]) -> Iterator[Finding]:
    counts = Counter(case.facts.orientation for case in cases)
    usual = max(counts, key=lambda axes: counts[axes], default="")
    for case in cases if len(cases) >= FEWEST else ():
        if case.facts.orientation != usual:
            fix = "nothing, if the file is right: networks see all in one orientation where the bundle says so"
            yield Finding(NOTE, "orientation", case.image, f"{usual}, as of most", case.facts.orientation, fix)


def _spacings(cases: Sequence[Case], names: Mapping[int, str]) -> Iterator[Finding]:
    for axis in range(3) if len(cases) >= FEWEST else ():
        usual = median(case.facts.spacing[axis] for case in cases)
        for case in cases:
            own = case.facts.spacing[axis]
            if not usual / SPACING_FACTOR <= own <= usual * SPACING_FACTOR:
                expected = f"a spacing of about {usual:.4g} mm along axis {axis}, as of most"
                yield Finding(WARNING, "spacing", case.image, expected, f"{own:.4g} mm", "check the header")


def _intensities(cases: Sequence[Case], names: Mapping[int, str]) -> Iterator[Finding]:
    """Images far from the others of their modality: CT, whose scale is fixed, by its tissue, others by their range."""
    by_modality = defaultdict(list)
    for case in cases:
        if not case.facts.constant:
            by_modality[case.modality].append(case)
    for modality, alike in by_modality.items():
        if modality == "CT":
            values = [case.facts.tissue for case in alike]
            far, what = _far(values, least=100.0), "about {:.4g} HU as the median without air, as of most"
        else:
            values = [case.facts.percentiles[-1] - case.facts.percentiles[0] for case in alike]
            far = _far([math.log(max(value, 1e-9)) for value in values], least=math.log(10))
            what = "a range of intensities of about {:.4g}, as of most"
        for case, value, odd in zip(alike, values, far, strict=True):
            if odd:
                fix = "look at it: another protocol, another unit, or another body part"
                expected = what.format(np.nanmedian(values))
                yield Finding(WARNING, "intensities", case.image, expected, f"{value:.4g}", fix)


def _class_outliers(cases: Sequence[Case], names: Mapping[int, str]) -> Iterator[Finding]:
    for number, name in names.items():
        have = [case for case in cases if number in case.facts.classes]
        facts = [case.facts.classes[number] for case in have]
        volumes = _far([math.log(max(one.millilitres, 1e-9)) for one in facts], least=math.log(LEAST_FACTOR))
        ranks = _far([one.rank if one.rank is not None else math.nan for one in facts], least=LEAST_RANK)
        usual = median([one.millilitres for one in facts]) if facts else math.nan
        parts = median([one.largest for one in facts]) if facts else math.nan
        for case, one, volume, rank in zip(have, facts, volumes, ranks, strict=True):
            file = str(case.label)
            if volume:
                expected = f"about {usual:.3g} ml of {name}, as in most"
                yield Finding(WARNING, "class volume", file, expected, f"{one.millilitres:.3g} ml", LOOK)
            if rank:
                found = f"darker or brighter ones (its median exceeds {one.rank or 0:.0%} of the image)"
                expected = f"{name} on intensities as in most"
                fix = "look at it: the label may be shifted, turned, or of another image"
                yield Finding(WARNING, "class intensities", file, expected, found, fix)
            if len(facts) >= FEWEST and parts >= WHOLE and one.largest < IN_PARTS:
                expected = f"{name} in one piece, as in most"
                found = f"{1 - one.largest:.0%} of it apart from the largest"
                yield Finding(WARNING, "fragments", file, expected, found, "remove what is not of the structure")


LOOK = "look at it: part of the structure may be missing, or another one drawn"


def _far(values: Sequence[float], least: float) -> list[bool]:
    """Which values lie far from the median of the others, by more than `least` at any rate."""
    found = []
    for i, value in enumerate(values):
        others = np.array([other for j, other in enumerate(values) if j != i and math.isfinite(other)])
        if len(others) < FEWEST or not math.isfinite(value):
            found.append(False)
            continue
        middle = float(np.median(others))
        spread = 1.4826 * float(np.median(np.abs(others - middle)))
        found.append(abs(value - middle) > max(FAR * spread, least))
    return found


def _sides(cases: Sequence[Case], names: Mapping[int, str]) -> Iterator[Finding]:
    """Classes named left and right on the other side of each other."""
    by_name = {name.lower(): number for number, name in names.items()}
    for name, right in by_name.items():
        left = by_name.get(SIDED.sub("left", name)) if "right" in name else None
        if left is None:
            continue
        for case in cases:
            one, other = case.facts.classes.get(right), case.facts.classes.get(left)
            if one is not None and other is not None and one.centre[0] < other.centre[0]:
                found = f"it on the left of {names[left]}, by the affine"
                fix = "exchange the two classes, or correct an affine that mirrors the image"
                yield Finding(ERROR, "sides", str(case.label), f"{names[right]} on the right", found, fix)


def _turned(cases: Sequence[Case], names: Mapping[int, str]) -> Iterator[Finding]:
    """Cases whose classes lie in the order that is the reverse of nearly all others', along one axis."""
    for axis, words in enumerate(AXES):
        reversed_, compared = Counter[str](), Counter[str]()
        for a, b in combinations(names, 2):
            signs = {case.id: _sign(case.facts.classes, a, b, axis) for case in cases}
            known = {one: sign for one, sign in signs.items() if sign}
            if len(known) < FEWEST:
                continue
            usual = 1 if sum(known.values()) > 0 else -1
            if sum(sign == usual for sign in known.values()) < AGREE * (len(known) - 1):
                continue
            for one, sign in known.items():
                compared[one] += 1
                reversed_[one] += sign != usual
        for case in cases:
            share = reversed_[case.id] / compared[case.id] if compared[case.id] else 0.0
            if share > TURNED:
                found = f"{reversed_[case.id]} of {compared[case.id]} pairs of classes the other way round"
                fix = "correct the affine, or the axes of the label"
                yield Finding(ERROR, "mirrored", str(case.label), f"{words} as in all others", found, fix)


def _sign(classes: Mapping[int, ClassFacts], a: int, b: int, axis: int) -> int:
    if a not in classes or b not in classes:
        return 0
    distance = classes[a].centre[axis] - classes[b].centre[axis]
    return 0 if distance == 0 else 1 if distance > 0 else -1


def _classes(cases: Sequence[Case], names: Mapping[int, str]) -> Iterator[Finding]:
    """Classes of which nothing, or next to nothing, can be learnt."""
    train = [case for case in cases if case.label is not None and case.role in ("", "train", "labelled")]
    for number, name in names.items():
        have = [case for case in train if number in case.facts.classes]
        if train and not have:
            fix = "label it in a training case, or leave the class out"
            yield Finding(ERROR, "class never seen", "labelled cases", f"{name} in one of them", "none", fix)
        elif len(train) > 1 and len(have) == 1:
            fix = "label it in another case, too, if there is one"
            yield Finding(NOTE, "class seen once", str(have[0].label), f"{name} in several cases", "this one", fix)


def _listed(numbers: Sequence[float]) -> str:
    return " x ".join(f"{number:.4g}" for number in numbers)
