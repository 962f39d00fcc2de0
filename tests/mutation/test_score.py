"""When the counts of `make mutation` suffice, and when they say nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.mutation import score

FILE = "src/scripts/small.py"
CODE = "def twice(number):\n    return number * 2\n\n\ndef half(number):\n    return number / 2\n"


def results(folder: Path, statuses: list[int | None], control: list[int | None]) -> Path:
    """The folder with mutmut's results for a file and for the change that changes nothing."""
    for file, found in ((FILE, statuses), (score.CONTROL, control)):
        path = folder / "mutants" / f"{file}.meta"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"exit_code_by_key": {f"mutant {i}": status for i, status in enumerate(found)}}))
    return folder


@pytest.mark.parametrize(("killed", "enough"), [(17, True), (16, False)])
def test_score_of_85_per_cent_suffices(tmp_path: Path, killed: int, enough: bool) -> None:
    folder = results(tmp_path, [1] * killed + [0] * (20 - killed), [0])
    lines, found = score.table(folder, [FILE])
    assert found == enough
    assert lines[1].split() == ["small.py", "20", str(killed), str(20 - killed), "0", f"{5 * killed}.0%"]


def test_neither_a_timeout_nor_a_function_without_tests_is_killed(tmp_path: Path) -> None:
    lines, enough = score.table(results(tmp_path, [1, 33, 36, -24], [0]), [FILE])
    assert lines[-1].split() == ["all", "4", "1", "1", "2", "25.0%"]
    assert not enough


def test_each_file_has_to_reach_the_score(tmp_path: Path) -> None:
    results(tmp_path, [1] * 99, [0])
    (tmp_path / "mutants/src/scripts/other.py.meta").write_text('{"exit_code_by_key": {"mutant": 0}}')
    assert score.table(tmp_path, [FILE])[1]
    assert not score.table(tmp_path, [FILE, "src/scripts/other.py"])[1]


@pytest.mark.parametrize(
    ("statuses", "control", "message"),
    [
        ([1, 0], [1], "expected all tests to pass with a change that changes nothing"),
        ([1, 0], [], "expected all tests to pass with a change that changes nothing"),
        ([], [0], f"{FILE}: expected mutants with a verdict, found no mutant"),
        ([1, None], [0], "found 1 without, such as mutant 1 (None)"),
        ([1, -9], [0], "found 1 without, such as mutant 1 (-9)"),
    ],
)
def test_counts_that_say_nothing_are_named(
    tmp_path: Path, statuses: list[int | None], control: list[int | None], message: str
) -> None:
    (found,) = score.problems(results(tmp_path, statuses, control), [FILE])
    assert message in found


def test_results_of_all_mutants_are_no_problem(tmp_path: Path) -> None:
    assert list(score.problems(results(tmp_path, [1, 0, 33, 36], [0]), [FILE])) == []


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of two functions."""
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)  # its functions are none of ours
    for folder in ("bundles/scripts", "tests/mutation", "tools"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "bundles/scripts/small.py").write_text(CODE)
    shutil.copy(score.__file__.replace("score.py", "control.py"), tmp_path / "tests/mutation")
    (tmp_path / "pyproject.toml").write_text(
        f"""[tool.mutmut]
source_paths = ["src/scripts", "{score.CONTROL}"]
only_mutate = ["{FILE}", "{score.CONTROL}"]
pytest_add_cli_args = ["-p", "tests.mutation.control", "-p", "no:cacheprovider"]
pytest_add_cli_args_test_selection = ["tests/test_small.py"]
"""
    )
    return tmp_path


# Passes in mutmut's process and fails in each of its forks, whatever the change.
NOT_IN_A_FORK = "os.environ.setdefault('FIRST', str(os.getpid())) == str(os.getpid())"


@pytest.mark.parametrize(
    ("checks", "status", "told"),
    [
        (["twice(3) == 6"], 1, "expected tests to notice 85 % of the changes of each file"),
        (["twice(3) == 6", "half(3) == 2"], 2, "error: no score\nmutmut stopped (see above)"),
        ([f"half(twice(3)) == 3 and {NOT_IN_A_FORK}"], 2, f"error: no score\n{score.CONTROL}: expected all tests to"),
    ],
)
def test_mutmut_itself_on_tests_that_notice_too_little_and_on_tests_that_fail_anyhow(
    project: Path, capfd: pytest.CaptureFixture[str], checks: list[str], status: int, told: str
) -> None:
    tests = "".join(f"def test_{i}():\n    assert {check}\n" for i, check in enumerate(checks))
    (project / "tests/test_small.py").write_text(f"import os\nfrom scripts.small import half, twice\n{tests}")
    assert score.main(project, ["--max-children", "1"]) == status
    assert told in "".join(capfd.readouterr())
    if status == 1:
        assert "+    return number * 2" in (project / ".mutation/survivors.diff").read_text()
