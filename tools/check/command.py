"""`python -m tools check CONFIG`: resolve a bundle's config without running it and name all that is wrong with it.

`check --untrusted BUNDLE` takes a stranger's bundle instead, reads it as data and executes nothing (`untrusted`).

MONAI's own parser computes the values that need no component: expressions are run, as by everyone who reads a bundle
(SECURITY.md). Of components only the method and its network are made, without memory, and nothing is written. Targets
and their arguments are looked up by import.
"""

from __future__ import annotations

import argparse
import ast
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from scripts.errors import UserError
from scripts.settings import as_flag

from ..common.config import SEPARATOR, Config
from ..common.findings import Findings
from ..common.merging import check_word, load_config, parse_overrides
from .cases import ROLES, Cases, check_files, check_labels, labelled_sizes, read_cases, read_labels
from .components import RANGE_CHECK, check_building, check_components, check_presets, method_options, named_methods
from .sizes import check_sizes
from .values import Values, check_expressions

# The ids that MONAI requires of a training and of an inference bundle (monai.bundle.properties).
TRAINING_IDS = (
    *("bundle_root", "device", "dataset_dir"),
    *("train::trainer", "train::trainer::max_epochs", "train::dataset", "train::inferer"),
)
INFERENCE_IDS = ("bundle_root", "device", "dataset_dir", "dataset", "evaluator", "network_def", "inferer")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("--read-labels", action="store_true", help="open every label file, too")
    parser.add_argument(
        "--untrusted",
        action="store_true",
        help="list what a stranger's bundle (folder, zip or tar) would run, load or reach, without running it",
    )
    parser.add_argument(
        "config",
        metavar="CONFIG",
        help="a config, or several to merge: \"['train.json','my.json']\"; with --untrusted, a bundle",
    )
    parser.add_argument(
        "overrides", nargs=argparse.REMAINDER, metavar="OVERRIDES", help="as for the bundle runner, such as --lr 0.1"
    )


def run(args: argparse.Namespace) -> int:
    """Check the config; print notes and a summary of what would run.

    Raises:
        UserError: all problems, one line each.
    """
    if args.untrusted or "--untrusted" in args.overrides:
        return _untrusted(args)
    words = [word for word in args.overrides if word != "--read-labels"]
    findings = Findings()
    files = _files(args.config)
    if len(files) > 1 and not args.config.startswith(("[", "(")):
        findings.note(f'the bundle runner takes several files only as a list: --config_file "{[*map(str, files)]}"')
    values, cases, groups = examine(files, words, findings)
    if cases is not None and (args.read_labels or len(words) < len(args.overrides)):
        read_labels(values, cases, findings)
    name = ", ".join(map(str, files))
    for note in findings.notes:
        print(f"note: {note}")
    findings.raise_if_any(name)
    print("\n  ".join([f"{name}: no problem found", *_summary(values, cases), *groups]))
    return 0


def _untrusted(args: argparse.Namespace) -> int:
    others = [word for word in args.overrides if word != "--untrusted"] + ["--read-labels"] * args.read_labels
    if others:
        raise UserError(f"--untrusted: expected a bundle and nothing else, found {' '.join(others)}; remove it")
    from .untrusted.report import report

    return report(Path(args.config))


def own_values(files: Sequence[Path], root: str | Path) -> Values:
    """The values of a config without overrides, but for the bundle's folder.

    Raises:
        UserError: a config that cannot be read.
    """
    return Values(load_config(files, {"bundle_root": str(root)}, Findings()))


def examine(
    files: Sequence[Path], words: Sequence[str], findings: Findings, own: Values | None = None
) -> tuple[Values, Cases | None, list[str]]:
    """All checks but the one that opens label files; what they find goes into `findings`.

    Args:
        files: the config, or several to merge.
        words: overrides as on the command line of the bundle runner.
        findings: takes what is wrong.
        own: `own_values` of the files, where the caller has them.

    Returns:
        The values of the config, its cases (None where they cannot be told), and lines on the groups of classes.

    Raises:
        UserError: a config that cannot be read.
    """
    folder = files[0].parent
    overrides = parse_overrides(words, findings)
    config = load_config(files, overrides, findings)
    if "bundle_root" in config and "bundle_root" not in overrides:
        _set_bundle_root(config, folder, findings)
    values = Values(config)
    texts = {key: value for key, value in overrides.items() if isinstance(value, str) and key in config}
    if texts:
        _check_words(texts, own or own_values(files, config.tree.get("bundle_root", ".")), findings)
    _check_required(values, findings)
    check_components(values, findings)
    check_presets(values, findings)
    if not findings.lines:
        check_building(values, findings)
    check_files(values, findings)
    cases = read_cases(values, findings)
    check_expressions(values, findings)
    check_sizes(values, cases, findings)
    check_labels(values, cases, folder / "metadata.json", findings)
    return values, cases, _groups(values, cases, findings)


def _files(text: str) -> list[Path]:
    """One path, several separated by commas, or a list of them as the bundle runner takes it."""
    if not Path(text).is_file() and text.startswith(("[", "(")):
        try:
            return [Path(str(name)) for name in ast.literal_eval(text)]
        except (SyntaxError, ValueError):
            raise UserError(f"CONFIG: expected a list like \"['a.json','b.json']\", found {text}") from None
    return [Path(text)] if Path(text).is_file() else [Path(name.strip()) for name in text.split(",")]


def _set_bundle_root(config: Config, folder: Path, findings: Findings) -> None:
    """Take the folder above configs/ as `bundle_root`, so that the check works from any folder."""
    own, root = str(config.get("bundle_root")), folder.parent if folder.name else folder / ".."
    if os.path.basename(os.path.abspath(folder)) == "configs":
        config.set("bundle_root", str(root))
        if not own.startswith("$") and os.path.abspath(own) != os.path.abspath(root):
            findings.note(f"checked as with --bundle_root {root}; run it with this, too, for its own is {own!r}")


def _check_words(texts: Mapping[str, str], own: Values, findings: Findings) -> None:
    """Note a word where the config computes something else; `load_config` sees only those that stand in it."""
    ranged = {key for _, found in own.config.components() if found["_target_"] == RANGE_CHECK for key in found}
    for key, text in texts.items():
        if key in ranged or key not in own.config or not str(own.config.get(key)).startswith("$"):
            continue
        if own.get(key, bool) is not None and text[:1] not in ("$", "@", "%"):
            try:
                as_flag(f"--{key}", text)  # which may come as a word
            except UserError as error:
                where, _, what = str(error).partition(": ")
                findings.problem(where, what)
        else:
            check_word(key, text, own.get(key, (int, float, list)), findings)


def _check_required(values: Values, findings: Findings) -> None:
    training = "train" in values.config
    for item_id in TRAINING_IDS if training else INFERENCE_IDS:
        if item_id not in values.config:
            kind = "a training" if training else "an inference"
            findings.problem(item_id, f"expected this id, which MONAI requires of {kind} config, found none")
    if "run" not in values.config:
        findings.problem("run", "expected this id, the expressions to run, found none")


def _groups(values: Values, cases: Cases | None, findings: Findings) -> list[str]:
    """The size groups of the classes, for a method that divides them and labelled cases that hold them all."""
    from scripts.methods.variants import VARIANTS

    name = values.get("method", str) or ""
    cls = named_methods().get(name)
    options = dict(VARIANTS[name].options) if name in VARIANTS else {}
    options |= values.get("method_options", dict) or {}
    sizes = labelled_sizes(cases, options.get("size_unit", "mm3")) if cases is not None else {}
    if cls is None or "grouping" not in method_options(cls) or not sizes or not all(sizes.values()):
        return []
    from scripts.grouping import group_classes

    rule = {"rule": options["grouping"]} if "grouping" in options else {}
    try:
        grouping = group_classes(sizes, manual=options.get("manual_groups"), **rule)
    except UserError as error:
        findings.problem(f"method_options{SEPARATOR}grouping", str(error))
        return []
    named = zip(grouping.names, grouping.groups, strict=True)
    return ["groups   " + "; ".join(f"{name} {', '.join(map(str, group))}" for name, group in named)]


def _summary(values: Values, cases: Cases | None) -> list[str]:
    """What would run, as far as it is known."""
    knobs = [f"{key} {value}" for key in ("method", "preset") if (value := values.get(key, str)) is not None]
    for key in ("image_size", "patch_size"):
        size = values.get(key, list)
        knobs += [f"{key} {' x '.join(map(str, size))}"] if size else []
    epochs = values.get("train::trainer::max_epochs", int)
    steps = values.get("train::dataloader::steps", int)
    trained = any(user.startswith("run") for user in values.config.references.get("train::trainer", []))
    if epochs and steps and trained:
        knobs.append(f"{epochs * steps} steps ({epochs} epochs of {steps})")
    expressions = values.config.get("run")
    shown = "; ".join(expressions) if isinstance(expressions, list) else expressions
    lines = [f"runs     {shown}", f"with     {', '.join(knobs)}"]
    if cases is not None:
        counts = [f"{len(cases.roles[role])} {role} ({cases.patients(role)} patients)" for role in ROLES]
        lines += [f"cases    {', '.join(counts)}"]
        lines += ["classes  " + ", ".join(f"{key} {name}" for key, name in cases.labels.items())]
    return lines
