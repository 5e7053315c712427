"""Several processes that run one experiment together, usually one on each host.

Every process runs the same script. Attacks are divided among processes (`inversion.loop`); the
first process alone trains (`training.fit`), writes the files of a run, and tells the others their
content, so that a work folder need not be shared. Messages go through the service with which
`jax.distributed` finds processes; no collectives between devices of different hosts can hang.
Without `initialize` there is one process, and the functions here do nothing. The standard library
and NumPy; only `initialize` asks JAX.
"""

import contextlib
import io
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from jaxinv.errors import UsageError, UserError

T = TypeVar("T")

_PART = 1 << 20  # bytes of a message; a service that is built on gRPC takes up to 4 MiB
_ALIVE_EVERY, _LOST_AFTER = 1.0, 20.0  # seconds
_ROOT = "jaxinv"


class _Alone:
    """One process alone."""

    index, count = 0, 1


class _Group:
    """The processes that `initialize` has found."""

    def __init__(self, client: Any, index: int, count: int):
        self.index, self.count = index, count
        self._client, self._messages, self.inside = client, 0, False
        self._ended = threading.Event()
        threading.Thread(target=self._keep_watch, daemon=True).start()

    # --- messages ---------------------------------------------------------------------------------

    def tell(self, name: str, content: bytes) -> None:
        parts = [content[i : i + _PART] for i in range(0, len(content), _PART)] or [b""]
        for number, part in enumerate(parts):
            self._client.key_value_set_bytes(f"{_ROOT}/{name}/{number}", part)
        self._client.key_value_set(f"{_ROOT}/{name}/parts", str(len(parts)))

    def hear(self, name: str) -> bytes:
        """Waits for a message of another process. If that is gone, the watch ends this process."""
        count = int(self._wait(self._client.blocking_key_value_get, f"{_ROOT}/{name}/parts"))
        return b"".join(
            self._wait(self._client.blocking_key_value_get_bytes, f"{_ROOT}/{name}/{number}")
            for number in range(count)
        )

    def name_of_next(self) -> str:
        """Returns the name of the next message: every process counts them alike."""
        self._messages += 1
        return f"message{self._messages}"

    def _wait(self, get: Callable[[str, int], T], key: str) -> T:
        while True:
            try:
                return get(key, 2000)
            except Exception as error:
                if "DEADLINE_EXCEEDED" not in str(error):
                    self._stop(f"lost the connection to process 0 ({_line(error)})")

    # --- the watch --------------------------------------------------------------------------------

    def _keep_watch(self) -> None:
        """Announces that this process lives, and ends it when another has failed or is silent."""
        heard: dict[str, tuple[str, float]] = {}
        beat = 0
        while not self._ended.wait(_ALIVE_EVERY):
            beat += 1
            now = time.monotonic()
            try:
                self._client.key_value_set(
                    f"{_ROOT}-alive/{self.index}", str(beat), allow_overwrite=True
                )
                for key, message in self._client.key_value_dir_get(f"{_ROOT}-failed/"):
                    if key.rpartition("/")[2] != str(self.index):
                        self._stop(message)
                for key, value in self._client.key_value_dir_get(f"{_ROOT}-alive/"):
                    if heard.get(key, ("", 0.0))[0] != value:
                        heard[key] = value, now
                    elif now - heard[key][1] > _LOST_AFTER:
                        self._stop(f"process {key.rpartition('/')[2]} is silent")
            except Exception as error:
                if not self._ended.is_set():
                    self._stop(f"lost the connection to process 0 ({_line(error)})")

    def fail(self, message: str) -> None:
        """Tells the others that this process fails."""
        text = f"process {self.index} on {socket.gethostname()} failed: {message}"
        self._ended.set()
        with contextlib.suppress(Exception):  # a lost connection tells the others, too
            self._client.key_value_set(f"{_ROOT}-failed/{self.index}", text)
        # The first holds the connection; the others need it to hear why.
        time.sleep(3 * _ALIVE_EVERY if self.index == 0 else 0)

    def end(self) -> None:
        """Waits for the end of all; the first, which holds the connection, leaves last."""
        gather(self.index)
        self._ended.set()
        if self.index:
            os._exit(0)  # leaving the service in order would be a race with its end
        time.sleep(_ALIVE_EVERY)

    def _stop(self, why: str) -> None:
        print(f"process {self.index} of {self.count} stops: {why}", file=sys.stderr, flush=True)
        os._exit(1)  # other threads may wait for ever


_group: _Alone | _Group = _Alone()


def initialize() -> None:
    """Finds the other processes of this run, through SLURM, a TPU pod, Open MPI or Kubernetes.

    Elsewhere the variables JAX_COORDINATOR_ADDRESS (host:port of process 0), JAX_NUM_PROCESSES and
    JAX_PROCESS_ID name them. Call it before any other use of JAX. Only the first process keeps its
    stdout.

    Raises:
      UserError: the processes are not found, or no device starts.
    """
    global _group
    import jax

    from jaxinv.machine import devices

    given: dict[str, Any] = {}
    for name in ("num_processes", "process_id"):
        variable = f"JAX_{name.upper()}"
        if text := os.environ.get(variable):
            if not text.isdecimal():
                raise UsageError(f"{variable}={text}: expected a number.")
            given[name] = int(text)
    # Lost processes are reported here, in one line.
    jax.config.update("jax_enable_recoverability", True)
    try:
        jax.distributed.initialize(**given)
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f"multihost=true: no other processes are found ({_line(error)}). Start it with srun "
            "or mpirun or on a TPU pod, or set JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and "
            "JAX_PROCESS_ID."
        ) from error
    from jax._src.distributed import global_state  # the public module offers no messages

    devices.start()
    if jax.process_count() > 1:
        _group = _Group(global_state.client, jax.process_index(), jax.process_count())
    if not is_first():
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, until it ends


def count() -> int:
    """Returns the number of processes."""
    return _group.count


def index() -> int:
    """Returns the number of this process, from 0."""
    return _group.index


def is_first() -> bool:
    """Returns True in the process that writes files and stdout."""
    return _group.index == 0


def first(function: Callable[[], T]) -> T:
    """Calls a function in the first process, and returns its value in all of them.

    The value consists of JSON's types and arrays; the others get lists for tuples. A call inside
    another is a plain call.

    Raises:
      UserError: in all processes, if the function raises it in the first.
    """
    if not isinstance(_group, _Group) or _group.inside:
        return function()
    name = _group.name_of_next()
    if not is_first():
        kind, value = _decode(_group.hear(name))
        if kind != "value":
            raise (UsageError if kind == "usage" else UserError)(value)
        return value
    _group.inside = True
    try:
        value = function()
    except UserError as error:
        kind = "usage" if isinstance(error, UsageError) else "user"
        _group.tell(name, _encode([kind, str(error)]))
        raise
    finally:
        _group.inside = False
    _group.tell(name, _encode(["value", value]))
    return value


def gather(value: T) -> list[T]:
    """Returns the values of all processes, in their order; values are as for `first`."""
    if not isinstance(_group, _Group):
        return [value]
    name = _group.name_of_next()
    _group.tell(f"{name}-{_group.index}", _encode(value))
    return [
        value if other == _group.index else _decode(_group.hear(f"{name}-{other}"))
        for other in range(_group.count)
    ]


def fail(message: str) -> None:
    """Ends the other processes, because this one fails."""
    if isinstance(_group, _Group):
        _group.fail(message)


def end() -> None:
    """Waits for the end of all processes. All but the first exit here."""
    if isinstance(_group, _Group):
        _group.end()


def _encode(value: Any) -> bytes:
    """Encodes as JSON with arrays beside it: no message can hold code."""
    arrays: list[np.ndarray] = []

    def plain(item: Any) -> Any:
        if isinstance(item, dict):
            return {"object": {key: plain(inner) for key, inner in item.items()}}
        if isinstance(item, list | tuple):
            return [plain(inner) for inner in item]
        if hasattr(item, "dtype"):
            arrays.append(np.asarray(item))
            return {"array": len(arrays) - 1}
        return item

    text = json.dumps(plain(value)).encode()
    file = io.BytesIO()
    np.savez(file, np.frombuffer(text, np.uint8), *arrays)
    return file.getvalue()


def _decode(content: bytes) -> Any:
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        text, *arrays = (file[f"arr_{number}"] for number in range(len(file.files)))

    def whole(item: Any) -> Any:
        if isinstance(item, list):
            return [whole(inner) for inner in item]
        if not isinstance(item, dict):
            return item
        if "array" in item:
            return arrays[item["array"]]
        return {key: whole(inner) for key, inner in item["object"].items()}

    return whole(json.loads(text.tobytes()))


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
