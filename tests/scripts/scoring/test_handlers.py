"""The files that an evaluation writes."""

import csv
from datetime import timedelta

import torch
from ignite.engine import Engine
from monai.handlers import IgniteMetricHandler, from_engine

from scripts.scoring.handlers import ScoreSaver
from scripts.scoring.metrics import SegmentationScores

LABELS = {"1": "liver", "2": "spleen"}


def items(cases):
    """Cases whose prediction hits class 1 and, in cases of an even number, class 2; {id: modality or None}."""
    label = torch.zeros(1, 4, 4)
    label[0, 0], label[0, 2] = 1, 2
    for case, modality in cases.items():
        pred = label.clone()
        pred[pred == 2] = 2 * (int(case[1:]) % 2 == 0)
        yield {"id": case, "pred": pred, "label": label} | ({"modality": modality} if modality else {})


def evaluate(batches, output_dir):
    """An evaluation of the batches of items, as the configs put it together."""
    scores = SegmentationScores(2, ("dice",), empty="zero")
    engine = Engine(lambda _, batch: batch)
    engine.state.rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
    handler = IgniteMetricHandler(scores, output_transform=from_engine(["pred", "label"]), save_details=False)
    handler.attach(engine, "dice")
    ScoreSaver({"voxels": scores}, output_dir, LABELS).attach(engine)
    engine.run(batches, epoch_length=len(batches))


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_files_have_no_modality_where_the_cases_have_none(tmp_path):
    evaluate([list(items({"c1": None, "c2": None}))], tmp_path)
    rows, summary = (read(tmp_path / f"{name}_voxels.csv") for name in ("scores", "summary"))
    assert list(rows[0]) == ["case", "class", "name", "dice", "unit", "empty", "policy"]
    assert list(summary[0]) == ["class", "name", "dice", "unit", "cases", "empty", "left_out", "policy"]
    assert [row["dice"] for row in summary] == ["1.000000", "0.500000", "0.750000"]


def test_modality_of_the_cases_is_a_column_and_has_its_own_means(tmp_path):
    batches = [list(items({"c1": "CT", "c2": "MR"})), list(items({"c4": "CT"})), list(items({"c3": None}))]
    evaluate(batches, tmp_path)
    rows, summary = (read(tmp_path / f"{name}_voxels.csv") for name in ("scores", "summary"))
    assert {row["case"]: row["modality"] for row in rows} == {"c1": "CT", "c2": "MR", "c4": "CT", "c3": ""}
    spleen = {row["modality"]: (row["dice"], row["cases"]) for row in summary if row["name"] == "spleen"}
    assert spleen == {"all": ("0.500000", "4"), "CT": ("0.500000", "2"), "MR": ("1.000000", "1")}


SHARES = {
    "no modality": [{"c1": None}, {"c2": None, "c4": None}],
    "a modality": [{"c1": "CT"}, {"c2": "MR", "c4": "CT"}],
    "one in the first process": [{"c1": "CT"}, {"c2": None, "c4": None}],
}


def evaluate_shares(rank, folder):
    """One of two processes: evaluates its cases of each share."""
    torch.distributed.init_process_group(
        "gloo", f"file://{folder}/store", timedelta(seconds=60), rank=rank, world_size=2
    )
    for name, share in SHARES.items():
        evaluate([list(items(share[rank]))], folder / name)
    torch.distributed.destroy_process_group()


def test_first_process_writes_the_cases_of_all(tmp_path):
    torch.multiprocessing.spawn(evaluate_shares, args=(tmp_path,), nprocs=2)
    for name, (first, second) in SHARES.items():
        evaluate([list(items(first | second))], tmp_path / "single")
        for file in ("scores_voxels.csv", "summary_voxels.csv"):
            assert (tmp_path / name / file).read_bytes() == (tmp_path / "single" / file).read_bytes()
