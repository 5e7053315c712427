"""Wall time of learning, which includes training that was done before a kill. Standard library."""

import time
from typing import Protocol, TypeVar


class Trained(Protocol):
    """A result of training with its wall times, those of earlier processes included."""

    @property
    def seconds(self) -> float: ...

    @property
    def compile_seconds(self) -> float: ...


TrainedT = TypeVar("TrainedT", bound=Trained)


class Stopwatch:
    """Seconds that an attacker has spent on learning since this was made."""

    def __init__(self) -> None:
        self._began, self._elsewhere = time.perf_counter(), 0.0

    def lap(self, began: float, trained: TrainedT) -> TrainedT:
        """Counts what a training took beyond this process; `began` is when it was asked for."""
        here = time.perf_counter() - began
        self._elsewhere += max(0.0, trained.seconds + trained.compile_seconds - here)
        return trained

    @property
    def seconds(self) -> float:
        """Wall time until now."""
        return time.perf_counter() - self._began + self._elsewhere
