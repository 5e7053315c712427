"""Random command lines: each is accepted, answered, or refused in one clear line.

Nothing is computed: an experiment that would begin counts as accepted. What lines write stays in a
folder of their own, which is also their home.
"""

import collections
import contextlib
import io
import os
import random
from pathlib import Path
from unittest import mock

from scripts import Accepted

from jaxinv import __main__ as command
from jaxinv import sweeps
from jaxinv.inputs import tfds as _tfds
from jaxinv.machine import environment, hosts
from jaxinv.paper import parts
from jaxinv.studies import cli, experiment, runs
from jaxinv.studies.defended import accuracy
from jaxinv.studies.partition import attacks
from jaxinv.training import retraining, targets

_WORDS = (
    *("conv1", "relu2", "ReLU2", "fc1", "fc3", "all", "feature", "input", "input+feature"),
    *("paper", "tv", "map", "hybrid", "strong", "adaptive", "attacker", "same", "mean"),
    *("mnist", "cifar10", "mnist_5k", "mnist:3.0.1", "MNIST", "true", "false", "phone-wifi"),
    *("dropout", "gaussian", "nopeek", "clip", "quantize", "dropout+gaussian", "none"),
    *("whitebox", "blackbox", "queryfree", "both", "lm", "adam", "0", "1", ".2", "0.2+0.3", "8"),
)
_USUAL = {
    "split": ("conv1", "relu2", "ReLU2", "pool1", "fc1", "all"),
    "dataset": ("mnist",),
    "method": ("paper", "tv", "map", "strong"),
    "attacker": ("paper", "adaptive"),
    "site": ("feature", "input"),
    "level": ("0", ".2", "0.5", "8"),
    "threat_model": ("whitebox", "blackbox", "queryfree"),
    "profile": ("phone-wifi", "phone-lte"),
    "num_queries": ("200", "1000"),
    "batch": ("1", "10"),
}
_ODD = (
    *("", " ", ",", ",,", "+", "-", "--", "=", "nan", "inf", "-inf", "1e999", "-1", "0x1", "1_0"),
    *(
        "a" * 300,
        "../..",
        "~",
        "~nobody",
        "%s",
        "{}",
        "$HOME",
        "'",
        '"',
        "\\",
        "é",
        "日本",
        "\u202e",
    ),
    *("\udc80\udcff", "\n", "a\nb", "\t", "\x1b[31m", "2147483648", "9" * 50, "true,false", "٣"),
)
_HARMLESS = "workdir", "out", "data_dir"  # flags whose value may be the name of a folder


def fuzz(count: int, seed: int, folder: Path, data_dir: Path) -> collections.Counter:
    """Tries command lines; returns how many ended with each status, None being accepted.

    Args:
      count: of lines.
      seed: of their choice.
      folder: empty; where they run.
      data_dir: has a prepared MNIST.
    """
    chance, found, faults = random.Random(seed), collections.Counter(), []
    place = folder / "a" / "b" / "c"
    place.mkdir(parents=True)
    environ = {"HOME": str(place), "TFDS_DATA_DIR": str(data_dir), "JOBS": "1"}
    with _nothing_begins(), mock.patch.dict(os.environ, environ), contextlib.chdir(place):
        for _ in range(count):
            try:
                found[_ending(_line(chance))] += 1
            except AssertionError as error:
                faults.append(str(error))
    assert not faults, "\n".join(faults)
    return found


def _ending(arguments: list[str]) -> int | None:
    """Runs a line and returns its status, which is as promised."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = command.main(arguments)
        except SystemExit as ended:
            status = ended.code
        except Accepted:
            return None
        except BaseException as error:
            raise AssertionError(f"{arguments}: {type(error).__name__}: {error}") from error
    # A file of flags that names itself is ignored with a warning of absl's own.
    said = "".join(line for line in err.getvalue().splitlines(True) if "Warning: Hit" not in line)
    assert status in (0, 1, 2), (arguments, status)
    if status:
        last = said.splitlines()[-1]
        assert ": error: " in last and len(last.partition(": error: ")[2]) > 5, (arguments, said)
        assert said.count("error: ") == 1 and "Traceback" not in said, (arguments, said)
        assert "\n" not in said.removesuffix("\n") or status == 1, (arguments, said)
    return status


@contextlib.contextmanager
def _nothing_begins():
    """Data and targets are found, and an experiment that begins raises `Accepted`."""

    def accept(*args, **options):
        raise Accepted

    with contextlib.ExitStack() as stack:
        for owner, name in (
            *((runs, "run_all"), (accuracy, "judge_of"), (targets, "train_run")),
            *((environment, "facts"), (parts, "run"), (hosts, "initialize"), (sweeps, "run")),
            *((attacks, "screen"), (retraining, "retrain")),
        ):
            stack.enter_context(mock.patch.object(owner, name, accept))
        for owner, name, answer in (
            (targets, "test_accuracy", lambda target, dataset: 0.99),
            (_tfds, "prepare", lambda spec, root, size: "no network here"),
            (cli, "use_compilation_cache", lambda: None),
        ):
            stack.enter_context(mock.patch.object(owner, name, answer))
        yield


# --- Lines ----------------------------------------------------------------------------------------


def _line(chance: random.Random) -> list[str]:
    """An experiment or a sweep with plausible flags, a few of them spoilt."""
    name = chance.choice([*experiment.MODULES])
    known = experiment.find(name).settings
    arguments = [_flag(chance, known) for _ in range(chance.randint(0, 4))]
    for _ in range(chance.choice([0, 0, 1, 1, 2])):
        _SPOIL[chance.randrange(len(_SPOIL))](chance, arguments)
    head = ["sweep", name] if chance.random() < 0.25 else [name]
    if chance.random() < 0.05:
        head[-1] = _mutated(chance, head[-1])
    return [argument.replace("\0", "") for argument in [*head, *arguments]]


def _flag(chance, known) -> str:
    name = chance.choice(sorted(known))
    return f"--{name}={_value(chance, known[name])}"


def _value(chance, flag) -> str:
    if flag.name in _HARMLESS:
        return chance.choice(["results", "x y", "é", "a/b", "", "~", "~/r", "\udc80", "n" * 300])
    words = _USUAL.get(flag.name, _WORDS) if chance.random() < 0.9 else _WORDS
    usual = [chance.choice(words) for _ in range(chance.choice([1, 1, 2]) if flag.many else 1)]
    if flag.choices:
        usual = [chance.choice(flag.choices)]
    elif flag.kind is bool:
        usual = [chance.choice(["true", "false", "1", "0"])]
    elif flag.kind in (int, float) and not flag.many:
        usual = [str(flag.kind(chance.choice([0, 1, 2, 7, 30, 0.5, 1e6])))]
    return chance.choice(_ODD) if chance.random() < 0.15 else ",".join(usual)


def _mutated(chance, text: str) -> str:
    place = chance.randint(0, len(text))
    return text[:place] + chance.choice([*_ODD, "x", ""]) + text[place + chance.randint(0, 2) :]


def _change(chance, arguments) -> None:
    """Puts something into one of them."""
    if arguments:
        place = chance.randrange(len(arguments))
        name, equals, value = arguments[place].partition("=")
        if name.removeprefix("--") not in _HARMLESS:
            value = _mutated(chance, value)
        arguments[place] = chance.choice([name + equals + value, _mutated(chance, name) + "=1"])


def _shorten(chance, arguments) -> None:
    """Abbreviates a flag, or leaves a dash or its value out."""
    if arguments:
        place = chance.randrange(len(arguments))
        name, _, value = arguments[place].partition("=")
        short = name[: chance.randint(2, max(2, len(name)))]
        if "--workdir".startswith(short) or "--out".startswith(short) or "--data_dir" in short:
            return
        arguments[place : place + 1] = chance.choice(
            [[f"{short}={value}"], [name[1:] + "=" + value], [name], [name, value], [value]]
        )


def _repeat(chance, arguments) -> None:
    """Gives one twice, or in another order."""
    if arguments:
        arguments.append(chance.choice(arguments))
        chance.shuffle(arguments)


def _add(chance, arguments) -> None:
    """Adds what is no flag of the experiment."""
    arguments.append(chance.choice(["--", "-h", "--help", "--nosuch=1", "--norerun", *_ODD]))


def _as_argument(text: str) -> str:
    """Returns a text as Python reads it from a shell, in any locale."""
    return os.fsdecode(text.encode())


def _from_file(chance, arguments) -> None:
    """Moves them into a file of flags, which may be damaged or missing."""
    content = "\n".join([*arguments, chance.choice(["", "# a comment", "\n", *_ODD])])
    path = Path(chance.choice(["flags", _as_argument("flags é"), "flags.txt"]))
    path.write_bytes(content.replace("\0", "").encode("utf-8", "surrogateescape"))
    if chance.random() < 0.2:
        path.write_bytes(chance.randbytes(40))
    name = str(path) if chance.random() < 0.8 else "missing"
    arguments[:] = [f"--flagfile={name}"]


_SPOIL = (_change, _change, _shorten, _repeat, _add, _from_file)
