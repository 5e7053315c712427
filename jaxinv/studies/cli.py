"""The command line of an experiment: parsing, errors, exit status, the compilation cache.

Output for people goes to stdout, whose last line is the path of the last record, or with --json all
records as JSON; progress and warnings go to stderr.
"""

import contextlib
import hashlib
import os
import platform
import re
import shutil
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from absl import flags

from jaxinv.errors import UsageError, UserError
from jaxinv.inputs import places
from jaxinv.machine import environment, hosts, streams, tracking
from jaxinv.store import files, records
from jaxinv.studies import experiment

_REPEATABLE = "xla_gpu_deterministic_ops"
_INTERRUPTED = "interrupted; the same command goes on from what is finished."


def main(name: str, arguments: Sequence[str] | None = None, program: str | None = None) -> None:
    """Runs an experiment as a command line asks.

    The last line of stdout is the path of the last record, or with --json all records. Exits with
    status 2 for a bad flag; 1 for another failure that the user can mend, as one line on stderr;
    130 when interrupted.

    Args:
      name: of the experiment.
      arguments: flags; by default those of this process.
      program: what the user typed before them; by default the script's name.
    """
    given = sys.argv[1:] if arguments is None else arguments
    said = program or Path(sys.argv[0]).name
    try:
        found = experiment.find(name)
    except UsageError as error:
        sys.exit(_fail(said, str(error), error.exit_code))
    run(found, given, said)


def run(found: experiment.Experiment, arguments: Sequence[str], program: str) -> None:
    """Runs an experiment as a command line asks; see `main`."""
    status = guarded(program, partial(_run, found, arguments, program), found.settings)
    if status:
        sys.exit(status)


def _run(found: experiment.Experiment, arguments: Sequence[str], program: str) -> None:
    config = _parsed(found, arguments, program)
    if config is None:
        print(found.help(program))
        return
    if found.computes:
        repeat_on_gpus()
        environment.check_promotion()
        if getattr(config, "multihost", False):
            hosts.initialize()
        use_compilation_cache()
    with tracking.writing_to(getattr(config, "tensorboard", None)):
        made = found.run(config)
    for record in made[-1:]:
        records.note(record["path"])
        print(
            records.in_a_line(made) if getattr(config, "json", False) else record["path"],
            flush=True,
        )
    hosts.end()


def guarded(program: str, work: Callable[[], int | None], names: Iterable[str] = ()) -> int:
    """Calls a function, tells in a line on stderr why it fails, and returns the exit status.

    Args:
      program: what the user typed, for the line.
      work: returns an exit status, or None for success.
      names: of the flags there are; see `with_flags`.
    """
    streams.open_all()
    try:
        status = work() or 0
        sys.stdout.flush()
        return status
    except flags.Error as error:
        return _fail(program, str(error), UsageError.exit_code)
    except UserError as error:
        return _fail(program, with_flags(str(error), names), error.exit_code)
    except KeyboardInterrupt as stop:  # a sweep's knows more
        _end_at_once(program, str(stop) or _INTERRUPTED, getattr(stop, "signal", signal.SIGINT))
    except BrokenPipeError:
        streams.abandon_stdout()
        return 1
    except OSError as error:  # a full disk below stdout, for one
        streams.abandon_stdout()
        return _fail(program, of_the_system(error), UserError.exit_code)
    except Exception as error:
        hosts.fail(f"{type(error).__name__}: {error}")
        raise


def with_flags(message: str, names: Iterable[str]) -> str:
    """Returns an error's text with arguments spelled as flags: `--steps=0` for `steps=0`.

    The library names arguments as Python spells them; this is the one place that adds dashes.

    Args:
      message: of a `UserError`.
      names: of the flags there are.
    """
    known = "|".join(names)
    if not known:
        return message
    return re.sub(rf"(?<![^\s(])(?=({known})=)", "--", message)


def of_the_system(error: OSError) -> str:
    """Tells in a line why the operating system refused something."""
    where = f": {error.filename}" if error.filename else ""
    return f"{error.strerror or error}{where}."


def _parsed(found: experiment.Experiment, arguments: Sequence[str], program: str) -> Any:
    """The configuration that flags spell; None if help is asked for."""
    values = found.define_flags()
    flags.DEFINE_boolean("help", False, "Show this and exit.", values, short_name="h")
    try:
        rest = values([program, *arguments])[1:]
    except UnicodeDecodeError as error:
        raise UsageError(f"--flagfile: no text ({error}).") from error
    if values["help"].value:
        return None
    if rest:
        raise UsageError(f"{rest[0]}: unexpected; flags are written --name=value.")
    return found.config(values)


def _fail(program: str, message: str, status: int) -> int:
    message = " ".join(message.split())  # a value may have several lines
    print(f"{program}: error: {message}", file=sys.stderr)
    hosts.fail(message)
    return status


def _end_at_once(program: str, message: str, number: int) -> NoReturn:
    """Ends the process as a shell tells of a signal; no thread that is still at work is awaited."""
    print(f"{program}: error: {message}", file=sys.stderr)
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    hosts.fail("interrupted")
    os._exit(128 + number)


def repeat_on_gpus() -> None:
    """Makes a run on an NVIDIA GPU find the same each time, unless XLA_FLAGS says otherwise.

    XLA then neither sums in an order of chance nor tries which kernel is the fastest today. Large
    batches take up to 1.5 times as long, and programs are compiled sooner, which most runs are made
    of. To be called before JAX looks for devices.
    """
    given = os.environ.get("XLA_FLAGS", "")
    if given.strip() and not given.strip().startswith("-"):  # the name of a file with flags
        return
    if _REPEATABLE not in given and shutil.which("nvidia-smi"):  # no other backend need know of it
        os.environ["XLA_FLAGS"] = f"{given} --{_REPEATABLE}=true".lstrip()


def use_compilation_cache() -> None:
    """Keeps compiled programs on disk, so that the next process starts in a second or two.

    CPU programs are kept apart by processor: what one compiles another may not be able to run.
    """
    import jax

    cpu = hashlib.sha256(f"{platform.machine()} {_cpu_flags()}".encode()).hexdigest()[:8]
    folder = places.cache_root() / "programs" / cpu
    try:
        files.try_writing(folder)
    except OSError as error:
        print(
            f"The cache of compiled programs {folder} cannot be written ({files.reason(error)}); "
            "the next run compiles them again.",
            file=sys.stderr,
        )
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
    warnings.filterwarnings("ignore", message="Error (reading|writing) persistent compilation")
    with contextlib.suppress(ImportError, AttributeError):  # another version's private module
        _forget_damaged_programs(folder)


def _forget_damaged_programs(folder: Path) -> None:
    """Removes programs that cannot be read, for JAX never replaces one.

    A process that is killed while JAX writes, or a full disk, leaves half of one.
    """
    from jax._src import compilation_cache

    read = compilation_cache.get_executable_and_time

    def get_executable_and_time(cache_key: str, *args: Any, **options: Any) -> Any:
        try:
            return read(cache_key, *args, **options)
        except Exception:
            (folder / f"{cache_key}-cache").unlink(missing_ok=True)
            raise  # JAX compiles it, then

    compilation_cache.get_executable_and_time = get_executable_and_time


def _cpu_flags() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
