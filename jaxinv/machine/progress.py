"""Progress of long work: compiled loops, which run in segments, and studies. Python, no JAX."""

import sys
import threading
import time
from collections.abc import Iterator, Sequence

from tqdm import tqdm

_SECONDS_PER_SEGMENT = 0.5
_SECONDS_WORTH_TELLING = 10.0


class Progress:
    """A progress bar on stderr (a terminal's only) over steps that run in compiled segments.

    Segments last about half a second, however long one step takes: the bar moves, and returning to
    Python costs nothing. The outcome of steps must not depend on their segments. A context manager.

    Args:
      total: steps in all.
      description: shown before the bar.
      start: steps already done.
    """

    def __init__(self, total: int, description: str, *, start: int = 0):
        self._bar = tqdm(
            total=total, initial=start, desc=description, unit="step", disable=None, leave=False
        )
        self._count = 1

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()

    def segments(self, steps: int) -> Iterator[tuple[int, int]]:
        """Yields `(first, count)` until `steps` steps are done.

        The caller runs steps `first .. first + count - 1` and waits for their result before it
        asks for the next segment.
        """
        first = 0
        while first < steps:
            count = self.segment(steps - first)
            yield first, count
            first += count
            self.advance(count)

    def segment(self, most: int) -> int:
        """Returns how many steps to run next, at most `most`, and starts the clock of `advance`."""
        self._running = min(self._count, most)
        self._began = time.perf_counter()
        return self._running

    def advance(self, amount: int) -> None:
        """Moves the bar by the amount that the segment has done."""
        seconds = max(time.perf_counter() - self._began, 1e-9)
        self._bar.update(amount)
        # At most fourfold at a time: the first segments pay for warming up.
        fitting = int(self._running * _SECONDS_PER_SEGMENT / seconds)
        self._count = max(1, min(4 * self._running, fitting))

    def show(self, text: str) -> None:
        """Puts text behind the bar."""
        self._bar.set_postfix_str(text, refresh=False)


class Pace:
    """Lines on stderr that tell how much of long work is done, and about how long the rest takes.

    Work that is short, or found done, is not told of. Threads may share it.

    Args:
      weights: of each part, about how long it takes beside others.
      done: says what is done with parts, as in "cuts screened".
      at_once: parts that are in work at any time: when one is done, the others are about half done.
    """

    def __init__(self, weights: Sequence[float], done: str, *, at_once: int = 1):
        self._parts, self._words, self._count, self._work = len(weights), done, 0, 0.0
        self._whole = sum(weights)
        self._begun = (at_once - 1) / 2 * self._whole / max(1, self._parts)
        self._began, self._lock = time.perf_counter(), threading.Lock()

    def advance(self, *weights: float) -> None:
        """Counts more parts as done, by default one of weight 1, and tells the rest."""
        with self._lock:
            self._count += len(weights or (1,))
            self._work += sum(weights or (1,))
            left, seconds = self._whole - self._work, time.perf_counter() - self._began
            begun = min(self._begun, left / 2)
            if seconds >= _SECONDS_WORTH_TELLING and self._count < self._parts and self._work:
                rest = seconds / (self._work + begun) * (left - begun)
                told = f"{self._count} of {self._parts} {self._words} in {clock(seconds)}"
                print(f"{told}; about {clock(rest)} to go.", file=sys.stderr, flush=True)


def clock(seconds: float) -> str:
    """Returns a time as people say it: `40 s`, `12 min`, `3 h 20 min`."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
