"""Levels that run again in the backward pass: the same training bit for bit, for less memory."""

from __future__ import annotations

import copy
import json
from collections import Counter
from pathlib import Path

import pytest
import torch

from benchmarks import steps
from scripts.errors import UserError
from scripts.methods import METHODS
from scripts.methods.base import Method
from scripts.networks import recompute_finest_levels
from scripts.training.engine import SemiSupervisedTrainer
from tests.method_cases import batch, small_method
from tests.tiny_training import CPU, fingerprint

PATCH = (48, 16, 16)  # of these sizes torch computes gradients right in bfloat16, too (see `miscomputed_in_bfloat16`)


def trained(method: Method, spatial: tuple[int, ...], precision: torch.dtype | None = None) -> tuple[list[float], str]:
    """The losses of two steps, and everything that the method is after them, gradients included."""
    optimizer = torch.optim.SGD(method.parameters(), lr=0.01, momentum=0.9)
    losses = []
    for step in range(2):
        torch.manual_seed(step)  # of dropout and of what methods draw
        optimizer.zero_grad()
        with torch.autocast("cpu", precision, enabled=precision is not None):
            found = method(*batch(spatial, seed=step), 0.5 + 0.1 * step)
        found["loss"].backward()
        optimizer.step()
        method.after_step(0.5)
        losses += [loss.item() for loss in found.values()]
    return losses, fingerprint([method.state_dict(), [p.grad for p in method.parameters()]])


def with_checkpointing(method: Method) -> Method:
    recompute_finest_levels(method)
    return method


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_trains_bit_for_bit_alike(name: str) -> None:
    plain, other = (small_method(name, network={"dropout": 0.2}) for _ in range(2))
    assert trained(with_checkpointing(other), (32, 32)) == trained(plain, (32, 32))


@pytest.mark.parametrize("precision", [None, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["dca", "cps", "a_and_d"])
def test_volumes_train_bit_for_bit_alike(name: str, precision: torch.dtype | None) -> None:
    plain, other = (small_method(name, spatial_dims=3) for _ in range(2))
    assert trained(with_checkpointing(other), PATCH, precision) == trained(plain, PATCH, precision)


def test_statistics_remember_each_batch_once() -> None:
    method = with_checkpointing(small_method("cps"))
    trained(method, (32, 32))
    counts = [int(n) for name, n in method.predictor.named_buffers() if name.endswith("num_batches_tracked")]
    assert len(counts) > 30
    assert set(counts) == {2}


def runs_of_levels(method: Method) -> list[int]:
    """How often each level of the predictor's encoder, and then of its last decoder, ran in a step; finest last."""
    runs: Counter[int] = Counter()
    net = method.predictor
    levels = [*reversed(net.encoder.levels), *net.aggregation.levels]
    for i, level in enumerate(levels):
        inner = next(module for module in level.modules() if isinstance(module, torch.nn.Conv2d))
        inner.register_forward_hook(lambda *_, i=i: runs.update([i]))
    trained(method, (32, 32))
    return [runs[i] // 2 for i in range(len(levels))]


def test_the_finest_two_levels_run_twice_and_the_others_once() -> None:
    options = {"teacher_decay": 0.0, "mix": "none"}  # nothing runs besides
    assert runs_of_levels(small_method("dca", **options)) == [1] * 9
    method = with_checkpointing(small_method("dca", **options))
    assert runs_of_levels(method) == [1, 1, 1, 2, 2, 1, 1, 2, 2]


def test_without_gradients_everything_runs_once_and_gives_the_same() -> None:
    plain, method = small_method("dca"), with_checkpointing(small_method("dca"))
    image, runs = batch()[0], []
    method.predictor.encoder.levels[0][0][0][0].register_forward_hook(lambda *_: runs.append(1))
    with torch.no_grad():
        assert torch.equal(method.eval().predictor(image), plain.eval().predictor(image))
    assert len(runs) == 1


def bytes_kept(method: Method) -> int:
    """What a forward pass keeps for the gradients, the parameters not counted."""
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    data = steps.batch(steps.Task(32))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        method(data["image"], data["label"], data["image_u"], steps.PROGRESS)
    own = {p.untyped_storage().data_ptr() for p in method.parameters()}
    return sum(storage.nbytes() for pointer, storage in kept.items() if pointer not in own)


def test_less_than_half_is_kept_for_the_gradients() -> None:
    plain = steps.dca(steps.Task(32, width=8), {})
    assert bytes_kept(with_checkpointing(copy.deepcopy(plain))) < 0.47 * bytes_kept(plain)


def test_a_copy_of_a_network_runs_its_own_levels() -> None:
    method = with_checkpointing(small_method("supervised"))
    other, before = copy.deepcopy(method), fingerprint(method.state_dict())
    assert trained(other, (32, 32)) == trained(small_method("supervised"), (32, 32))
    assert fingerprint(method.state_dict()) == before


@pytest.mark.parametrize(("value", "runs"), [(False, 1), (True, 2), ("true", 2)])
def test_the_trainer_has_a_switch(value: bool | str, runs: int) -> None:
    method = small_method("supervised")
    optimizer = torch.optim.SGD(method.parameters(), 0.05)
    SemiSupervisedTrainer(CPU, 1, [None], method, optimizer, checkpointing=value)  # type: ignore[arg-type]
    seen: list[int] = []
    method.predictor.encoder.levels[0][0][0][0].register_forward_hook(lambda *_: seen.append(1))
    method(*batch(), 0.5)["loss"].backward()
    assert len(seen) == runs


def test_another_word_for_the_switch_is_an_error() -> None:
    method = small_method("supervised")
    optimizer = torch.optim.SGD(method.parameters(), 0.05)
    with pytest.raises(UserError, match=r"^checkpointing: expected true or false, found 'yes'$"):
        SemiSupervisedTrainer(CPU, 1, [None], method, optimizer, checkpointing="yes")  # type: ignore[arg-type]


@pytest.mark.parametrize("path", sorted(Path("bundles").glob("dca_*/configs/train.json")), ids=str)
def test_every_bundle_hands_the_switch_to_its_trainer(path: Path) -> None:
    config = json.loads(path.read_text(encoding="utf-8"))
    assert (config["checkpointing"], config["train"]["trainer"]["checkpointing"]) == (False, "@checkpointing")
