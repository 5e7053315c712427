"""Whatever a command line or a file holds, there is an answer or one clear line, and no traceback.

The examples are the same in every run. `fuzz.py` beside this file tries as many as one likes.
"""

import contextlib
import copy
import io
import json
from types import SimpleNamespace

import fake_runs
import fuzz_files
import fuzz_lines
import numpy as np
import pytest
from datasets import random_split, write_tfds
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scripts import Accepted, outcome

from jaxinv import report, sweeps
from jaxinv.constants.threats import THREATS
from jaxinv.errors import DamagedError, UserError
from jaxinv.inputs import data
from jaxinv.inputs import tfds as _tfds
from jaxinv.machine import environment, hosts
from jaxinv.paper import parts
from jaxinv.report import results
from jaxinv.store import checkpoints, records
from jaxinv.store.record import SCHEMA
from jaxinv.studies import cli, experiment, runs
from jaxinv.studies.defended import accuracy
from jaxinv.studies.defended.known import known
from jaxinv.studies.partition import attacks
from jaxinv.sweeps import grid
from jaxinv.training import retraining, targets


def fuzz(max_examples):
    return settings(
        max_examples=max_examples,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


# --- Command lines --------------------------------------------------------------------------------

NAMES = sorted(experiment.MODULES)
WRITERS = [name for name in NAMES if "workdir" in experiment.find(name).settings]

# An argument of a process holds any byte but zero; those that are no text come as surrogates.
TEXTS = st.text(
    st.one_of(
        st.characters(exclude_characters="\0", exclude_categories=["Cs"]),
        st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF, categories=["Cs"]),
    ),
    max_size=12,
)
WORDS = st.sampled_from(
    [
        *("conv1", "relu2", "ReLU2", "fc1", "fc3", "all", "feature", "input", "input+feature"),
        *("paper", "tv", "map", "hybrid", "strong", "adaptive", "attacker", "same", "privacy"),
        *("mnist", "cifar10", "mnist_5k", "mnist:3.0.1", "MNIST", "true", "false", "phone-wifi"),
        *("dropout", "gaussian", "nopeek", "clip", "quantize", "dropout+gaussian", "none"),
        *("0", "1", ".2", "0.2+0.3", "8", "lm", "adam", "amsgrad", "code", "printed", "png"),
        *("whitebox", "blackbox", "queryfree", "both", "cloud"),
    ]
)
VALUES = st.one_of(
    WORDS,
    st.lists(WORDS, max_size=3).map(",".join),
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(["", ",", "+", "-", "=", "--", "nan", "inf", "1e999", "a" * 300, "../..", "/"]),
    TEXTS,
)
OF_THE_MACHINE = ("workdir", "out", "flagfile", "multihost")  # what writes, and what waits


def values(flag):
    """Texts for a setting's flag, half of them of its type."""
    if flag.choices:
        return st.one_of(st.sampled_from(flag.choices), VALUES)
    if flag.kind in (int, float) and not flag.many:
        numbers = st.one_of(st.integers(0, 99), st.floats(0, 9))
        return st.one_of(numbers.map(lambda x: str(flag.kind(x))), VALUES)
    return VALUES


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder with a prepared MNIST of few images; its target is the shipped one."""
    folder = tmp_path_factory.mktemp("prepared")
    train, test = (random_split(count, (28, 28, 1)) for count in (60, 200))
    write_tfds(folder, "mnist", train, test, num_classes=10)
    return folder


@pytest.fixture
def no_compute(monkeypatch, prepared, tmp_path):
    """Data and targets are found, and nothing begins."""

    def accept(*args, **options):
        raise Accepted

    for owner, function in (
        *((runs, "run_all"), (accuracy, "judge_of"), (targets, "train_run")),
        *((environment, "facts"), (parts, "run"), (retraining, "retrain")),
        *((attacks, "screen"), (sweeps, "run")),
    ):
        monkeypatch.setattr(owner, function, accept)
    monkeypatch.setattr(targets, "test_accuracy", lambda target, dataset: 0.99)
    monkeypatch.setattr(_tfds, "prepare", lambda spec, root, size: "no network here")
    monkeypatch.setattr(hosts, "initialize", accept)
    monkeypatch.setattr(cli, "use_compilation_cache", lambda: None)
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_any_command_line_is_accepted_or_gets_one_line(no_compute, name):
    known = {
        flag: each
        for flag, each in experiment.find(name).settings.items()
        if flag not in OF_THE_MACHINE
    }
    named = st.sampled_from(sorted(known)).flatmap(
        lambda flag: values(known[flag]).map(lambda text: f"--{flag}={text}")
    )
    bare = st.sampled_from(sorted(known)).map("--{}".format)
    anything = TEXTS.filter(lambda text: not any(word in text for word in OF_THE_MACHINE))
    safe = [f"--workdir={no_compute}"] * (name in WRITERS)
    safe += ["--out=page.html"] * (name == "report")
    statuses = set()

    @fuzz(45)
    @given(st.lists(st.one_of(*[named] * 8, bare, anything), max_size=3))
    def check(arguments):
        status, said = outcome(name, [*arguments, *safe])
        statuses.add(status)
        assert status in (None, 0, 1, 2)
        if status:
            assert said.startswith(f"{name}.py: error: ") and said.endswith("\n")
            assert said.count("\n") == 1 and len(said) > len(f"{name}.py: error: \n")
        else:
            assert said == ""

    check()
    assert 2 in statuses
    status, said = outcome(name, safe)
    if name == "tables":  # of the checkout: some data are not here, and of some there are too few
        assert (status, "num_images=" in said) in ((1, False), (2, True)) and said.count("\n") == 1
    else:
        assert status == {"report": 1, "paper": 1, "cuts": 0}.get(name)


@pytest.mark.parametrize("name", [name for name in WRITERS if name != "report"])
def test_a_work_folder_that_cannot_be_written_is_told_before_data_are_read(
    no_compute, monkeypatch, name
):
    monkeypatch.setattr(data, "load", lambda *args, **options: pytest.fail("read"))
    (no_compute / "file").touch()
    workdir = no_compute / "file" / "results"
    status, said = outcome(name, [f"--workdir={workdir}"])
    assert status == 1
    assert said == f"{name}.py: error: --workdir={workdir} cannot be written: Not a directory.\n"


def test_a_sweep_of_any_flags_is_a_grid_or_gets_one_line(no_compute):
    known = sorted(set(grid.flags_of("whitebox")) - set(OF_THE_MACHINE))
    settings = experiment.find("whitebox").settings
    named = st.sampled_from(known).flatmap(
        lambda flag: st.lists(values(settings[flag]), min_size=1, max_size=3).map(
            lambda texts: f"--{flag}={','.join(texts)}"
        )
    )
    grids = []

    @fuzz(150)
    @given(st.lists(st.one_of(named, named, st.just("--seed=0,1"), TEXTS), max_size=3))
    def check(arguments):
        try:
            grids.append(sweeps.expand("whitebox", grid.parse("whitebox", arguments)))
        except UserError as error:
            assert str(error)

    check()
    assert max(map(len, grids)) > 1


def test_random_lines_of_all_experiments_and_sweeps_end_as_promised(prepared, tmp_path):
    ended = fuzz_lines.fuzz(80, 0, tmp_path / "lines", prepared)
    assert ended[None] > 10 and ended[2] > 10


# --- Files ----------------------------------------------------------------------------------------


def test_of_damaged_files_nothing_is_lost(tmp_path):
    tried = fuzz_files.fuzz(5 * len(fuzz_files.KINDS), 0, tmp_path)
    assert len(tried) >= len(fuzz_files.KINDS)


JSON = st.recursive(
    st.one_of(
        *(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
        st.sampled_from(["none", "relu2", "dropout", "whitebox", 10**400, -1, 0.5]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


def spoilt(content):
    """Bytes with some replaced, removed or put in; or cut off."""
    edit = st.tuples(
        st.integers(0, len(content)), st.integers(0, 8), st.one_of(st.just(b""), st.binary())
    )

    def edited(edits):
        found = content
        for place, length, new in edits:
            found = found[:place] + new + found[place + length :]
        return found

    return st.one_of(
        st.lists(edit, min_size=1, max_size=3).map(edited),
        st.integers(0, len(content)).map(lambda size: content[:size]),
        st.binary(max_size=50),
    )


@pytest.fixture
def made(tmp_path):
    """A folder of a run, and its record as it was read."""
    fake_runs.attack(tmp_path, folder="run", num_images=2, psnr=[1.0, 2.0], ssim=[0.1, 0.2])
    folder = tmp_path / "whitebox" / "run"
    return folder, records.read(folder).fields


def read_or_set_aside(folder):
    """A record; where there is none, one line says so, and a damaged file has been renamed."""
    path = folder / records.RECORD_NAME
    content, said = path.read_bytes(), io.StringIO()
    with contextlib.redirect_stderr(said):
        found = records.read(folder)
    if found is None and "is not shown" in said.getvalue():
        assert said.getvalue().count("\n") == 1 and path.read_bytes() == content
    elif found is None:
        (aside,) = folder.glob(f"{path.name}.corrupt-*")
        assert aside.read_bytes() == content and not path.exists()
        assert said.getvalue().count("\n") == 1 and str(path) in said.getvalue()
        aside.unlink()
    else:
        assert said.getvalue() == "" and path.read_bytes() == content
    return found


def test_any_file_is_a_record_or_is_set_aside(made):
    folder, _ = made
    content = (folder / records.RECORD_NAME).read_bytes()
    texts = JSON.map(lambda value: json.dumps(value).encode())

    @fuzz(250)
    @given(st.one_of(spoilt(content), texts))
    def check(content):
        (folder / records.RECORD_NAME).write_bytes(content)
        found = read_or_set_aside(folder)
        if found is not None:
            fields = {"kind": found.kind, **found.fields, "schema": SCHEMA}
            records.write(folder, fields, images=None)  # what is read can be written
            assert records.read(folder).fields == fields

    check()


def test_any_record_that_is_read_can_be_reported_and_compared(made, tmp_path):
    """Values of any kind, in one record of several: what readers rely on has been checked."""
    folder, record = made
    keys = sorted(record.keys() - {"kind"})
    scene = SimpleNamespace(
        dataset=SimpleNamespace(
            fingerprint=record["data_fingerprint"], test=range(record["num_images"])
        ),
        half="all",
        target=SimpleNamespace(fingerprint=record["target"]["fingerprint"]),
        num_images=lambda config: config.num_images,
    )
    whole, counts = copy.deepcopy(record), {"read": 0, "known": 0}

    @fuzz(250)
    @given(st.dictionaries(st.sampled_from(keys), JSON, max_size=2), st.booleans())
    def check(values, inside):
        changed = copy.deepcopy(whole) | values
        if inside:  # deeper down
            for key in ("defense", "target", "paper", "config"):
                if isinstance(whole[key], dict):
                    changed[key] = whole[key] | values
        (folder / records.RECORD_NAME).write_text(json.dumps(changed))
        if read_or_set_aside(folder) is None:
            return
        counts["read"] += 1
        counts["known"] += len(known(str(tmp_path), scene, images=1, releases=1, threats=THREATS))
        assert results.sort(records.find(tmp_path)).attacks

    check()
    assert counts["read"] > counts["known"] > 10


def test_any_record_that_is_read_has_a_page(made, tmp_path):
    folder, record = made
    keys = sorted(record)

    @fuzz(15)
    @given(st.dictionaries(st.sampled_from(keys), JSON, min_size=1, max_size=9))
    def check(values):
        (folder / records.RECORD_NAME).write_text(json.dumps(record | values))
        if read_or_set_aside(folder):
            report.build(report.read(tmp_path))

    check()


def test_any_file_of_images_is_read_or_damaged(made):
    folder, _ = made
    path = folder / records.IMAGES_NAME
    images = {"originals": np.zeros((1, 4, 4, 1), "f"), "reconstructions": np.ones((1, 4, 4, 1))}
    records.write(folder, records.read(folder).fields, images=images)
    content = path.read_bytes()

    @fuzz(250)
    @given(spoilt(content))
    def check(content):
        path.write_bytes(content)
        with contextlib.suppress(DamagedError):
            records.load_images(path)

    check()


def test_any_file_of_arrays_is_whole_or_damaged(tmp_path):
    path = tmp_path / "model.safetensors"
    tree = {"kernel": np.arange(6, dtype="f").reshape(2, 3), "bias": np.zeros(3, "f")}
    checkpoints.save(path, tree, metadata={"history": "[]"})
    content, whole = path.read_bytes(), checkpoints.fingerprint(tree)

    @fuzz(200)
    @given(spoilt(content))
    def check(changed):
        path.write_bytes(changed)
        try:
            arrays, metadata = checkpoints.read(path)
        except DamagedError:
            return
        named = b'"checksum"' in changed  # without it a file is one of old
        assert not named or checkpoints.fingerprint(arrays) == whole
        assert not named or metadata == {"history": "[]"}

    check()
