"""A device that this machine does not have is told before anything depends on it."""

from __future__ import annotations

import pytest
import torch

from scripts.errors import UserError
from scripts.settings import expect_device

KNOWN = "device: expected one of this machine "


@pytest.fixture(params=[0, 2], ids=["no gpu", "two gpus"])
def gpus(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """A machine with so many GPUs, and a torch that is built for them."""
    count: int = request.param
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: count)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    return count


@pytest.mark.parametrize("as_text", [True, False])
@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:0", "cuda:1", "cuda:2", "mps"])
def test_device_is_one_of_the_machine(gpus: int, device: str, as_text: bool) -> None:
    value = device if as_text else torch.device(device)
    if device == "cpu" or (gpus and device in ("cuda", "cuda:0", "cuda:1")):
        expect_device("device", value)
        return
    with pytest.raises(UserError) as info:
        expect_device("device", value)
    machine = "cpu, cuda:0, cuda:1" if gpus else "cpu"
    assert str(info.value) == f"{KNOWN}({machine}), found {device}; name one of these, or leave it to the config"


def test_torch_without_cuda_is_named(gpus: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"found cuda:0; this torch is built without CUDA: install one that has it"):
        expect_device("device", "cuda:0")


@pytest.mark.parametrize("value", ["tpu", "cuda:x", "", None, {"a": 1}])
def test_what_names_no_device_is_refused(value: object) -> None:
    with pytest.raises(UserError, match=r"device: expected a device such as cpu or cuda:0, found .*; name one"):
        expect_device("device", value)
