"""The other side of a worker: started anew when a candidate killed it or ran over its time."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import Self

from einsum_compiler import knobs
from einsum_compiler.tuning.messages import Done, Failed, Request
from einsum_compiler.tuning.task import Task

START = 120.0  # seconds for a process to import PyTorch
ENTRY = "import sys; from einsum_compiler.tuning.worker import main; main(int(sys.argv[1]))"


@dataclass
class Process:
    """One worker process and its successors."""

    task: Task
    _popen: subprocess.Popen[bytes] | None = None
    _connection: Connection | None = None
    _messages: Path | None = None

    def send(self, request: Request) -> None:
        """Ask; a process is started if there is none."""
        if self._popen is None:
            self._start()
        assert self._connection is not None
        with suppress(BrokenPipeError):  # it died: ``receive`` says how
            self._connection.send(request)

    def receive(self, seconds: float, limit: float) -> Done | Failed:
        """The answer within ``seconds``, or what happened instead of one; then the process is gone. ``limit``: what it was given in all."""
        assert self._connection is not None
        try:
            if self._connection.poll(seconds):
                found = self._connection.recv()
                assert isinstance(found, Done | Failed)
                return found
        except (EOFError, ConnectionResetError):
            return self._died()
        self.stop()
        return Failed("Timeout", f"no answer in {limit:.3g} s")

    def ask(self, request: Request, seconds: float) -> Done | Failed:
        """The answer of a process, which is started if there is none: that takes time of its own."""
        extra = 0.0 if self._popen else START
        self.send(request)
        return self.receive(seconds + extra, seconds)

    @property
    def connection(self) -> Connection | None:
        return self._connection

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        self._messages = self.task.folder / f"worker-{theirs.fileno()}.log"
        with self._messages.open("wb") as messages:
            self._popen = subprocess.Popen(
                [sys.executable, "-c", ENTRY, str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                env=knobs.worker_environment(),
                stdin=subprocess.DEVNULL,
                stdout=messages,
                stderr=messages,
                # An interruption from the keyboard is for the search; and compilers end with their worker.
                start_new_session=True,
            )
        theirs.close()
        self._connection = Connection(ours.detach())
        self._connection.send(self.task)

    def _died(self) -> Failed:
        assert self._popen is not None
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(5)
        code, said = self._popen.returncode, self._last_words()
        self.stop()
        if code is not None and code < 0:
            with suppress(ValueError):
                return Failed("Crash", f"the process died of {signal.Signals(-code).name}")
        return Failed("Crash", f"the process ended with code {code}" + (f": {said}" if said else ""))

    def _last_words(self) -> str:
        assert self._messages is not None
        lines = self._messages.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""

    def stop(self) -> None:
        """End the process and what it started. The next request starts another."""
        if self._popen is None or self._connection is None:
            return
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()
        self._connection.close()
        self._popen = self._connection = None


@dataclass
class Pool:
    """Several workers for one task: they compile side by side, and the first one also checks and times, alone."""

    task: Task
    size: int
    processes: list[Process] = field(init=False)

    def __post_init__(self) -> None:
        self.processes = [Process(self.task) for _ in range(self.size)]

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
                    started = process.connection is not None
                    process.send(request)
                    busy[place] = name, time.monotonic() + seconds + (0 if started else START)
            left = min(end for _, end in busy.values()) - time.monotonic()
            wait([c for p in busy if (c := self.processes[p].connection) is not None], max(0.0, left))
            for place, (name, end) in list(busy.items()):
                connection = self.processes[place].connection
                if connection is None or connection.poll(0) or time.monotonic() >= end:
                    del busy[place]
                    yield name, self.processes[place].receive(0, seconds)

    def stop(self) -> None:
        for process in self.processes:
            process.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


@contextmanager
def folder() -> Iterator[Path]:
    """A folder for the files of one task."""
    with tempfile.TemporaryDirectory(prefix="einsum-tuning-") as name:
        yield Path(name)
