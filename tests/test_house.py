"""The rules of the house (CONTRIBUTING.md) that a machine can check."""

from __future__ import annotations

import ast
import json
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted((ROOT / "bundles" / "scripts").rglob("*.py"))
TOOLS = sorted((ROOT / "tools").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))

# What a packaged bundle may count on: MONAI's own environment.
ALLOWED_IN_SCRIPTS = {"scripts", "torch", "monai", "ignite", "numpy", "scipy", "skimage", "nibabel"}
ALLOWED_IN_SCRIPTS |= {"jsonschema", "referencing", *sys.stdlib_module_names}
# Beside it, only where the user asks for it, and so only inside a function (docs/architecture.md, "Rules").
OPTIONAL_IN_SCRIPTS = {"backends.py": {"openvino"}}
UNPICKLING = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
FORBIDDEN_CALLS = {"eval", "exec", "__import__"}
FORBIDDEN_METHODS = {"os.system", "os.popen", "yaml.load", "yaml.unsafe_load", "shutil.unpack_archive"}
FORBIDDEN_KEYWORDS = {"weights_only": False, "allow_pickle": True, "shell": True}
# The direction of the data flow: a room imports none of those that stand further along, or aside.
ROOMS = {"data", "grouping", "losses", "networks", "methods", "training", "inference", "scoring"}
NOT_ABOVE = {
    **dict.fromkeys(("errors", "gpu_memory", "files", "settings", "validation", "checkpoints"), ROOMS),
    **dict.fromkeys(("class_sizes", "group_names"), ROOMS),
    "grouping": ROOMS - {"grouping"},
    "data": ROOMS - {"data"},
    "networks": ROOMS - {"networks"},
    "losses": ROOMS - {"losses"},
    "scoring": ROOMS - {"scoring"},
    "methods": {"data", "training", "inference", "scoring"},
    "inference": {"grouping", "losses", "methods", "training", "scoring"},
    "training": {"inference"},
}
DATA_SETS = re.compile("acdc|synapse|btcv|amos", re.IGNORECASE)
TOP_FOLDERS = "work|workspace|farm|root|home|Users|mnt|media|opt|scratch|tmp"
MACHINE_PATH = re.compile(rf"(?<![\w.:/-])(?:/(?:{TOP_FOLDERS})/\w|[A-Z]:\\\w)")
DATA_OR_WEIGHTS = re.compile(r"\.(nii|nii\.gz|dcm|h5|npy|npz|pt|pth|ts|onnx|whl)$")


def dangers(tree: ast.AST) -> Iterator[str]:
    """What in a module could run or unpack something that came in as data."""
    for node in ast.walk(tree):
        for module in imported(node):
            if module.split(".")[0] in UNPICKLING:
                yield f"line {node.lineno}: imports {module}"
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        if called in FORBIDDEN_CALLS | FORBIDDEN_METHODS or called.endswith(".extractall"):
            yield f"line {node.lineno}: calls {called}"
        for keyword in node.keywords:
            if keyword.arg in FORBIDDEN_KEYWORDS and not (
                isinstance(keyword.value, ast.Constant) and keyword.value.value is not FORBIDDEN_KEYWORDS[keyword.arg]
            ):
                yield f"line {node.lineno}: {keyword.arg}={ast.unparse(keyword.value)}"


def imported(node: ast.AST, package: str = "") -> list[str]:
    """The modules that an import statement names; relative ones are resolved against `package`, or left out."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    if not node.level:
        return [node.module or ""]
    if not package:
        return []
    parents = package.split(".")[: len(package.split(".")) - node.level + 1]
    base = ".".join(parents + ([node.module] if node.module else []))
    return [base] if node.module else [f"{base}.{alias.name}" for alias in node.names]


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def versions_in(path: str, pattern: str) -> str:
    found = re.search(pattern, (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)
    assert found, f"no version in {path}"
    return found[1]


def offenders(paths, rule):
    """What a rule finds in files, by the file: a test per rule, which names every offender at once."""
    return {name(path): found for path in paths if (found := list(rule(path)))}


def test_code_neither_unpickles_nor_runs_data():
    assert offenders(SCRIPTS + TOOLS, lambda path: dangers(parse(path))) == {}


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "def f():\n    from dill import loads",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=trusted)",
        "numpy.load(path, allow_pickle=True)",
        "archive.extractall(folder)",
        "shutil.unpack_archive(path)",
        "eval(text)",
        "exec(text)",
        "os.system(command)",
        "subprocess.run(command, shell=True)",
        "yaml.load(text)",
    ],
)
def test_danger_is_recognised(code):
    assert list(dangers(ast.parse(code)))


@pytest.mark.parametrize("code", ["network.eval()", "torch.load(path, weights_only=True)", "subprocess.run([a, b])"])
def test_harmless_code_is_not_called_dangerous(code):
    assert list(dangers(ast.parse(code))) == []


def foreign_imports(path):
    """Imports that a bundle may not count on, and optional ones that are not left to the moment of their use."""
    tree, optional = parse(path), OPTIONAL_IN_SCRIPTS.get(path.name, set())
    packages = {module.split(".")[0] for node in ast.walk(tree) for module in imported(node)}
    yield from packages - ALLOWED_IN_SCRIPTS - optional
    for statement in tree.body:
        if not isinstance(statement, ast.ClassDef | ast.FunctionDef):
            modules = {module.split(".")[0] for node in ast.walk(statement) for module in imported(node)}
            yield from optional & modules


def test_scripts_import_only_what_a_bundle_may_count_on():
    assert offenders(SCRIPTS, foreign_imports) == {}


def imports_from_above(path):
    parts = path.relative_to(ROOT / "bundles").with_suffix("").parts
    package = ".".join(parts[:-1])
    modules = {module for node in ast.walk(parse(path)) for module in imported(node, package)}
    return {module.split(".")[1] for module in modules if module.startswith("scripts.")} & NOT_ABOVE.get(
        parts[1], set()
    )


def test_no_module_reaches_back_up_the_data_flow():
    assert offenders(SCRIPTS, imports_from_above) == {}


def test_relative_imports_are_resolved():
    node = ast.parse("from ..training import Trainer").body[0]
    assert imported(node, "scripts.methods") == ["scripts.training"]
    node = ast.parse("from .. import training").body[0]
    assert imported(node, "scripts.methods") == ["scripts.training"]


def test_scripts_name_no_data_set():
    def naming(path):
        lines = path.read_text(encoding="utf-8").splitlines()
        return [f"line {i}: {line.strip()}" for i, line in enumerate(lines, 1) if DATA_SETS.search(line)]

    assert offenders(SCRIPTS, naming) == {}


def test_modules_and_their_public_functions_and_classes_have_docstrings():
    def silent(path):
        tree = parse(path)
        kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
        public = [node for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_")]
        nodes = [tree, *public] if tree.body else []
        return [getattr(node, "name", "the module") for node in nodes if not ast.get_docstring(node)]

    assert offenders(SCRIPTS + TOOLS, silent) == {}


def test_files_stay_small_enough_to_read():
    def long(path):
        count = len(path.read_text(encoding="utf-8").splitlines())
        return [f"{count} lines"] if count >= 300 else []

    assert offenders(SCRIPTS + TOOLS + TESTS, long) == {}


def test_no_file_names_a_place_on_somebodys_machine(project_files):
    found = []
    for path in project_files:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:  # pictures
            continue
        found += [f"{name(path)}:{i}: {line.strip()}" for i, line in enumerate(lines, 1) if MACHINE_PATH.search(line)]
    assert found == []


@pytest.mark.parametrize("text", ["cd /" + "home/you/data", "'/" + "work/x'", "D:" + "\\data", "--source=/" + "mnt/d1"])
def test_machine_path_is_recognised(text):
    assert MACHINE_PATH.search(text)


@pytest.mark.parametrize("text", ["#!/usr/bin/env bash", "https://example.org/home/page", "runs/tmp/x", "../opt/y"])
def test_other_paths_are_not_called_machine_paths(text):
    assert not MACHINE_PATH.search(text)


def test_no_data_and_no_weights_in_the_project(project_files):
    assert [name(path) for path in project_files if DATA_OR_WEIGHTS.search(path.name)] == []
    assert [name(path) for path in project_files if path.stat().st_size > 1024 * 1024] == []


def test_versions_agree_everywhere():
    changelog = versions_in("CHANGELOG.md", r"^## \[(\d+\.\d+\.\d+)\]")
    assert tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"] == changelog
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"] == changelog
    bundles = sorted(ROOT.glob("bundles/dca_*/configs/metadata.json"))
    assert bundles, "there is no bundle"
    for path in bundles:
        metadata = json.loads(path.read_text(encoding="utf-8"))
        newest = max(metadata["changelog"], key=lambda version: tuple(map(int, version.split("."))))
        assert (name(path), metadata["version"], newest) == (name(path), changelog, changelog)
