"""A folder that a verb prepares beside the one that it replaces."""

from __future__ import annotations

import threading
from pathlib import Path

from tools.common.scratch import scratch_folder


def test_a_scratch_folder_vanishes_with_what_a_killed_one_left(tmp_path: Path) -> None:
    (tmp_path / ".a.partial").mkdir()
    (tmp_path / ".a.partial" / "left").touch()
    with scratch_folder(tmp_path / "a") as scratch:
        assert list(scratch.iterdir()) == []
        (scratch / "new").touch()
        (scratch / "new").rename(tmp_path / "a")
    assert [path.name for path in tmp_path.rglob("*")] == ["a"]


def test_second_writer_of_a_scratch_folder_waits_for_the_first(tmp_path: Path) -> None:
    happened: list[str] = []

    def second() -> None:
        with scratch_folder(tmp_path / "result") as scratch:
            happened.append("second")
            assert not list(scratch.iterdir())

    other = threading.Thread(target=second)
    with scratch_folder(tmp_path / "result") as scratch:
        (scratch / "file").touch()
        other.start()
        other.join(0.3)
        assert other.is_alive()
        assert (scratch / "file").exists()
        happened.append("first")
    other.join(60)
    assert happened == ["first", "second"]
    assert not list(tmp_path.iterdir())
