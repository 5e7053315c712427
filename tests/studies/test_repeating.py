"""The command in a record makes that run again: of each experiment, run small and repeated."""

import contextlib
import io
import json
import math
import os
import shlex
from types import SimpleNamespace
from typing import NamedTuple

import jax
import pytest

from jaxinv.inputs import data
from jaxinv.look.charts import style
from jaxinv.networks import lenet5
from jaxinv.report import cards
from jaxinv.store import records, strict
from jaxinv.studies import cli, convergence, experiment, runs, speed
from jaxinv.studies.defended import accuracy
from jaxinv.studies.partition import limits, study
from jaxinv.training import targets

PARAMS = jax.jit(lenet5().init)(jax.random.key(0))


class NoChart(NamedTuple):
    """A chart that nobody draws."""

    kind: object = None


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """Runs command lines on a target that nobody trained, with attacks that are made up."""
    target = targets.Target("lenet5", lenet5(), PARAMS, "nowhere", "e" * 12, {})
    run_once = runs.run_once
    quick = SimpleNamespace(made=0, listing=tmp_path / "listing")

    def attacked(experiment, config, scene, cut, attack, **options):
        def made_up():
            quick.made += 1
            images = scene.images(config)
            more = {"threat_model": "whitebox", "judge_accuracy": 0.5, "accuracy_ci": [0.8, 0.9]}
            more |= {"joint": {"psnr_mean": 1.0, "ssim_mean": 0.5}, "num_queries": 100}
            if "threat_model" not in options["identity"]:
                del more["threat_model"]
            return runs.Outcome(images[None], "nothing", "none", 1.0, 1.0, 1.0, more)

        return run_once(experiment, config, scene, cut, made_up, **options)

    def compared(*arguments):
        quick.made += 1
        curves = {name: [1.0] for name in ("misfit_median", "psnr_mean", "seconds")}
        curves["steps"] = [1]
        return {"psnr_mean": 1.0, "ssim_mean": 0.5, "diverged": 0, "fit_s": 0.0}, curves

    def timed(*arguments):
        quick.made += 1
        return {"peak": [], "rows": [], "reference": []}

    def bounded(config, scene, options, prices):
        quick.made += 1
        nothing = dict.fromkeys(("sigma", "accuracy", "bayes_sigma", "bayes_accuracy"))
        certain = [{"split": cut, **nothing} for cut in scene.cuts]
        return [[] for _ in options], certain

    for owner, name, stub in (
        *((targets, "find", lambda *args, **options: target), (runs, "run_once", attacked)),
        *((convergence, "_run_method", compared), (convergence, "draw", lambda *args: None)),
        *((speed, "_measure", timed), (limits, "of_options", bounded)),
        *((accuracy, "judge_of", lambda *args: None), (cli, "repeat_on_gpus", lambda: None)),
        (cli, "use_compilation_cache", lambda: None),
    ):
        monkeypatch.setattr(owner, name, stub)
    monkeypatch.setattr(style, "save", lambda *args: None)
    for chart in (speed.throughput, study.costs_chart, study.choices_chart):
        monkeypatch.setattr(chart, "figure", lambda *args, **options: NoChart())
    monkeypatch.setattr(targets, "test_accuracy", lambda *args: 0.9)
    monkeypatch.setenv("JAXINV_RECORDS", str(quick.listing))
    monkeypatch.chdir(tmp_path)

    def run(name, *flags):
        quick.listing.unlink(missing_ok=True)
        with contextlib.redirect_stdout(io.StringIO()):
            cli.main(name, flags, name)
        noted = map(json.loads, quick.listing.read_text("utf-8").splitlines())
        return list(dict.fromkeys(noted))  # the last one is noted twice

    quick.run = run
    return quick


CASES = [
    ("whitebox", "--split=conv1,relu2 --method=paper --steps=3 --tv_weight=0.01 --seed=2"),
    ("whitebox", "--method=hybrid --nobox --fit_steps=7 --surrogate=same --cg_steps=2 --chunk=5"),
    ("whitebox", "--method=tv --beta=1.5 --eps=1e-3 --learning_rate=.02 --solver=amsgrad"),
    ("blackbox", "--split=fc1,conv1 --num_queries=100,785 --fit_steps=9"),
    ("blackbox", "--method=paper --surrogate=same"),
    ("queryfree", "--split=conv1,fc1 --num_shadows=2 --shadow_steps=4 --num_stream=50"),
    ("defenses", "--level=0,.6,.1234567 --correction=false --draws=3 --releases=2"),
    ("defenses", "--defense=gaussian,clip --site=input --level=.5 --attacker=paper --split=conv1"),
    (
        "defenses",
        "--defense=dropout+gaussian --level=.2+.3,.4+1e-3 --site=input+feature --retrain=cloud "
        "--retrain_steps=5 --threat_model=blackbox,queryfree --attacker=adaptive --shadow_steps=8",
    ),
    ("partition", "--split=relu2,fc1 --defense=none,gaussian:1 --max_ssim=.5 --correction"),
    ("partition", "--split=fc3 --defense=quantize:4 --profile=microcontroller --prefer=energy"),
    ("convergence", "--split=conv1,fc1 --method=tv,paper --steps=7"),
    ("benchmark", "--split=conv1 --method=tv,paper --batch=2,1 --steps=5 --repeat=2"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "flags"), CASES)
def test_the_command_in_a_record_finds_the_run_that_is_finished(quick, name, flags):
    images = [] if name == "benchmark" else ["--num_images=3"]
    paths = quick.run(name, "--dataset=mnist_5k", *images, *flags.split())
    made = quick.made
    assert made > 0
    for path in paths:
        record = records.read(path.removesuffix(records.RECORD_NAME))
        one = SimpleNamespace(experiment=record.experiment, record=record)
        program, script, *again = shlex.split(cards.command(one))
        assert program == "jaxinv" and "--split" in " ".join(again)
        assert path in quick.run(script, *again)
    assert quick.made == made


TEXTS = (
    *("-x", "--rerun", "a b", " a ", "it's", 'a "b"', "$HOME `id`; rm *", "a,b=c", "\\n", "~/x"),
    *("über 数 🙂", "#", "!!", "%s {0}"),
)
CONTROLLED = ("a\nb", "a\rb", "a\x00b", "a\u2028b", "\udcff", "x" * 2000)


def repeatable(found):
    return [each for each in found.settings.values() if each.name not in experiment._NOT_REPEATED]


def is_a_name(text):
    """Tells whether files can have a name here, where names may be ASCII."""
    try:
        return bool(os.fsencode(text)) or not text
    except UnicodeEncodeError:
        return False


def others(setting):
    """Values of a setting that are not its default."""
    least = setting.least if setting.least is not None else 1 if setting.kind is int else -1e9
    if setting.choices is not None:
        found = list(setting.choices)
    elif setting.kind is bool:
        found = [True, False]
    elif setting.kind is int:
        found = [2**31 - 1] if setting.many else [int(least), 12345, setting.most or 2**31 - 1]
    elif setting.kind is float:
        ends = (least, 0.1 + 0.2, 1e-7, 1e22, -1.5, 0.0, setting.most or 3.0)
        found = [x for x in ends if least <= x <= (setting.most or math.inf)]
    else:
        found = ["relu2", ".2+.3", "ReLU2", "-x", "it's", "數"] if setting.many else ["", *TEXTS]
        if setting.is_path:
            found = [text for text in found if is_a_name(text)]
        elif not setting.many:  # spaces around do not count
            found = [text for text in found if text == text.strip()]
    if setting.many:
        found = [(found[0],), (*found, found[0])] + [()] * setting.may_be_empty
        found = [tuple(dict.fromkeys(row)) if setting.kind is int else row for row in found]
    return [value for value in found if value != setting.default]


@pytest.mark.parametrize("name", experiment.MODULES)
def test_every_setting_is_repeated_as_it_was(name):
    found = experiment.find(name)
    values = {each.field: others(each) for each in repeatable(found)}
    assert all(values.values())
    alone = [{key: value} for key, some in values.items() for value in some]
    together = [{key: some[n % len(some)] for key, some in values.items()} for n in range(3)]
    for given in alone + together:
        config = found.Config(**given)
        assert repeated(found, config) == config, given


@pytest.mark.parametrize("text", CONTROLLED)
def test_what_a_record_cannot_keep_is_repeated_by_no_command(text):
    """Better none than the command of another run."""
    found = experiment.find("benchmark")
    assert experiment.spelled(found.Config(reference=text, seed=3)) == {}


def repeated(found, config):
    """The configuration of the command that the report prints, from a record that was written."""
    written = json.dumps({"flags": experiment.spelled(config)}).encode()
    record = SimpleNamespace(**strict.loads(written))
    command = cards.command(SimpleNamespace(experiment=found.name, record=record))
    return cli._parsed(found, shlex.split(command)[2:], found.name)


def test_the_command_of_one_of_several_runs_is_of_it_alone(quick):
    flags = ("--dataset=mnist_5k", "--num_images=3", "--level=0,.6", "--threat_model=blackbox")
    for path in quick.run("defenses", *flags, "--attacker=paper", "--split=conv1,fc1"):
        record = records.read(path.removesuffix(records.RECORD_NAME))
        assert record.flags["level"] == "0,0.6"  # a family is attacked together
        assert record.flags["split"] == record.split
    for path in quick.run("blackbox", *flags[:2], "--num_queries=100,200"):
        record = records.read(path.removesuffix(records.RECORD_NAME))
        assert record.flags["num_queries"] == str(record.config["num_queries"])


def test_stand_ins_are_named_as_what_they_are(quick, monkeypatch):
    digits = data.load("mnist_5k", announce=lambda line: None)
    monkeypatch.setattr(data, "load", lambda *args, **options: digits)
    (path,) = quick.run("whitebox", "--num_images=3")
    record = records.read(path.removesuffix(records.RECORD_NAME))
    assert record.flags == {"dataset": "mnist_5k", "split": "conv1", "num_images": "3"}
    assert "workdir" in experiment.find("whitebox").settings
