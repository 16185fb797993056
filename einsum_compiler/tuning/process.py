"""The other side of a worker: started anew when a candidate killed it or ran over its time."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Self

from einsum_compiler.tuning.interruption import Interruption
from einsum_compiler.tuning.messages import Done, Failed, Request
from einsum_compiler.tuning.nursery import Nursery
from einsum_compiler.tuning.task import Task


@dataclass
class Process:
    """One worker process and its successors."""

    task: Task
    nursery: Nursery
    interruption: Interruption
    connection: Connection | None = None
    _worker: int = 0
    _log: Path = Path()

    def send(self, request: Request) -> None:
        """Ask; a process is started if there is none."""
        if self.connection is None:
            self._start()
        assert self.connection is not None
        with suppress(BrokenPipeError):  # it died: ``receive`` says how
            self.connection.send(request)

    def receive(self, seconds: float, limit: float) -> Done | Failed:
        """The answer within ``seconds``, or what happened instead of one; then the process is gone. ``limit``: what it was given in all.

        Raises ``KeyboardInterrupt`` after an interruption; the process goes on.
        """
        assert self.connection is not None
        self.interruption.wait([self.connection], seconds)
        try:
            if self.connection.poll(0):
                found = self.connection.recv()
                assert isinstance(found, Done | Failed)
                return found
        except (EOFError, ConnectionResetError):
            return self._died()
        self.stop()
        return Failed("Timeout", f"no answer in {limit:.3g} s")

    def ask(self, request: Request, seconds: float) -> Done | Failed:
        """The answer of a process, which is started if there is none."""
        self.send(request)
        return self.receive(seconds, seconds)

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        self._log = self.task.folder / f"worker-{theirs.fileno()}.log"
        self._worker = self.nursery.start(theirs.fileno(), self._log)
        theirs.close()
        self.connection = Connection(ours.detach())
        self.connection.send(self.task)

    def _died(self) -> Failed:
        code = self._end()
        if code < 0:
            with suppress(ValueError):
                return Failed("Crash", f"the process died of {signal.Signals(-code).name}")
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return Failed("Crash", f"the process ended with code {code}" + (f": {lines[-1]}" if lines else ""))

    def stop(self) -> None:
        """End the process and what it started. The next request starts another."""
        if self.connection is not None:
            self._end()

    def _end(self) -> int:
        """Make sure that the process and its children are gone; the exit code."""
        assert self.connection is not None
        self.connection.close()
        self.connection = None
        for end in (os.killpg, os.kill):  # it may not have a group of its own yet
            with suppress(ProcessLookupError, PermissionError):
                end(self._worker, signal.SIGKILL)
        return self.nursery.status(self._worker)


@dataclass
class Pool:
    """Several workers for one task: they compile side by side, and the first one also checks and times, alone."""

    task: Task
    size: int
    interruption: Interruption = field(init=False, default_factory=Interruption)
    nursery: Nursery = field(init=False)
    processes: list[Process] = field(init=False)

    def __post_init__(self) -> None:
        self.nursery = Nursery(self.task.folder)
        self.processes = [Process(self.task, self.nursery, self.interruption) for _ in range(self.size)]

    @property
    def first(self) -> Process:
        return self.processes[0]

    def each(self, requests: Mapping[str, Request], seconds: float) -> Iterator[tuple[str, Done | Failed]]:
        """The answers to named requests, as they come; each has so many seconds."""
        waiting = list(requests.items())
        busy: dict[int, tuple[str, float]] = {}
        while waiting or busy:
            for place, process in enumerate(self.processes):
                if place not in busy and waiting:
                    name, request = waiting.pop(0)
                    process.send(request)
                    busy[place] = name, time.monotonic() + seconds
            left = min(end for _, end in busy.values()) - time.monotonic()
            self.interruption.wait([c for p in busy if (c := self.processes[p].connection) is not None], left)
            for place, (name, end) in list(busy.items()):
                connection = self.processes[place].connection
                if connection is None or connection.poll(0) or time.monotonic() >= end:
                    del busy[place]
                    yield name, self.processes[place].receive(0, seconds)

    def stop(self) -> None:
        """End all workers; the next request starts others."""
        for process in self.processes:
            process.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.nursery.stop()
        self.interruption.close()


@contextmanager
def folder() -> Iterator[Path]:
    """A folder for the files of one task."""
    with tempfile.TemporaryDirectory(prefix="einsum-tuning-") as name:
        yield Path(name)
