"""Shards cover all cases, tell what became of them, and go on where a killed one stopped."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from scripts.errors import UserError
from tests.bundle_commands import SYNAPSE, TINY_3D
from tools.segment.cases import Case
from tools.segment.options import Options
from tools.segment.request import Request
from tools.segment.shards import Shard, read_shard, segment_on_cluster

SETTINGS = [f"{key.removeprefix('--')}={value.title()}" for key, value in zip(TINY_3D[::2], TINY_3D[1::2], strict=True)]


@pytest.mark.parametrize("of", [1, 2, 3, 7, 12])
def test_every_case_is_in_one_shard_and_they_differ_by_one_case_at_most(of: int) -> None:
    cases = [Case(str(number)) for number in range(7)]
    shares = [Shard(number, of).share(cases) for number in range(1, of + 1)]
    assert sorted((case for share in shares for case in share), key=lambda case: case.name) == cases
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "1/0", "a/b", "-1/2"])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="--shard: expected a number and how many there are"):
        read_shard(text)
    assert read_shard("2/8") == Shard(2, 8)


def test_a_request_is_the_same_after_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tools.__main__ import main
    from tools.segment import command as segment

    asked = Options(
        formats=("csv", "nifti"),
        model=tmp_path / "model.pt",
        device="cpu",
        series="1.2.3",
        phases=[0, 9],
        probabilities=True,
        disagreement=True,
        overwrite=True,
        settings=["overlap=0.5", "slab=8"],
    )
    understood: list[Request] = []

    def note(args: object) -> int:
        understood.append(segment._request(args))  # type: ignore[arg-type]
        return 0

    monkeypatch.setattr(segment, "run", note)
    for options in (asked, Options(formats=("nifti",), fast=True, settings=[]), Options(settings=[])):
        request = Request(source=tmp_path, output=tmp_path / "out", bundle=SYNAPSE, options=options)
        assert main(["segment", *request.words()]) == 0
        assert understood.pop() == request


def test_the_record_of_a_finished_case_keeps_its_keys() -> None:
    plain = {"fast": False, "formats": ["csv", "nifti", "seg"], "probabilities": False, "disagreement": False}
    plain |= {"phases": None, "set": []}
    assert list(Options().recorded().items()) == list(plain.items())
    asked = Options(model=Path("a"), device="cpu", overwrite=True, fast=True, phases=[9, 0], settings=["b=1", "a=2"])
    assert asked.recorded() == plain | {"fast": True, "phases": [9, 0], "set": ["a=2", "b=1"]}


def test_a_killed_shard_is_told_and_the_same_command_does_what_is_left(
    synapse_run: tuple[Path, str], abdomen_phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.common.clusters.POLL", 0.1)
    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    images = sorted((abdomen_phantom / "images").iterdir())[:4]
    for name, image in zip("abcd", images, strict=True):
        os.link(image, source / f"{name}.nii.gz")
    # Whoever opens the third image waits for ever: the first shard does, after its first case.
    (source / "c.nii.gz").unlink()
    os.mkfifo(source / "c.nii.gz")
    options = Options(formats=("nifti",), model=synapse_run[0] / "models", settings=SETTINGS)
    request = Request(source=source, output=output, bundle=SYNAPSE, options=options)
    cases = [Case(name, image=source / f"{name}.nii.gz") for name in "abcd"]
    report = Shard(1, 2).report(output)

    def kill() -> None:
        deadline = time.monotonic() + 120
        while not (report.is_file() and "a" in json.loads(report.read_text())["cases"]):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.kill(json.loads(report.read_text())["process"], signal.SIGKILL)

    def run() -> dict[str, str | None]:
        told: dict[str, str | None] = {}
        segment_on_cluster(
            cases, request, 2, lambda case, problem: told.update({case.name: problem}), {"timeout_min": 5}, "local"
        )
        return told

    killer = threading.Thread(target=kill)
    killer.start()
    told = run()
    killer.join()
    problem = told.pop("c")
    assert told == dict.fromkeys("abd")
    assert problem is not None
    assert "shard 1/2, ended before it" in problem
    assert Path(problem.split("; see ")[1]).is_file()
    before = {path: path.stat().st_mtime_ns for path in output.glob("?/*")}
    assert {path.parent.name for path in before} == set("abd")
    (source / "c.nii.gz").unlink()
    os.link(images[2], source / "c.nii.gz")
    assert run() == dict.fromkeys("abcd")
    assert {path.parent.name for path in output.glob("*/case.json")} == set("abcd")
    assert {path: path.stat().st_mtime_ns for path in before} == before
