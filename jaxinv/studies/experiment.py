"""An experiment is a value: a name, settings, and a function that runs it. No JAX.

The settings are the fields of a frozen dataclass. Default, range, choices and help text of each
stand there once; flags, `--help`, sweeps and the command that repeats a run are made of them:

    @dataclasses.dataclass(frozen=True)
    class WhiteboxConfig(AttackConfig):
        method: str = setting("map", "How to attack.", choices=["paper", "tv", "map"])
        steps: int | None = setting(None, "Steps of the solver.")

    EXPERIMENT = Experiment("whitebox", WhiteboxConfig, run, __doc__)

A field that gives a shared setting another default keeps its text.
"""

import ast
import dataclasses
import functools
import importlib
import importlib.util
import inspect
import sys
import textwrap
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from absl import flags

from jaxinv.errors import UsageError
from jaxinv.store import strict
from jaxinv.studies import spelling

MODULES = {
    "whitebox": "jaxinv.studies.whitebox",
    "blackbox": "jaxinv.studies.blackbox",
    "queryfree": "jaxinv.studies.queryfree",
    "defenses": "jaxinv.studies.defenses",
    "leaderboard": "jaxinv.studies.leaderboard",
    "partition": "jaxinv.studies.partition",
    "leakage": "jaxinv.studies.leakage",
    "convergence": "jaxinv.studies.convergence",
    "cuts": "jaxinv.studies.cuts",
    "benchmark": "jaxinv.studies.speed",
    "train_target": "jaxinv.studies.train_target",
    "report": "jaxinv.report.experiment",
    "paper": "jaxinv.paper.experiment",
    "tables": "jaxinv.tables.experiment",
}
"""Name -> module. A module has an `EXPERIMENT`, and its docstring describes it."""

_NOT_REPEATED = (
    "workdir",
    "data_dir",
    "rerun",
    "multihost",
    "export",
    "json",
    "tensorboard",
)  # of this machine, not of the run

ConfigT = TypeVar("ConfigT")


class Setting(NamedTuple):
    """A field of a configuration, as the command line needs it.

    Attributes:
      name: of the flag.
      field, default: of the field; its name is the flag's, unless Python has that word to itself.
      kind: its type: bool, int, float or str; of a tuple, that of its items.
      many: whether it is a tuple.
      text: for `--help`.
      least, most: the range of a number; None is the kind's own.
      choices: allowed texts; None if any is.
      may_be_empty: whether a tuple may have no items.
      is_path: whether it is one; `~` at its beginning is the home folder.
      shared: whether several experiments have it.
    """

    name: str
    field: str
    default: Any
    kind: type
    many: bool
    text: str
    least: float | None
    most: float | None
    choices: Sequence[str] | None
    may_be_empty: bool
    is_path: bool
    shared: bool


def setting(
    default: Any,
    text: str,
    *,
    least: float | None = None,
    most: float | None = None,
    choices: Sequence[str] | None = None,
    may_be_empty: bool = False,
    is_path: bool = False,
    flag: str | None = None,
) -> Any:
    """Returns a dataclass field that knows its flag; see `Setting` for the arguments.

    Whole numbers are in [1, 2^31 - 1] unless a range is given. `flag` is its name, if that is not
    the field's.
    """
    known = {
        "text": text,
        "least": least,
        "most": most,
        "choices": choices,
        "may_be_empty": may_be_empty,
        "is_path": is_path,
        "flag": flag,
    }
    return dataclasses.field(default=default, metadata=known)


@functools.cache
def settings_of(config: type) -> dict[str, Setting]:
    """Returns the settings of a configuration, by name: its own first, then the shared ones."""
    hints = typing.get_type_hints(config)
    found = []
    for field in dataclasses.fields(config):
        owner, known = _defined(config, field.name)
        kind, many = _kind(hints[field.name])
        told = {key: value for key, value in known.items() if key != "flag"}
        told["shared"] = owner.__module__ == "jaxinv.studies.config"
        name = known["flag"] or field.name
        found.append(Setting(name, field.name, field.default, kind, many, **told))
    return {each.name: each for each in sorted(found, key=lambda each: each.shared)}


def _defined(config: type, name: str) -> tuple[type, Mapping[str, Any]]:
    """The class that gives a setting its text, and what `setting` was told there."""
    for kind in config.__mro__:
        if name in inspect.get_annotations(kind):
            known = kind.__dict__["__dataclass_fields__"][name].metadata
            if known:
                return kind, known
    raise TypeError(f"{config.__name__}.{name} is no setting.")


def _kind(annotation: Any) -> tuple[type, bool]:
    """The type of a value, and whether there are several, of `int | None` or `tuple[int, ...]`."""
    if isinstance(annotation, types.UnionType):
        (annotation,) = (one for one in typing.get_args(annotation) if one is not types.NoneType)
    if typing.get_origin(annotation) is tuple:
        return typing.get_args(annotation)[0], True
    return annotation, False


@dataclasses.dataclass(frozen=True)
class Experiment(Generic[ConfigT]):
    """Something that a user runs by name.

    Attributes:
      name: on the command line; `<workdir>/<name>/` has its runs.
      Config: a frozen dataclass of settings.
      run: takes a `Config`, does what is not done yet, and returns the records, each with its
        `path`; the last path is printed. One that leaves no record returns none.
      description: for people; its first line is a summary.
      joins_cuts: whether it weighs cuts against each other, so that a sweep keeps them together.
      check: takes a `Config` and a dataset that is loaded already, and refuses what `run` would
        refuse; it trains and writes nothing, and starts no device. Sweeps ask it of each run.
      computes: whether it uses JAX.
    """

    name: str
    Config: type[ConfigT]
    run: Callable[[ConfigT], Sequence[Mapping[str, Any]]]
    description: str
    joins_cuts: bool = False
    check: Callable[[ConfigT, Any], object] | None = None
    computes: bool = True

    @property
    def settings(self) -> dict[str, Setting]:
        """Settings by name, its own first."""
        kind: type = self.Config
        return settings_of(kind)

    @property
    def leaves_runs(self) -> bool:
        """Returns whether its runs are folders of records, which a sweep can make."""
        return {"dataset", "workdir", "rerun"} <= self.settings.keys()

    def define_flags(self) -> flags.FlagValues:
        """Returns absl flags for all settings, which nothing else shares."""
        values = flags.FlagValues()
        for each in self.settings.values():
            spelling.define(values, each)
        return values

    def config(self, values: flags.FlagValues) -> ConfigT:
        """Returns the configuration that parsed flags spell."""
        given = {each.field: values[each.name].value for each in self.settings.values()}
        lists = {name: tuple(value) for name, value in given.items() if isinstance(value, list)}
        return self.Config(**{**given, **lists})

    def help(self, program: str) -> str:
        """Returns the description and all flags, as text of at most 100 columns."""
        groups = {
            "Flags of this experiment": [one for one in self.settings.values() if not one.shared],
            "Flags of several experiments": [one for one in self.settings.values() if one.shared],
        }
        lines = [self.description.strip()]
        for title, members in groups.items():
            if members:
                lines += ["", f"{title}:", *map(_describe, members)]
        return "\n".join([*lines, "", f"Run as: {program} [--flag=value ...]"])


def find(name: str) -> Experiment:
    """Returns an experiment by its name.

    Raises:
      UsageError: there is none, or JAX refuses a setting of the environment.
    """
    if name not in MODULES:
        raise UsageError(f"there is no experiment '{name}'; there are: {', '.join(MODULES)}.")
    try:
        return importlib.import_module(MODULES[name]).EXPERIMENT
    except ValueError as error:
        if "jax" in sys.modules:
            raise
        # JAX reads its settings when it is imported.
        raise UsageError(f"JAX refuses its environment: {error}.") from error


def summary(name: str) -> str:
    """Returns the first line of an experiment's description; imports nothing heavy."""
    spec = importlib.util.find_spec(MODULES[name])
    assert spec is not None and spec.origin is not None
    text = ast.get_docstring(ast.parse(Path(spec.origin).read_text("utf-8"))) or ""
    return text.partition("\n")[0]


def spelled(config: Any, kind: type | None = None, **given: Any) -> dict[str, str]:
    """Returns the flags that make a run again, as text by name.

    These are `given`, and the settings that differ from their defaults; not where data and results
    lie on this machine. There are none if a record could not keep one of them as it is, such as the
    name of a file with a line break.

    Args:
      config: has the attributes of `kind`.
      kind: of the experiment that makes such a run; by default the configuration's own.
      given: settings that tell this run from others of the configuration, such as its cut.
    """
    found = {}
    for name, each in settings_of(kind or type(config)).items():
        value = given.get(name, getattr(config, each.field))
        told = name in given or value != each.default
        if name not in _NOT_REPEATED and value is not None and told:
            found[name] = spelling.text_of(value)
    if not all(map(strict.keeps, found.values())):
        return {}
    first = [name for name in given if name in found]
    return {name: found[name] for name in dict.fromkeys([*first, *found])}


def _describe(each: Setting) -> str:
    """The lines of `--help` about a setting."""
    head = f"  --[no]{each.name}" if each.kind is bool else f"  --{each.name}"
    if each.choices is not None:
        head += f"={'|'.join(each.choices)}"
    text = each.text
    if each.default is not None:
        text += f" (default: {spelling.text_of(each.default)})"
    indent = " " * 8
    return f"{head}\n{textwrap.fill(text, 92, initial_indent=indent, subsequent_indent=indent)}"
