"""Runs several jobs at once in threads, where one core would do most of each."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import jax

from jaxinv.machine import devices, environment, hosts

ResultT = TypeVar("ResultT")


def at_once() -> int:
    """Returns how many jobs `side_by_side` runs at once."""
    # Programs that several devices share, or messages to other hosts, must come in one order.
    alone = jax.default_backend() == "cpu" and devices.count() == hosts.count() == 1
    return environment.usable_cores() if alone else 1


@contextlib.contextmanager
def side_by_side(
    jobs: Sequence[Sequence[Callable[[], ResultT]]],
) -> Iterator[list[Callable[[], ResultT]]]:
    """Runs jobs in threads, several at once where the device is a CPU of several cores.

    Most of a short attack is compiled and run by one core. Where that is so, this hands over a
    function for each step of each job, in order, that waits for what the step returns. No step
    begins after the caller is done, or has failed, and none outlives the block.

    Args:
      jobs: their steps in turn; a step is never run before those ahead of it in its job are done,
        and not at all if one of these fails.
    """
    pool = ThreadPoolExecutor(max_workers=at_once())
    left = threading.Event()

    def run(job: Sequence[Callable[[], ResultT]], done: list[Future[ResultT]]) -> None:
        failed: BaseException | None = None
        for step, future in zip(job, done, strict=True):
            if left.is_set():
                return  # nobody waits for the answer
            try:
                if failed is None:
                    future.set_result(step())
            except BaseException as error:  # the caller's to handle
                failed = error
            if failed is not None:
                future.set_exception(failed)

    futures: list[Future[ResultT]] = []
    for job in jobs:
        done: list[Future[ResultT]] = [Future() for _ in job]
        pool.submit(run, job, done)
        futures += done
    try:
        yield [future.result for future in futures]
    finally:
        left.set()
        pool.shutdown(cancel_futures=True)
