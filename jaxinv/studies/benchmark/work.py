"""Works that can be timed over and over. Standard library."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple


class Timing(NamedTuple):
    """One timed run: image-iterations, and seconds without compiling."""

    image_iterations: int
    seconds: float


@dataclasses.dataclass(frozen=True)
class Work:
    """Something that can be timed over and over.

    Attributes:
      method: of `METHODS`.
      split: where the network is cut.
      phase: "attack", or "fit" for what is learned before.
      batch: images, or examples of a step, at once on each device.
      devices: how many.
      run: runs it once.
      images: of a run of an attack; 0 of a training.
      whole: how many times the steps of a run the method takes by itself.
      compile_seconds: wall time of compiling it.
      flops: of matrix products and convolutions, an image-iteration.
      memory_bytes: of a device: arguments, results and temporaries of the program that takes the
        steps, as compiled; None where that is not known.
    """

    method: str
    split: str
    phase: str
    batch: int
    devices: int
    run: Callable[[], Timing]
    images: int
    whole: float
    compile_seconds: float
    flops: float
    memory_bytes: int | None


def program_bytes(memory: Any) -> int:
    """Returns the bytes of a device that a compiled program needs, by its memory analysis."""
    kept = memory.argument_size_in_bytes + memory.output_size_in_bytes
    return int(kept + memory.temp_size_in_bytes - memory.alias_size_in_bytes)
