"""An interruption from the keyboard as something to wait for."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from types import FrameType


class Interruption:
    """SIGINT noted in place of raised: Python raises wherever it happens to be, and in a destructor or a callback of the garbage collector the exception is lost.

    ``happened``: there was one while it was ``awaited``.
    """

    def __init__(self) -> None:
        self.happened = False
        self._reader, self._writer = socket.socketpair()
        for end in (self._reader, self._writer):
            end.setblocking(False)

    @contextmanager
    def awaited(self) -> Iterator[None]:
        """Note interruptions meanwhile. Only the main thread receives signals, and a handler that somebody else has set stays."""
        ours = threading.current_thread() is threading.main_thread()
        if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            yield
            return
        signal.signal(signal.SIGINT, self._note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self._forget()  # one that came after the last wait

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.happened = True
        with suppress(BlockingIOError):  # full of earlier ones
            self._writer.send(b"!")

    def wait(self, connections: Sequence[Connection], seconds: float) -> None:
        """Until a connection can be read, or the time is over. Raises ``KeyboardInterrupt`` after an interruption, once."""
        if self._reader in wait([*connections, self._reader], max(0.0, seconds)):
            self._forget()
            raise KeyboardInterrupt

    def _forget(self) -> None:
        with suppress(BlockingIOError):
            self._reader.recv(4096)

    def close(self) -> None:
        """No waiting after this."""
        self._reader.close()
        self._writer.close()
