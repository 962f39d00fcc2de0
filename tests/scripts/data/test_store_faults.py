"""The store of preprocessed volumes is whole or not at all: damage, several builders, kills, full disks."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scripts.data import stores
from scripts.data.stores import ABOUT
from scripts.errors import UserError
from tests.stored_cases import Items, assert_as_computed, copied_cases, counted, entries, preprocessing, stored


@pytest.fixture
def items(abdomen_phantom: Path, tmp_path: Path) -> Items:
    return copied_cases(abdomen_phantom, tmp_path)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def of_objects(path: Path) -> None:
    np.save(path, np.array([{"a": 1}], object), allow_pickle=True)


DAMAGE: dict[str, Callable[[Path], None]] = {
    "an array cut short": lambda entry: truncate(entry / "image.npy"),
    "an empty array": lambda entry: os.truncate(entry / "label.npy", 0),
    "another array": lambda entry: np.save(entry / "image.npy", np.zeros((1, 2, 2, 2), np.float32)),
    "another type": lambda entry: np.save(entry / "label.npy", np.load(entry / "label.npy").view(np.int8)),
    "objects": lambda entry: of_objects(entry / "image.npy"),
    "a foreign file": lambda entry: (entry / "image.npy").write_bytes(b"PK\x03\x04" + bytes(100)),
    "no array": lambda entry: (entry / "image.npy").unlink(),
    "no description": lambda entry: (entry / ABOUT).unlink(),
    "half a description": lambda entry: os.truncate(entry / ABOUT, 100),
    "a foreign description": lambda entry: (entry / ABOUT).write_text("[1]"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_entry_is_noticed_and_made_anew(
    damage: Callable[[Path], None], items: Items, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    [entry] = [folder for folder, _ in stored(items[:1], tmp_path).entries]
    damage(entry)
    found = stored(items[:1], tmp_path)
    told = [record.getMessage() for record in caplog.records if record.name == "scripts.data.stores"]
    assert [message.startswith(f"{entry}: damaged") for message in told] == [True]
    assert_as_computed(found, items[:1])
    assert entries(tmp_path) == [entry]


def test_an_entry_that_vanishes_during_a_run_is_told_in_one_line(items: Items, tmp_path: Path) -> None:
    found = stored(items, tmp_path)
    shutil.rmtree(tmp_path / "store")
    with pytest.raises(UserError, match=r"expected the stored volume of this run, found: .*No such file") as caught:
        found[0]
    assert "\n" not in str(caught.value)


def test_two_builders_at_once_give_one_good_entry(items: Items, tmp_path: Path, monkeypatch: Any) -> None:
    barrier, built, write = threading.Barrier(2, timeout=60), [], stores.write_entry

    def write_together(folder: Path, item: Any, about: Any) -> None:
        folders.append(folder)
        barrier.wait()  # both have found no entry
        write(folder, item, about)

    folders: list[Path] = []
    monkeypatch.setattr(stores, "write_entry", write_together)
    builders = [threading.Thread(target=lambda: built.append(stored(items[:1], tmp_path))) for _ in range(2)]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join()
    assert len(set(folders)) == 2
    assert len(built) == 2
    assert len(entries(tmp_path)) == 1
    for one in built:
        assert_as_computed(one, items[:1])


def test_a_killed_builder_leaves_nothing_that_is_read(items: Items, tmp_path: Path, monkeypatch: Any) -> None:
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        monkeypatch.setattr(stores, "write_json", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        stored(items[:1], tmp_path)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    [left] = entries(tmp_path)
    assert left.suffix == ".partial"
    assert (left / "image.npy").exists()
    with counted(preprocessing()) as calls:
        assert_as_computed(stored(items[:1], tmp_path), items[:1])
    assert calls[0] == "a"
    assert len([entry for entry in entries(tmp_path) if entry != left]) == 1


def test_a_full_disk_is_told_while_writing(tmp_path: Path) -> None:
    (tmp_path / "image.npy").symlink_to("/dev/full")  # a device on which every write finds no space
    with pytest.raises(OSError, match="No space left") as caught:
        stores.write_entry(tmp_path, {"image": torch.zeros(1, 64, 64, 64)}, {})
    assert caught.value.errno == errno.ENOSPC


def test_a_full_disk_is_one_line_and_leaves_nothing(items: Items, tmp_path: Path, monkeypatch: Any) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(stores, "write_entry", full)
    with pytest.raises(UserError, match=r"store.*: expected to write a preprocessed volume, found: no space left"):
        stored(items, tmp_path)
    assert entries(tmp_path) == []
