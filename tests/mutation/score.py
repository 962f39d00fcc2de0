"""What `make mutation` runs: mutmut changes one thing at a time in the files of [tool.mutmut]; tests have to notice it.

mutmut takes a module's name from its path, of which it only leaves out src/. So it runs in a folder of links, where
bundles/ has that name: .mutation/, in which `mutmut browse` and `mutmut show MUTANT` tell more. It changes what
functions do, but no constants of a module, no decorated functions and no calls of len.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

LINKS = {"src": "bundles", "tests": "tests", "tools": "tools", "pyproject.toml": "pyproject.toml"}
CONTROL = "tests/mutation/control.py"
LEAST = 85  # per cent of a file's mutants
# The exit status of the tests, or mutmut's own where no test calls the function (33) or it took too long.
KINDS = {1: "killed", 0: "survived", 33: "survived", **dict.fromkeys((-24, 24, 36, 152, 255), "timeouts")}


def statuses(folder: Path, file: str) -> dict[str, int | None]:
    """The exit status of the tests by mutant of a file, None where they were not run; empty without a mutant."""
    path = folder / "mutants" / f"{file}.meta"
    return json.loads(path.read_text(encoding="utf-8"))["exit_code_by_key"] if path.is_file() else {}


def problems(folder: Path, files: Iterable[str]) -> Iterator[str]:
    """Why the counts say nothing, a line each."""
    if set(statuses(folder, CONTROL).values()) != {0}:
        yield f"{CONTROL}: expected all tests to pass with a change that changes nothing"
    for file in files:
        found = statuses(folder, file)
        odd = [f"{name} ({status})" for name, status in found.items() if status not in KINDS]
        if odd or not found:
            example = f"{len(odd)} without, such as {odd[0]}" if odd else "no mutant"
            yield f"{file}: expected mutants with a verdict, found {example}"


def table(folder: Path, files: Iterable[str]) -> tuple[list[str], bool]:
    """A line of counts for each file and for all, and whether each file's score suffices: timeouts are no kills."""
    total, enough = Counter[str](), True
    lines = [f"{'file':<37} mutants  killed  survived  timeouts   score"]
    for file in files:
        counts = Counter(KINDS[status] for status in statuses(folder, file).values())
        total += counts
        enough &= counts["killed"] >= LEAST / 100 * counts.total()
        lines.append(_line(file.removeprefix("src/scripts/"), counts))
    return [*lines, _line("all", total)], enough


def _line(title: str, counts: Counter[str]) -> str:
    killed, survived, timeouts = (counts[kind] for kind in ("killed", "survived", "timeouts"))
    score = killed / counts.total()
    return f"{title:<37} {counts.total():>7} {killed:>7} {survived:>9} {timeouts:>9} {score:>7.1%}"


def survivors(files: Iterable[str]) -> Iterator[str]:
    """The change of each mutant that was not killed, of the current folder."""
    from mutmut.mutation.diff_apply import get_diff_for_mutant  # reads its settings from the current folder

    for file in files:
        for name, status in statuses(Path(), file).items():
            if KINDS[status] != "killed":
                yield f"# {name}\n{get_diff_for_mutant(name, path=file)}\n"


def main(root: Path, options: Sequence[str]) -> int:
    """Exit status 0 if tests notice enough, 1 if they do not, 2 if nothing can be said; options: of `mutmut run`."""
    folder = root / ".mutation"
    shutil.rmtree(folder, ignore_errors=True)  # no verdict of an earlier run counts
    folder.mkdir()
    for link, target in LINKS.items():
        (folder / link).symlink_to(root / target)
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mutmut"]
    files = [file for file in settings["only_mutate"] if file != CONTROL]
    done = subprocess.run([Path(sys.executable).with_name("mutmut"), "run", *options], cwd=folder, check=False)
    found = ["mutmut stopped (see above)"] if done.returncode else list(problems(folder, files))
    if found:
        print("error: no score", *found, sep="\n", file=sys.stderr)
        return 2
    with contextlib.chdir(folder):
        Path("survivors.diff").write_text("\n".join(survivors(files)), encoding="utf-8")
    lines, enough = table(folder, files)
    print(*lines, f"what no test noticed: {folder.name}/survivors.diff", sep="\n")
    if not enough:
        print(f"error: expected tests to notice {LEAST} % of the changes of each file", file=sys.stderr)
    return 0 if enough else 1


if __name__ == "__main__":
    sys.exit(main(Path(__file__).resolve().parents[2], sys.argv[1:]))
