"""What is measured on a GPU, on a CPU at tiny sizes: all of it but captures."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import steps
from benchmarks.gpu import compiling, data, floor, inference, methods, training, variants, ways
from benchmarks.gpu.sheet import Sheet
from benchmarks.gpu.timing import Clock
from benchmarks.gpu.ways import AS_IT_IS, Taken, Way
from benchmarks.inference import MODEL
from benchmarks.steps import Task
from scripts.data.on_device import DeviceLoader, create_loader
from tests.benchmarks.test_inference import SMALL

CLOCK = Clock(torch.device("cpu"), rounds=2, seconds=0, warm_up=1)
SLICES = Task(16, dims=2, organs=3, width=2)
PATCHES = Task(32, dims=3, organs=4, width=2)


@pytest.fixture
def sheet() -> Sheet:
    return Sheet("subject")


def test_ceilings_are_rates_and_a_step_has_its_floor(sheet: Sheet) -> None:
    floor.rows(sheet, CLOCK, {"slices": SLICES}, side=64, copied=2**16)
    product, copy, *steps = sheet.rows.values()
    assert product["TFLOP/s"] == pytest.approx(2 * 64**3 / (product["ms"]["minimum"] / 1000) / 1e12)
    assert copy["GB/s"] == pytest.approx(2 * 2**16 / (copy["ms"]["minimum"] / 1000) / 1e9)
    for step in steps:
        assert step["floor_share"] == pytest.approx(step["floor_ms"] / step["ms"]["minimum"])
        assert step["operations"] > 500
        assert 0 < step["TFLOP"] < 0.1
        assert 0 < step["GB"] < 10


def test_goals_of_a_step_are_shares_of_its_opponents(sheet: Sheet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(training.AT_MOST, SLICES, 1e9)
    training.rows(sheet, CLOCK, {"slices": SLICES})
    cps, plain, ours = (row["ms"] for row in sheet.rows.values())
    found = [max(ours[kind] / other[kind] for kind in ("minimum", "median")) for other in (cps, plain)] + [
        ours["median"]
    ]
    assert [goal["found"] for goal in sheet.goals] == pytest.approx(found)
    assert [goal["at_most"] for goal in sheet.goals] == [0.5, 0.25, 1e9]
    assert sheet.goals[-1]["reached"]


def test_variant_that_fails_is_a_row_with_its_error_and_the_others_go_on(sheet: Sheet) -> None:
    some = {"as it is": AS_IT_IS, "wrong": Way(compiled="nonsense"), "checkpointing": Way(checkpointing=True)}
    variants.rows(sheet, CLOCK, {"slices": SLICES}, some)
    first, wrong, last = sheet.rows.values()
    assert wrong == {"error": "ValueError: expected network or dfam to be compiled, found 'nonsense'"}
    assert first["times_as_fast"] == 1
    assert last["times_as_fast"] == first["ms"]["minimum"] / last["ms"]["minimum"]
    assert sheet.failed


@pytest.mark.parametrize(
    ("what", "parts"),
    [
        ("dfam", {"DFAM.forward": 6}),  # of three levels, the student's and the teacher's
        (
            "network",
            {f"DCANet.{part}": 1 for part in ("decode", "expert_outputs", "aggregated_outputs", "predictions")},
        ),
    ],
)
def test_what_is_compiled_is_what_a_step_calls(
    what: str, parts: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: Counter[str] = Counter()

    def compiled(function: Any, **options: Any) -> Any:
        def call(*args: Any) -> Any:
            calls.update([function.__qualname__])
            return function(*args)

        return call

    monkeypatch.setattr(torch, "compile", compiled)
    Taken(SLICES, Way(compiled=what))()
    assert calls == parts


def test_compiled_dfams_do_the_same_and_every_level_has_code_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    graphs = []
    monkeypatch.setattr(ways, "COMPILER", lambda graph, inputs: graphs.append(graph) or graph.forward)
    eager, compiled = (Taken(SLICES, Way(amp=False, compiled=what)) for what in ("", "dfam"))
    expected, found = ({key: float(value) for key, value in step().items()} for step in (eager, compiled))
    assert found == pytest.approx(expected, rel=1e-5)
    assert len(graphs) == 6


def test_switches_of_the_libraries_are_back_afterwards() -> None:
    cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, products.allow_tf32
    with ways.backends(Way(deterministic=not before[0], benchmark=not before[1], tf32=True)):
        assert (cudnn.deterministic, cudnn.benchmark) == (not before[0], not before[1])
        assert cudnn.allow_tf32
        assert products.allow_tf32
    assert (cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, products.allow_tf32) == before


def test_every_method_takes_steps(sheet: Sheet) -> None:
    methods.rows(sheet, Clock(torch.device("cpu"), rounds=1, seconds=0, warm_up=1), SLICES)
    assert {name: row for name, row in sheet.rows.items() if "error" in row} == {}
    assert len(sheet.rows) == len(methods.METHODS)


def test_trainings_wait_as_long_as_their_steps_take_more_than_on_one_batch(sheet: Sheet) -> None:
    data.rows(sheet, CLOCK, {"slices": SLICES}, {2: 1})
    base, on_device, at_work, on_host = sheet.rows.values()
    assert [len(row["ms"]["all"]) for row in (base, on_device, on_host)] == [2] * 3
    assert on_device["waits"] == data.waiting(on_device, base)
    assert on_host["waits"] == data.waiting(on_host, base)
    assert at_work["share"] == at_work["busy_ms"] / on_device["ms"]["median"] > 0
    assert [goal["at_most"] for goal in sheet.goals] == [0.02, 0.1]


@pytest.mark.parametrize("task", [SLICES, PATCHES])
def test_streams_of_a_task_make_its_batches_on_the_device(task: Task) -> None:
    loader = create_loader(*data.streams(task), (2, 2), 1, 0, on_device=True)
    assert type(loader) is DeviceLoader  # which knows the random transforms of the bundles
    expected = {name: (values.shape, values.dtype) for name, values in ways.fed(task).items()}
    [batch] = loader
    assert {name: (values.shape, values.dtype) for name, values in batch.items()} == expected


def test_spans_that_overlap_count_once() -> None:
    assert data.covered([(5, 7), (0, 2), (1, 3), (1, 1.5), (6, 6.5)]) == 5


def test_waiting_is_a_share_of_the_longer_step() -> None:
    base, mine = ({"ms": {"minimum": a, "median": b}} for a, b in ((3, 6), (4, 12)))
    assert data.waiting(mine, base) == 0.5


def test_both_ways_of_inference_are_measured(sheet: Sheet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(steps.predictor(Task(16, width=4)).state_dict(), tmp_path / "model.pt")
    monkeypatch.setenv(MODEL, str(tmp_path / "model.pt"))
    inference.rows(sheet, CLOCK, SMALL, size=(48, 48, 40), times=1)
    stock, ours = sheet.rows.values()
    assert sheet.goals[0]["found"] == max(ours["ms"][k] / stock["ms"][k] for k in ("minimum", "median"))
    assert sheet.goals[-1]["reached"]


def test_the_compilers_share_is_a_subject_of_its_own() -> None:
    assert [way.compiled for way in compiling.VARIANTS.values()] == ["", "dfam", "network"]
