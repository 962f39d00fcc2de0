"""What has to be known to read a table: which cases, by which checkpoint, with which settings, and what is missing."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from ..compare.tuning import AS_PUBLISHED, PUBLISHED, TUNED
from .published import Place, PublishedRow
from .results import LAST, Measured, Results

FLAGS = ("†", "‡")  # of a published average that is not that of its classes; of a published Jaccard that cannot be


def notes(
    results: Results,
    methods: Sequence[Measured],
    printed: Mapping[str, PublishedRow],
    places: Collection[Place],
    kind: str,
) -> list[str]:
    """The notes below a table, a line each.

    Args:
        results: what was measured; methods: the same in the order of the table.
        printed: the published rows by name; places: which of their figures the table shows.
        kind: of the scores, as in the names of their files.
    """
    what = f"{results.settings['data']} with {results.settings['percent']:g} % labelled"
    return [
        *provenance(results, kind),
        "with several seeds: mean ± population standard deviation over them; in square brackets the mean's 95 % "
        "bootstrap interval over patients and seeds (`--format statistics`)",
        *_published(methods, printed, places, what),
    ]


def provenance(results: Results, kind: str) -> list[str]:
    """What the figures come from: set, cases, scores, settings, code, and the runs without any."""
    settings, about = results.settings, results.methods[0].rows[0]
    common, own = _overrides(results)
    length = f"{settings['steps']} steps" if "steps" in settings else f"{settings['minutes']:g} minutes of steps each"
    seeds = " or ".join(dict.fromkeys(", ".join(map(str, method.seeds)) for method in results.methods))
    lines = [
        f"scored: {_role(results)}",
        f"{about['cases']} cases; scores {kind}, distances in {about['unit']}, empty masks by policy {about['policy']}",
        f"trained: bundle {settings['bundle']}, split {settings['split']}, {settings['percent']:g} % of the training "
        f"patients labelled, {length}, preset {settings['preset']}{common}; seeds {seeds}",
        *own,
        *_length(results),
        *_tuned(results),
        f"code: {', '.join(results.commits)}",
    ]
    return lines + ([f"not in the table: {'; '.join(results.missing)}"] if results.missing else [])


def _length(results: Results) -> list[str]:
    """The steps of each method, where they had equal time."""
    if "steps" in results.settings:
        return []
    steps = ", ".join(f"{method.title} {method.steps}" for method in results.methods)
    return [f"equal time, in steps as timed before the runs (timing.json), validation not counted: {steps}"]


def _tuned(results: Results) -> list[str]:
    """What the settings mean, and which ones tuning chose."""
    lines = []
    if PUBLISHED in results.arms:
        lines.append(
            "as published: options, options of the network and learning rate of each method's paper or release, with "
            "the data, the width and the length of this preset"
        )
    if TUNED in results.arms:
        one = next(iter(results.tuned.values()))
        chosen = [
            f"{method.name} {trial.number} ({trial.words or 'as recommended'})"
            for method in results.methods
            if method.arm == TUNED and (trial := results.tuned.get(method.name))
        ]
        lines.append(
            f"tuned: the best of {one.count} trials a method by validation Dice, with seeds {', '.join(one.seeds)} "
            f"(tuning/trials.csv): {'; '.join(chosen)}"
        )
    return lines


def told(results: Results) -> dict[str, str]:
    """What the notes tell, by name, for a format without notes."""
    settings = {key: str(value) for key, value in results.settings.items() if not key.startswith("content of ")}
    return (
        {"scored": results.role, "checkpoint": results.checkpoint}
        | settings
        | {"not_in_the_table": "; ".join(results.missing)}
    )


def _role(results: Results) -> str:
    if results.role == "test":
        return "the test set, once per run, by the checkpoint that the validation set chose"
    tested = f"{results.tested} of these runs" if results.tested else "none of these runs"
    if results.checkpoint == LAST:
        return f"the validation set, by the last checkpoint of each training; the test set was scored for {tested}"
    return f"the validation set, which also chose the checkpoint; the test set was scored for {tested}"


def _published(
    methods: Sequence[Measured], printed: Mapping[str, PublishedRow], places: Collection[Place], what: str
) -> list[str]:
    if not printed:
        return [f"no figures are published for {what}"]
    lines = [
        "in brackets: published, as printed in the tables of the DCA paper, on the test set, with another budget and "
        "distances in voxels: compare the order of the methods rather than the figures"
    ]
    rows = [printed[method.name] for method in methods if method.name in printed]
    for flag, says, contradictions in (
        (FLAGS[0], "the published average is not that of the published classes", PublishedRow.wrong_averages),
        (FLAGS[1], "the published Jaccard is below what the Dice beside it allows", PublishedRow.impossible_jaccards),
    ):
        shown = {row.method: [text for at, text in contradictions(row).items() if at in places] for row in rows}
        found = [f"{method} ({'; '.join(texts)})" for method, texts in shown.items() if texts]
        lines += [f"{flag} {says}: {', '.join(found)}"] if found else []
    return lines


def _overrides(results: Results) -> tuple[str, list[str]]:
    """Settings that all methods share, as part of a note, and notes on those of single methods.

    Without a place, and without what tuning set, which `_tuned` tells.
    """
    shown = {}
    for method in results.methods:
        trial = results.tuned.get(method.name) if method.arm == TUNED else None
        told = {"split_file", *(AS_PUBLISHED if method.arm == PUBLISHED else ())}
        told |= {word.partition("=")[0] for word in (trial.words.split() if trial else ())}
        shown[method.title] = {(key, value) for key, value in method.overrides.items() if key not in told}
    common = set.intersection(*shown.values())
    own = [f"{title} with {_pairs(pairs - common)}" for title, pairs in shown.items() if pairs - common]
    return (f", {_pairs(common)}" if common else ""), own


def _pairs(pairs: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(pairs))
