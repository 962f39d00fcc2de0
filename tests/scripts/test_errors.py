import errno
import os
import re
import subprocess
import sys

import pytest
from torch.utils.data import DataLoader

from scripts.errors import DISK_ADVICE, UserError, user_message
from scripts.settings import as_flag
from tools.common.paths import BUNDLES


def caught(action):
    """The error that the action raises."""
    with pytest.raises(Exception) as info:  # noqa: PT011 - any error will do
        action()
    return info.value


def wrapped(error, explicit):
    """The error inside two others, as MONAI and ignite do it."""

    def inner():
        try:
            raise error
        except Exception as cause:
            if explicit:
                raise RuntimeError("applying transform") from cause
            raise KeyError("while handling")  # noqa: B904 - the implicit context is what is tested

    def outer():
        try:
            inner()
        except Exception as cause:
            raise RuntimeError("engine run is terminating") from cause

    return caught(outer)


@pytest.mark.parametrize("explicit", [True, False])
def test_message_is_found_behind_other_errors(explicit):
    assert user_message(wrapped(UserError("a.nii: expected 1, found 2"), explicit)) == "a.nii: expected 1, found 2"


def test_message_of_several_problems_keeps_its_lines():
    assert user_message(UserError("a\nb")) == "a\nb"


@pytest.mark.parametrize("error", [None, ValueError("no"), FileNotFoundError(errno.ENOENT, "gone", "a.nii")])
def test_other_errors_have_no_message(error):
    assert user_message(error) is None


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_output_that_cannot_be_written_is_the_users_to_mend(code):
    message = user_message(wrapped(OSError(code, os.strerror(code), "runs/model.pt"), explicit=True))
    assert message is not None
    assert message == f"runs/model.pt: {DISK_ADVICE[code]}"


class Broken:
    """A data set whose only case is the user's mistake, as MONAI's transforms raise it."""

    def __len__(self):
        return 1

    def __getitem__(self, index):
        try:
            raise UserError("a.nii: expected 1, found 2; replace the file")
        except UserError as error:
            if self.direct:
                raise
            raise RuntimeError("applying transform") from error

    def __init__(self, direct):
        self.direct = direct


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("direct", [True, False])
def test_message_is_found_across_worker_processes(workers, direct):
    error = caught(lambda: list(DataLoader(Broken(direct), num_workers=workers)))
    assert user_message(error) == "a.nii: expected 1, found 2; replace the file"


def run_with_hook(body):
    code = f"from scripts.errors import UserError, report_in_one_line\nreport_in_one_line()\nprint('before')\n{body}"
    return subprocess.run([sys.executable, "-c", code], cwd=BUNDLES, capture_output=True, text=True)


def test_users_mistake_ends_the_process_with_one_line_and_code_2():
    done = run_with_hook(
        "try:\n    raise UserError('a.nii: expected 1, found 2')\n"
        "except UserError as error:\n    raise RuntimeError('engine') from error"
    )
    assert (done.returncode, done.stderr, done.stdout) == (2, "error: a.nii: expected 1, found 2\n", "before\n")


def test_a_process_that_loads_many_bundles_still_logs():
    done = run_with_hook("import logging\nfor _ in range(2000):\n    report_in_one_line()\nlogging.warning('one line')")
    assert (done.returncode, done.stderr) == (0, "WARNING:root:one line\n")


def test_users_mistake_in_a_thread_is_one_line_and_other_errors_there_keep_their_traceback():
    thread = "import threading\ndef run():\n    raise {}\none = threading.Thread(target=run)\none.start()\none.join()"
    done = run_with_hook(thread.format("OSError(28, 'No space left on device', 'events')"))
    assert (done.returncode, done.stderr) == (0, f"error: events: {DISK_ADVICE[errno.ENOSPC]}\n")
    assert "Traceback" in run_with_hook(thread.format("KeyError(1)")).stderr


def test_other_errors_keep_their_traceback_and_code_1():
    done = run_with_hook("{}['missing']")
    assert (done.returncode, done.stdout) == (1, "before\n")
    assert re.match(r"Traceback \(most recent call last\):\n", done.stderr)
    assert done.stderr.endswith("KeyError: 'missing'\n")


@pytest.mark.parametrize(("value", "flag"), [(True, True), (False, False), ("true", True), ("False", False)])
def test_switch_is_understood_as_a_bool_and_as_a_word(value, flag):
    assert as_flag("resume", value) is flag


@pytest.mark.parametrize("value", ["no", "", 0, 1, None])
def test_switch_of_another_value_is_refused(value):
    with pytest.raises(UserError, match=r"^resume: expected true or false, found "):
        as_flag("resume", value)
