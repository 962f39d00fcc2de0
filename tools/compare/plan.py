"""What a comparison is to run: a training per method and seed, with its settings, its commands and its folder."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scripts.data.datalists import read_datalist
from scripts.errors import UserError, first_few
from scripts.files import read_json, sha256, write_json

from ..check.command import examine, own_values
from ..check.values import CALLED, Values
from ..common.config import SEPARATOR, Config
from ..common.findings import Findings
from ..common.merging import load_config, parse_overrides
from .request import Request
from .state import FAILED, RESUME, RUN, Run, held, is_finished, now, read_state, write_state

CONFIG = "config.json"
# Settings that the command has an argument for, or sets itself.
RESERVED = {"bundle_root", "dataset_dir", "run_dir", "ckpt_dir", "output_dir", "resume", "evaluate_on", "checkpoint"}
RESERVED |= {"method", "seed", "percent", "preset", "steps"}
# Where things lie is not what they are: data are compared by their content, and what names a place goes on naming it.
PLACES = ("bundle_root", "dataset_dir", "datalist", "split_file", "run_dir", "ckpt_dir", "device")
NAMES_A_PLACE = re.compile(rf"[$@].*(?<=@)({'|'.join(PLACES)})\b")
IRRELEVANT = ("resume", "presets")  # what a config takes out of its presets stands in it under names of its own
MOST_NAMED = 4  # differences that one message names


@dataclass(frozen=True)
class Plan:
    """The runs of a comparison, in the order of their start; those whose config has a mistake; and what to know."""

    runs: list[Run]
    impossible: list[Run]
    notes: list[str]

    def of(self, methods: Container[str]) -> Plan:
        """The runs of these methods alone."""
        runs, impossible = ([run for run in all_ if run.method in methods] for all_ in (self.runs, self.impossible))
        return Plan(runs, impossible, self.notes)


def plan(request: Request, strict: bool = True) -> Plan:
    """Check the config for every method, and write run.json and config.json into the folders of the runs.

    A run that is over keeps these files; those of one that goes on tell where things lie now. All methods come before
    the next seed: so there is soon something to compare.

    A mistake that all methods share is the user's. One that only some have, such as a rule that cannot divide these
    classes, makes those runs failed ones, and leaves the others alone. Without `strict` every mistake is of that kind:
    settings that the command itself chose may not fit.

    Raises:
        UserError: mistakes in the config that all methods share; or settings that differ from those of a run that has
            begun.
    """
    defaults = own_values([request.train], request.bundle)
    request = complete(request, defaults)
    about, problems, notes = _examined(request, defaults, strict)
    planned = []
    for seed in request.seeds:
        for method, content in about.items():
            run = Run(request.folder(method, seed), method, seed, content["steps"], request.what)
            own = {"seed": seed, "commands": request.commands(method, seed)}
            planned.append((run, content | own, resolved(request, method, seed)))
    _expect_alike(request.output, planned)
    for run, content, config in planned:
        _claim(run, content, config, problems.get(run.method), request.test)
    runs = [run for run, *_ in planned]
    return Plan(runs, [run for run in runs if run.method in problems], notes)


def complete(request: Request, defaults: Values | None = None) -> Request:
    """The request with the bundle's own percentage and preset where the user gave none.

    Raises:
        UserError: a setting that the command makes itself.
    """
    for key in request.overrides:
        if key.split(SEPARATOR)[0] in RESERVED:
            raise UserError(
                f"--set {key}: expected a setting that this command does not make itself, found one that it makes; "
                "see its other arguments"
            )
    defaults = defaults or own_values([request.train], request.bundle)
    percent = defaults.get("percent", (int, float)) if request.percent is None else request.percent
    return replace(request, percent=percent, preset=request.preset or defaults.get("preset", str))


def check(request: Request) -> None:
    """Check the config for every method, without any plan.

    Raises:
        UserError: mistakes that all methods share.
    """
    _examined(request, own_values([request.train], request.bundle), strict=True)


def _examined(
    request: Request, defaults: Values, strict: bool
) -> tuple[dict[str, dict[str, Any]], dict[str, str], list[str]]:
    """By method, the content of run.json that its seeds have in common; the problem of those that have one; notes.

    Raises:
        UserError: every method has one, and this is `strict`.
    """
    about, problems, notes = {}, {}, list[str]()
    for method in request.methods:
        findings = Findings()
        about[method] = _about(request, method, defaults, findings)
        if findings.problems:
            problems[method] = findings.problems
        notes += [note for note in findings.notes if note not in notes]
    if strict and len(problems) == len(about):
        lines = list(dict.fromkeys(line for found in problems.values() for line in found))
        several = f"{len(lines)} problems\n  " if len(lines) > 1 else ""
        raise UserError(f"{request.train}: {several}" + "\n  ".join(lines))
    return about, {method: "; ".join(found) for method, found in problems.items()}, notes


def _about(request: Request, method: str, defaults: Values, findings: Findings) -> dict[str, Any]:
    from scripts.methods.variants import VARIANTS  # here, since it imports torch

    values, cases, _ = examine([request.train], request.words(method, request.seeds[0]), findings, defaults)
    files = {key: Path(values.get(key, str) or "") for key in ("datalist", "split_file")}
    if request.test and cases is not None and not cases.roles["test"]:
        findings.problem("--test", f"expected test cases in {files['split_file']}, found none; go without --test")
    epochs, steps = values.get("train::trainer::max_epochs", int, 0), values.get("train::dataloader::steps", int, 0)
    length = (epochs or 0) * (steps or 0)
    shared = {
        "bundle": request.bundle.name,
        "data": read_datalist(files["datalist"]).get("name", "") if cases is not None else "",
        "split": files["split_file"].stem,
        "percent": request.percent,
        "preset": request.preset,
        **({"steps": length} if request.minutes is None else {"minutes": request.minutes}),
    }
    shared |= {f"content of {key}": sha256(file) for key, file in files.items() if file.is_file()}
    variant_of = VARIANTS[method].method if method in VARIANTS else None
    labels = list((values.get("labels", dict) or {}).values())
    about = {"method": method, "variant_of": variant_of, "labels": labels, "steps": length, "shared": shared}
    scored = [case for role in ("validation", "test") for case in cases.roles[role]] if cases is not None else []
    patients = {str(case.get("id")): str(case.get("patient")) for case in scored}  # the unit of the statistics
    return about | {"set": request.settings(method), "patients": patients}


def resolved(request: Request, method: str, seed: int) -> dict[str, Any]:
    """The config with its overrides, and with values in place of references and expressions where they can be told.

    What names one of PLACES stays as it is, so that the config can be run again elsewhere: with another run_dir.
    """
    findings = Findings()  # `_examined` has told them
    values = Values(load_config([request.train], parse_overrides(request.words(method, seed), findings), findings))

    unknown = object()

    def at(item_id: str, content: Any) -> Any:
        def inside(key: object, child: Any) -> Any:
            return at(f"{item_id}{SEPARATOR}{key}" if item_id else str(key), child)

        if isinstance(content, dict) and content.get("_target_") in CALLED:
            return values.get(item_id, object, content)
        if isinstance(content, dict):
            return {key: inside(key, child) for key, child in content.items()}
        if isinstance(content, list):
            return [inside(i, child) for i, child in enumerate(content)]
        if not str(content).startswith(("$", "@")) or NAMES_A_PLACE.match(content):
            return content
        value = values.get(item_id, object, unknown)
        return value if _is_plain(value) else content

    whole: dict[str, Any] = at("", values.config.tree)
    return whole


def _is_plain(value: Any) -> bool:
    """Whether JSON has this value."""
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(one) for key, one in value.items())
    return value is None or isinstance(value, bool | int | float | str)


def _expect_alike(output: Path, planned: Sequence[tuple[Run, Mapping[str, Any], Mapping[str, Any]]]) -> None:
    """Compare with the runs that have begun: all of them share some settings, and one that goes on has all of its own.

    Raises:
        UserError: they differ.
    """
    lines = []
    shared = planned[0][1]["shared"]
    for file in sorted(output.glob(f"*/seed*/{RUN}")):
        found = differences(read_json(file, "description of a run")["shared"], shared)
        if found and _has_begun(file.parent):
            lines.append(f"{file.parent}: {found}")
    for run, content, config in planned:
        if (run.folder / CONFIG).is_file():
            before = dict(_without_places(read_json(run.folder / CONFIG, "config of a run")))
            # What today's code has in addition is its default, unless this command sets it.
            new = {
                key: value
                for key, value in _without_places(config)
                if key in before or any(f"{key}{SEPARATOR}".startswith(f"{one}{SEPARATOR}") for one in content["set"])
            }
            found = differences(before, new)
            if found and _has_begun(run.folder):
                lines.append(f"{run.folder}: {found}")
    if lines:
        expected = f"{output}: expected the settings of the runs that are there; choose another --output"
        raise UserError("\n  ".join([expected, *lines]))


def _claim(run: Run, content: Mapping[str, Any], config: Mapping[str, Any], problem: str | None, test: bool) -> None:
    """Write the files of a run that is not over, unless somebody works on it."""
    run.folder.mkdir(parents=True, exist_ok=True)
    with held(run.folder) as lock:
        if lock is None or is_finished(read_state(run.folder), test):
            return
        write_json(run.folder / CONFIG, config)
        write_json(run.folder / RUN, content)
        if problem is not None:
            write_state(run.folder, state=FAILED, error=problem, finished=now())


def _has_begun(folder: Path) -> bool:
    """Whether a run has results to lose, or somebody works on it."""
    if "sha256" in read_state(folder) or (folder / RESUME).is_file():
        return True
    with held(folder) as lock:
        return lock is None


def _without_places(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The values of a config by id, but for PLACES and what does not matter."""
    tree = Config()
    tree.tree = {key: value for key, value in config.items() if key not in (*IRRELEVANT, *PLACES)}
    return ((item_id, value) for item_id, value in tree.items() if not isinstance(value, dict | list))


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """What two sets of settings do not have in common, in words; the first few."""
    found = [
        f"{key} {old.get(key, 'not set')} there, {new.get(key, 'not set')} here"
        for key in dict.fromkeys([*old, *new])
        if old.get(key) != new.get(key)
    ]
    return first_few(found, MOST_NAMED)
