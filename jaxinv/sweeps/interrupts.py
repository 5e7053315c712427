"""Signals that ask a sweep to stop: noted when they come, acted on where it is safe."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StoppedError(KeyboardInterrupt):
    """A signal asked to stop; the message says how to go on.

    Attributes:
      signal: its number; a shell reports 128 more.
    """

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.signal = number


@contextlib.contextmanager
def noted() -> Iterator[Callable[[], int | None]]:
    """Hands over a function that returns the number of the first signal that came, or None.

    What was to be ignored stays so (`nohup`). Python gives signals to its main thread alone; in
    another one, none is noted.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(number, lambda number, frame: received.append(number))
    try:
        yield lambda: received[0] if received else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
