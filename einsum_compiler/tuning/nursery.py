"""A process that has imported everything and forks workers: a candidate that kills one costs milliseconds, not another import of PyTorch.

The other side holds a socket. ``s`` with a file descriptor and the path of a log starts a worker on that connection and answers its process id; ``w`` with an id waits
for that worker to end and answers its status. Neither CUDA nor OpenMP is touched here: their threads do not survive a fork.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from einsum_compiler import knobs
from einsum_compiler.ir.errors import BackendError

ENTRY = "import sys; from einsum_compiler.tuning.nursery import serve; serve(int(sys.argv[1]))"
NUMBER = struct.Struct("q")


class Nursery:
    """The side of the search. Workers are in sessions of their own: an interruption from the keyboard is for the search alone."""

    def __init__(self, folder: Path) -> None:
        self._socket, theirs = socket.socketpair()
        self._messages = folder / "nursery.log"
        with self._messages.open("wb") as messages:
            self._popen = subprocess.Popen(
                [sys.executable, "-c", ENTRY, str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                env=knobs.worker_environment(),
                stdin=subprocess.DEVNULL,
                stdout=messages,
                stderr=messages,
                start_new_session=True,
            )
        theirs.close()

    def start(self, descriptor: int, log: Path) -> int:
        """Fork a worker that talks at the other end of ``descriptor``; its process id."""
        return self._asked(b"s" + os.fsencode(log), [descriptor])

    def status(self, worker: int) -> int:
        """Wait for a worker to end; its exit code, negative for a signal."""
        return self._asked(b"w" + NUMBER.pack(worker), [])

    def _asked(self, message: bytes, descriptors: list[int]) -> int:
        with suppress(BrokenPipeError):
            socket.send_fds(self._socket, [message], descriptors)
            answer = self._socket.recv(NUMBER.size)
            if answer:
                return int(NUMBER.unpack(answer)[0])
        said = self._messages.read_text(errors="replace").strip().splitlines() if self._messages.exists() else []
        raise BackendError(
            "the process that starts the workers of the tuner has ended", None, (said[-1],) if said else ()
        )

    def stop(self) -> None:
        """End it; workers end with it."""
        self._socket.close()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()


def serve(descriptor: int) -> None:
    """Fork workers until the other side goes away."""
    from einsum_compiler.tuning.worker import die_with_the_parent, main

    die_with_the_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _import_all()
    control = socket.socket(fileno=descriptor)
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 4096, 1)
        if not message:
            return
        if message[:1] == b"w":
            _, status = os.waitpid(NUMBER.unpack(message[1:])[0], 0)
            control.send(NUMBER.pack(os.waitstatus_to_exitcode(status)))
            continue
        worker = os.fork()
        if worker == 0:
            os.setsid()
            control.close()
            log = os.open(os.fsdecode(message[1:]), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(log, 1)
            os.dup2(log, 2)
            code = 1
            try:
                main(descriptors[0])
                code = 0
            except BaseException:
                import traceback

                traceback.print_exc()
                raise
            finally:
                sys.stderr.flush()
                os._exit(code)
        os.close(descriptors[0])
        control.send(NUMBER.pack(worker))


def _import_all() -> None:
    """What a worker that compiles, evaluates and times will import."""
    import einsum_compiler.backends.cpu.emit
    import einsum_compiler.backends.reference.evaluate
    import einsum_compiler.passes.lowering.lower
    import einsum_compiler.passes.registry
    import einsum_compiler.specialise
    import einsum_compiler.tuning.sampled
    import einsum_compiler.tuning.static
    import einsum_compiler.validate  # noqa: F401
