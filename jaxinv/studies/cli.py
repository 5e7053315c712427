"""What the experiment scripts share: flags, help, errors, the compilation cache.

A script defines its own flags, calls `common_flags`, and ends in `cli.run(main)`, where `main`
returns the path of its last record. Output for people goes to stdout, whose last line is that path;
progress and warnings go to stderr.
"""

import contextlib
import hashlib
import io
import math
import os
import platform
import shutil
import sys
import textwrap
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from jaxinv.errors import UsageError, UserError
from jaxinv.inputs import data
from jaxinv.machine import hosts
from jaxinv.store import files

FLAGS = flags.FLAGS

_REPEATABLE = "xla_gpu_deterministic_ops"
_INTERRUPTED = "interrupted; the same command goes on from what is finished."

_COMMON: list[str] = []
_NUMBERS: list[str] = []  # defined for a script by a function here: absl counts them as ours


def place_flags() -> None:
    """Defines where data are and results go, and the seed: what every script has that runs any."""
    before = set(FLAGS)
    flags.DEFINE_string(
        "data_dir",
        None,
        "Folder of prepared TFDS datasets; by default TFDS_DATA_DIR, then TFDS's own folder.",
    )
    flags.DEFINE_string("workdir", "results", "Folder for records and pictures.")
    flags.DEFINE_integer(
        "seed", 0, "Seed of all randomness of this run.", lower_bound=0, upper_bound=2**32 - 1
    )
    _COMMON.extend(sorted(set(FLAGS) - before))


def common_flags(*, num_images: int | None = None, splits: str | None = None) -> None:
    """Defines the flags that mean the same in every script.

    Args:
      num_images: default of `--num_images`; None if the script attacks no images.
      splits: default of `--split`; None if the script has no cut.
    """
    place_flags()
    before = set(FLAGS)
    flags.DEFINE_string(
        "dataset",
        "mnist",
        "mnist, cifar10, mnist_5k (embedded), or any TFDS image classification dataset whose "
        "images are 28x28 grey or 32x32 colour.",
    )
    flags.DEFINE_boolean("rerun", False, "Run again even if the record exists.")
    flags.DEFINE_boolean(
        "multihost",
        False,
        "This is one of several processes that share the work, on one host or on many: they are "
        "found through SLURM (srun), a TPU pod, Open MPI or Kubernetes, or told by the variables "
        "JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID. The first writes files.",
    )
    if splits is not None:
        flags.DEFINE_list(
            "split",
            splits,
            "Layer after which the network is cut: one name, a comma list, or all. The paper's "
            "spelling is understood (ReLU2 is relu2).",
        )
    if num_images is not None:
        define_count(
            "num_images", num_images, "How many images of the test split to attack, from the first."
        )
        flags.DEFINE_string(
            "checkpoint",
            None,
            "Trained target, as train_target.py writes it; by default the one that ships with "
            "jaxinv, else the newest in --workdir, else one is trained.",
        )
    _COMMON.extend(sorted(set(FLAGS) - before))


def define_count(name: str, default: int | None, text: str) -> None:
    """Defines a flag for a number of things: a positive 32-bit integer."""
    flags.DEFINE_integer(name, default, text, lower_bound=1, upper_bound=2**31 - 1)
    _NUMBERS.append(name)


def define_float(
    name: str,
    default: float | None,
    text: str,
    *,
    lower_bound: float,
    upper_bound: float | None = None,
) -> None:
    """Defines a flag for a finite number."""
    flags.DEFINE_float(name, default, text, lower_bound=lower_bound, upper_bound=upper_bound)
    _NUMBERS.append(name)
    flags.register_validator(
        name, lambda value: value is None or math.isfinite(value), "expected a finite number"
    )


def run(main: Callable[[], Path]) -> None:
    """Parses the flags, runs a script's `main` and exits.

    Prints the path of the record that `main` returns as the last line of stdout. Exit status: 0;
    2 for a bad flag; 1 for another failure that the user can mend, as one line on stderr; 130 when
    interrupted.
    """
    flags.DEFINE_boolean("help", False, "Show this and exit.", short_name="h")
    script = sys.modules["__main__"]
    if isinstance(sys.stdout, io.TextIOWrapper):  # a path need not be text
        sys.stdout.reconfigure(errors="surrogateescape")
    try:
        rest = _parsed(sys.argv)[1:]
        if FLAGS.help:
            print(_help(script.__doc__ or "", Path(sys.argv[0]).name))
            sys.exit(0)
        if rest:
            raise UsageError(f"{rest[0]}: unexpected; flags are written --name=value.")
        repeat_on_gpus()
        if "multihost" in FLAGS and FLAGS.multihost:
            hosts.initialize()
        use_compilation_cache()
        print(main(), flush=True)
        hosts.end()
    except flags.Error as error:
        _fail(" ".join(str(error).split()), UsageError.exit_code)
    except UserError as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt as stop:  # a sweep's knows more
        print(f"{Path(sys.argv[0]).name}: error: {stop or _INTERRUPTED}", file=sys.stderr)
        sys.stdout.flush()
        hosts.fail("interrupted")
        os._exit(130)  # threads that are still at work are not waited for
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:  # a full disk below stdout, for one
        _abandon_stdout()
        _fail(of_the_system(error), UserError.exit_code)
    except Exception as error:
        hosts.fail(f"{type(error).__name__}: {error}")
        raise


def of_the_system(error: OSError) -> str:
    """What the operating system refused, in a line."""
    where = f": {error.filename}" if error.filename else ""
    return f"{error.strerror or error}{where}."


def _parsed(arguments: Sequence[str]) -> list[str]:
    try:
        return FLAGS(arguments)
    except UnicodeDecodeError as error:
        raise UsageError(f"--flagfile: no text ({error}).") from error


def _abandon_stdout() -> None:
    """What cannot be written is not tried again when the interpreter ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, status: int) -> None:
    message = " ".join(message.splitlines())  # a value may have several
    print(f"{Path(sys.argv[0]).name}: error: {message}", file=sys.stderr)
    hosts.fail(message)
    sys.exit(status)


def _help(description: str, script: str) -> str:
    own = {flag.name for flag in FLAGS.get_key_flags_for_module("__main__")} | set(_NUMBERS)
    groups = [
        ("flags of this script", [name for name in sorted(own) if name not in _COMMON]),
        ("flags of every script", [name for name in sorted(_COMMON) if name in FLAGS]),
    ]
    lines = [description.strip()]
    for title, names in groups:
        if names:
            lines += ["", f"{title}:", *(_describe(FLAGS[name]) for name in names)]
    lines += ["", f"Run as: python experiments/{script} [--flag=value ...]"]
    return "\n".join(lines)


def _describe(flag: flags.Flag) -> str:
    choices = "|".join(getattr(flag.parser, "enum_values", None) or ())
    head = f"  --[no]{flag.name}" if flag.boolean else f"  --{flag.name}"
    head += f"={choices}" if choices else ""
    text = (flag.help or "").removeprefix(f"<{choices}>: ")  # absl repeats the choices
    if flag.default is not None:
        text += f" (default: {str(flag.default_as_str).strip(chr(39))})"
    indent = " " * 8
    return f"{head}\n{textwrap.fill(text, 92, initial_indent=indent, subsequent_indent=indent)}"


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
    folder = data.cache_root() / "programs" / cpu
    try:
        files.ensure_writable(folder)
    except UserError as error:
        print(f"Compiled programs are not kept: {error}", file=sys.stderr)
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
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def check_images(num_images: int, available: int) -> None:
    """Checks that as many images can be attacked as were asked for.

    Raises:
      UsageError: there are fewer.
    """
    if num_images > available:
        raise UsageError(f"--num_images={num_images}: the test split has {available} images.")


def resolve_splits(names: Sequence[str], network) -> list[str]:
    """Names of cuts, in the order given and without repeats; "all" is every one.

    Raises:
      UsageError: there is no such layer, or none is named.
    """
    if "all" in [name.strip().lower() for name in names]:
        return list(network.cuts)
    cuts = [network.resolve(name.strip()) for name in names]
    if not cuts:
        raise UsageError(f"--split is empty; choose from {', '.join(network.cuts)}, or all.")
    return list(dict.fromkeys(cuts))
