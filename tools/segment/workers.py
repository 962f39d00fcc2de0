"""The cases in this process, on a GPU a few at once, or in several processes, each of which loads the network once."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal
import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from logging.handlers import QueueHandler
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from types import SimpleNamespace
from typing import Any, cast

from scripts.errors import UserError, user_message

from ..common.gpus import Gpus
from ..common.stopping import killed_by
from .cases import Case
from .request import Request

# Is told of each case when it is over: what went wrong, or None.
Tell = Callable[[Case, str | None], None]
PATIENCE = 10.0  # seconds for a process that is told to end


def quiet() -> None:
    """What the tools say is shown, and what the libraries say is shown only where it matters."""
    logging.getLogger("tools").setLevel(logging.INFO)
    # MONAI warns of decoders that nobody asked for.
    logging.getLogger("monai").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", "NvImgCodecPydicomReader")


def segment_here(
    cases: Sequence[Case], request: Request, tell: Tell, progress: bool = False, overlap: int | None = None
) -> None:
    """Segment the cases in this process.

    Args:
        cases: what to segment.
        request: what to make of them.
        tell: is called with each case, in their order, when it is over, and with what went wrong, or None.
        progress: show a bar within each of them.
        overlap: how many are under way at once: while one has the network, others are loaded and written. None takes
            what suits the device (see `Ready`).

    Raises:
        UserError: a missing model, an unknown setting or device, weights of another network.
    """
    ready = request.ready(progress)
    overlap = min(overlap or ready.overlap, len(cases))
    if overlap > 1:
        _segment_overlapping(cases, ready.segment, tell, overlap)
        return
    for case in cases:
        tell(case, ready.segment(case))


def _segment_overlapping(
    cases: Sequence[Case], segment: Callable[[Case], str | None], tell: Tell, overlap: int
) -> None:
    """Segment the cases in so many threads, each of which takes the next case when it is done with one.

    Whatever ends this function ends them as Ctrl-C would, so that nothing half written stays, and waits for them.
    """
    busy: set[int] = set()
    over = False

    def in_thread(case: Case) -> str | None:
        busy.add(threading.get_ident())
        try:
            if over:  # it came for the next case too late to be among those that are interrupted
                raise KeyboardInterrupt
            return segment(case)
        finally:
            busy.discard(threading.get_ident())

    with ThreadPoolExecutor(overlap) as pool:
        try:
            for case, problem in zip(cases, pool.map(in_thread, cases), strict=True):
                tell(case, problem)
        finally:
            over = True
            pool.shutdown(wait=False, cancel_futures=True)
            for thread in list(busy):
                _interrupt(thread)


def _interrupt(thread: int) -> None:
    """Raise KeyboardInterrupt in a thread, between two of its steps in Python; Python has no function for it."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(KeyboardInterrupt))


def segment_in_processes(
    cases: Sequence[Case], request: Request, workers: int, tell: Tell, gpus: Gpus | None = None
) -> None:
    """Segment the cases in several processes; each takes the next case when it is done with one.

    A process that dies takes its case with it, and another one takes its place. Whatever ends this function ends them.

    Args:
        cases: what to segment, one or more.
        request: what to make of them.
        workers: how many processes; they share the processors, unless OMP_NUM_THREADS says how many threads each has.
        tell: is called in this process with each case when it is over, and with what went wrong, or None.
        gpus: the processes take them by turns; None leaves the choice to each.

    Raises:
        UserError: a missing model, an unknown setting or device, weights of another network; or a process died before
            its first case.
    """
    left = deque(cases)
    workers = min(workers, len(left))
    threads = max(1, len(os.sched_getaffinity(0)) // workers)
    gpus = gpus or Gpus()
    pool: list[_Worker] = []
    try:
        pool += [_Worker(request, threads, gpus) for _ in range(workers)]
        while pool:
            ready = wait([worker.pipe for worker in pool])
            for worker in [worker for worker in pool if worker.pipe in ready]:
                answer = worker.answer()
                if answer is None:
                    continue
                if worker.case is not None:
                    tell(worker.case, answer.problem)
                if answer.ended:
                    pool.remove(worker)
                    if left:
                        pool.append(_Worker(request, threads, gpus))
                elif left:
                    worker.give(left.popleft())
                else:
                    pool.remove(worker)
                    worker.stop()
    finally:
        for worker in pool:
            worker.process.terminate()
        for worker in pool:
            worker.stop()


@dataclass(frozen=True)
class _Answer:
    """A process is ready for a case, done with one, or, with `ended`, dead; `problem` is what went wrong."""

    problem: str | None = None
    ended: bool = False


class _Worker:
    """This process's end of one that segments."""

    def __init__(self, request: Request, threads: int, gpus: Gpus) -> None:
        # Not by forking, which neither CUDA nor threads survive.
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.case: Case | None = None
        self.gpu = contextlib.ExitStack()  # until it ends
        variables = dict(self.gpu.enter_context(gpus.one()))
        self.process = context.Process(target=_serve, args=(theirs, request, threads, variables), daemon=True)
        self.process.start()
        theirs.close()

    def give(self, case: Case) -> None:
        self.case = case
        with contextlib.suppress(ConnectionError):  # it has died: the next answer tells
            self.pipe.send(case)

    def answer(self) -> _Answer | None:
        """What it says; None for a line of its log."""
        try:
            said = self.pipe.recv()
        except (EOFError, ConnectionError):
            return self._end()
        if isinstance(said, UserError):
            raise said
        if isinstance(said, logging.LogRecord):
            logging.getLogger(said.name).handle(said)
            return None
        assert isinstance(said, _Answer)
        return said

    def _end(self) -> _Answer:
        self.process.join()
        self.gpu.close()
        code = self.process.exitcode or 0
        how = killed_by(-code) if code < 0 else f"ended with exit code {code}; see above"
        if self.case is None:
            raise UserError(f"--workers: expected processes that load the network, found one {how}; take fewer")
        return _Answer(f"the process that segmented it was {how}" if code < 0 else f"its process {how}", ended=True)

    def stop(self) -> None:
        """Wait for its end, which it takes for granted when nobody listens any more."""
        self.pipe.close()
        self.process.join(PATIENCE)
        if self.process.is_alive():
            self.process.kill()
        self.gpu.close()


def _serve(pipe: Connection, request: Request, threads: int, variables: dict[str, str]) -> None:
    """Segment what comes through the pipe until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the parent ends this process in order
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # what is half written is removed
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # before torch is imported
    os.environ.update(variables)
    logging.getLogger().addHandler(QueueHandler(cast(Any, SimpleNamespace(put_nowait=pipe.send))))
    quiet()
    try:
        segment = request.ready().segment
    except Exception as error:
        message = user_message(error)
        if message is None:
            raise
        pipe.send(UserError(message))
        return
    with contextlib.suppress(EOFError, ConnectionError):  # nobody listens any more
        pipe.send(_Answer())
        while True:
            pipe.send(_Answer(segment(pipe.recv())))
