import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import jaxinv
from jaxinv.errors import UserError
from jaxinv.store import files, records
from jaxinv.store.fields import level_text
from jaxinv.store.record import SCHEMA

IMAGES = {"originals": np.zeros((2, 4, 4, 1)), "reconstructions": np.ones((2, 4, 4, 1))}


def a_record(**values):
    """As little as the record of an attack may hold."""
    texts = ("experiment", "dataset", "config_hash", "split", "method")
    return (
        {"kind": "attack", "schema": SCHEMA}
        | dict.fromkeys((*texts, "attacker_knowledge", "surrogate"), "")
        | dict.fromkeys(("seed", "num_images", "releases", "diverged"), 0)
        | dict.fromkeys(("data_source", "device", "paper", "exact_fraction"))
        | dict.fromkeys(("accuracy", "accuracy_undefended", "compile_s", "fit_s", "attack_s"))
        | dict.fromkeys(("images_per_s", "psnr_mean", "psnr_std", "psnr_median"))
        | dict.fromkeys(("ssim_mean", "ssim_std", "ssim_median"))
        | {"versions": {}, "config": {}, "psnr": [], "ssim": []}
        | {"defense": {"kind": "none", "site": "feature", "level": 0.0}}
        | values
    )


def fields_of(directory):
    found = records.read(directory)
    return found and found.fields


def python(code, *arguments):
    """A new process that runs `code` with jaxinv at hand."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], cwd=Path(jaxinv.__path__[0]).parent
    )


def strict(text):
    def refuse(constant):
        raise AssertionError(constant)

    return json.loads(text, parse_constant=refuse)


def files_in(directory):
    return sorted(path.name for path in directory.iterdir())


def test_hash_is_that_of_canonical_json():
    # sha256 of {"a":[1,2],"b":{"c":0.5,"d":null}}, in another process and language
    expected = "288c9c757c"
    assert records.config_hash({"b": {"d": None, "c": 0.5}, "a": (1, 2)}) == expected
    assert records.config_hash({"a": [1, np.int64(2)], "b": {"c": 0.5, "d": None}}) == expected


def test_hash_tells_values_apart():
    configs = [{"a": 1}, {"a": 1.0}, {"a": "1"}, {"a": True}, {"a": [1]}, {"a": None}, {}]
    assert len({records.config_hash(config) for config in configs}) == len(configs)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float32("nan")])
def test_hash_refuses_what_is_not_finite(value):
    with pytest.raises(ValueError, match="JSON"):
        records.config_hash({"level": value})


def test_hash_refuses_objects():
    with pytest.raises(TypeError, match="no place in a configuration"):
        records.config_hash({"level": object()})


def test_run_dir_is_readable_and_ends_in_the_hash(tmp_path):
    config = {"split": "conv1"}
    path = records.run_dir(tmp_path, "whitebox", config, label="mnist-conv1-sigma=0.5")
    assert path == (tmp_path / "whitebox" / f"mnist-conv1-sigma=0.5-{records.config_hash(config)}")


@pytest.mark.parametrize(
    "label", ["../../etc/x", "a/b c:*?", ".hidden", "", "..", "é" * 300, "x" * 300]
)
def test_any_label_makes_one_plain_folder(tmp_path, label):
    path = records.run_dir(tmp_path, "whitebox", {}, label=label)
    assert path.parent == tmp_path / "whitebox"
    assert path.resolve() == path
    assert not path.name.startswith((".", "-"))
    path.mkdir(parents=True)


def test_write_then_read(tmp_path):
    run = tmp_path / "whitebox" / "run"
    assert records.read(run) is None
    records.write(run, a_record(split="conv1", paper={"psnr": 39.6, "ssim": 1.0}), images=IMAGES)
    assert fields_of(run) == a_record(split="conv1", paper={"psnr": 39.6, "ssim": 1.0})
    assert files_in(run) == ["images.npz", "record.json"]
    with np.load(run / "images.npz") as images:
        assert {name: images[name].mean() for name in images} == {
            "originals": 0.0,
            "reconstructions": 1.0,
        }


def test_write_without_images(tmp_path):
    records.write(tmp_path, a_record(), images=None)
    assert files_in(tmp_path) == ["record.json"]


def test_what_is_written_is_strict_json_in_plain_types(tmp_path):
    record = a_record(
        num_images=3,
        psnr=np.array([39.123456789, np.nan, np.inf], np.float32),
        ssim=jnp.array([0.25, 1.0, 0.0]),
        diverged=np.int64(2),
        psnr_mean=float("nan"),
        psnr_std=np.float32("inf"),
        attack_s=1 / 3,
        other={"kind": None, "level": float("-inf"), "exact": np.array([[True, False]])},
        cuts=("conv1", "relu2"),
    )
    records.write(tmp_path, record, images=None)
    got = strict((tmp_path / "record.json").read_text("utf-8"))
    assert got == fields_of(tmp_path)
    assert got["psnr"] == [39.1235, None, None]
    assert got["ssim"] == [0.25, 1.0, 0.0]
    assert got["diverged"] == 2
    assert got["psnr_mean"] is got["psnr_std"] is None
    assert got["attack_s"] == 1 / 3
    assert got["other"] == {"kind": None, "level": None, "exact": [[True, False]]}
    assert got["cuts"] == ["conv1", "relu2"]


def test_a_configuration_keeps_its_hash_on_disk(tmp_path):
    config = {"lr": 1e-2, "level": np.float32(0.1), "split": ("conv1",), "steps": np.int32(5)}
    records.write(tmp_path, a_record(config=config), images=None)
    assert records.config_hash(records.read(tmp_path).config) == records.config_hash(config)


def test_write_refuses_an_incomplete_record(tmp_path):
    record = a_record()
    del record["psnr_mean"], record["seed"]
    for key in ("seed", "psnr_mean"):
        with pytest.raises(ValueError, match=f"missing required field `{key}`"):
            records.write(tmp_path, record, images=IMAGES)
        record[key] = 0
    assert not files_in(tmp_path)


WHOLE = json.dumps(a_record())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        WHOLE[: len(WHOLE) // 2].encode(),
        b"\xff\xfe\x00",
        b"[1, 2]",
        b"[" * 100_000,
        b'{"seed": 0}',
        WHOLE.replace('"seed": 0', '"seed": 0, "seed": 1').encode(),
        WHOLE.replace('"psnr_mean": null', '"psnr_mean": NaN').encode(),
        WHOLE.replace('"psnr_mean": null', '"psnr_mean": 1e999').encode(),
        WHOLE.encode("utf-16"),
    ],
    ids=[
        *("empty", "truncated", "binary", "list", "nested", "keys missing", "a key twice"),
        *("NaN", "infinite", "UTF-16"),
    ],
)
def test_a_corrupt_record_is_set_aside(tmp_path, capsys, content):
    for n in (1, 2):
        (tmp_path / "record.json").write_bytes(content)
        assert records.read(tmp_path) is None
        said = capsys.readouterr().err
        assert str(tmp_path / "record.json") in said
        assert said.count("\n") == 1
        assert (tmp_path / f"record.json.corrupt-{n}").read_bytes() == content
    records.write(tmp_path, a_record(), images=None)
    assert fields_of(tmp_path) == a_record()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("experiment", None),
        ("seed", "0"),
        ("num_images", 1.5),
        ("diverged", True),
        ("releases", -1),
        ("versions", []),
        ("config", None),
        ("psnr", {}),
        ("ssim", ["high"]),
        ("psnr_mean", "high"),
        ("psnr_ci", [1.0]),
        ("defense", {"kind": "none", "site": "feature"}),
        ("defense", {"kind": "none", "site": "feature", "level": "low"}),
        ("defense", {"kind": "none", "site": "everywhere", "level": 0.0}),
        ("paper", {"psnr": 1.0}),
    ],
)
def test_a_record_of_other_types_is_set_aside(tmp_path, capsys, key, value):
    (tmp_path / "record.json").write_text(json.dumps(a_record(**{key: value})))
    assert records.read(tmp_path) is None
    said = capsys.readouterr().err
    assert "not a whole record: " in said and f"$.{key}" in said
    assert (tmp_path / "record.json.corrupt-1").is_file()


def test_text_that_no_file_can_hold_is_written_all_the_same(tmp_path):
    name = os.fsdecode(b"/data/\xff")  # of a folder, as the command line hands it over
    records.write(tmp_path, a_record(data_source=name), images=None)
    assert records.read(tmp_path).data_source == "/data/\\udcff"


def test_damaged_images_are_set_aside(tmp_path, capsys):
    assert records.read_images(tmp_path) is None
    records.write(tmp_path, a_record(), images=IMAGES)
    found = records.read_images(tmp_path)
    np.testing.assert_array_equal(found["reconstructions"], IMAGES["reconstructions"])
    assert not capsys.readouterr().err
    whole = (tmp_path / "images.npz").read_bytes()
    for number, damaged in enumerate((b"", whole[:99], whole.replace(b"\x00\x00\x80", b"abc")), 1):
        (tmp_path / "images.npz").write_bytes(damaged)
        assert records.read_images(tmp_path) is None
        aside = f"images.npz.corrupt-{number}"
        assert (tmp_path / aside).read_bytes() == damaged
        (line,) = capsys.readouterr().err.splitlines()
        assert str(tmp_path / "images.npz") in line and aside in line


def test_images_that_cannot_be_opened_are_told_in_a_line(tmp_path):
    records.write(tmp_path, a_record(), images=None)
    (tmp_path / "images.npz").mkdir()
    with pytest.raises(UserError) as caught:
        records.read_images(tmp_path)
    assert str(caught.value) == f"Cannot read {tmp_path / 'images.npz'}: Is a directory."


PICTURES = np.zeros((2, 4, 4, 1), "f")


@pytest.mark.parametrize(
    "images",
    [
        {},
        {"originals": PICTURES},
        {"originals": PICTURES, "reconstructions": PICTURES[:1]},
        {"originals": PICTURES[..., None], "reconstructions": PICTURES[..., None]},
        {"originals": PICTURES[:0], "reconstructions": PICTURES[:0]},
        {"originals": PICTURES, "reconstructions": PICTURES.astype(complex)},
        {"originals": PICTURES.astype(str), "reconstructions": PICTURES},
    ],
)
def test_images_that_are_none_are_set_aside(tmp_path, capsys, images):
    records.write(tmp_path, a_record(), images=images)
    assert records.read_images(tmp_path) is None
    assert "no originals and reconstructions of one shape" in capsys.readouterr().err
    assert (tmp_path / "images.npz.corrupt-1").is_file()


def test_the_record_of_another_configuration_makes_way(tmp_path, capsys):
    config = {"steps": np.int32(5), "split": ("conv1",), "name": "a\u2028b" * 400, "rate": 0.1}
    for number, (own, wanted) in enumerate(
        ((config, config), ({**config, "steps": 6}, config), (config, {**config, "steps": 6}))
    ):
        fields = {"config": own, "config_hash": records.config_hash(own)}
        records.write(tmp_path, a_record(**fields), images=None)
        assert (records.read(tmp_path, wanted) is None) == (number > 0)
        assert capsys.readouterr().err.count("record of another configuration") == (number > 0)
    edited = {"config": {**config, "steps": 6}, "config_hash": records.config_hash(config)}
    records.write(tmp_path, a_record(**edited), images=None)
    assert records.read(tmp_path) is not None and records.read(tmp_path, config) is None
    assert files_in(tmp_path) == [f"record.json.other-{n}" for n in (1, 2, 3)]


def test_a_corrupt_record_that_cannot_be_renamed_is_ignored(tmp_path, capsys, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "rename", refuse)
    (tmp_path / "record.json").write_text("{")
    assert records.read(tmp_path) is None
    assert "ignored" in capsys.readouterr().err


def test_an_unreadable_record_is_a_users_mistake(tmp_path):
    (tmp_path / "record.json").mkdir()
    with pytest.raises(UserError, match=r"Cannot read .*record\.json: Is a directory"):
        records.read(tmp_path)


def test_find_lists_finished_runs_in_order(tmp_path):
    for experiment, run in [("whitebox", "b"), ("whitebox", "a"), ("blackbox", "c")]:
        records.write(tmp_path / experiment / run, a_record(method=run), images=None)
    (tmp_path / "whitebox" / "unfinished").mkdir()
    found = records.find(tmp_path)
    assert [record.method for record in found] == ["c", "a", "b"]
    assert found[0].path == str(tmp_path / "blackbox" / "c" / "record.json")
    assert [record.method for record in records.find(tmp_path, "whitebox")] == ["a", "b"]
    assert records.find(tmp_path / "absent") == []


def test_find_skips_a_corrupt_record(tmp_path, capsys):
    records.write(tmp_path / "whitebox" / "a", a_record(), images=None)
    (tmp_path / "whitebox" / "b").mkdir()
    (tmp_path / "whitebox" / "b" / "record.json").write_text("{")
    assert len(records.find(tmp_path)) == 1
    assert "not a whole record" in capsys.readouterr().err


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_workdir_that_is_no_folder_is_a_users_mistake(tmp_path, below):
    (tmp_path / "file").touch()
    workdir = tmp_path / "file" / below
    with pytest.raises(UserError) as caught:
        files.ensure_writable(workdir)
    assert str(caught.value) == f"workdir={workdir} cannot be written: Not a directory."
    with pytest.raises(UserError, match=r"Cannot write .*: Not a directory"):
        records.write(workdir, a_record(), images=IMAGES)


KILLED_WRITER = """
import json, os, pathlib, sys, signal
import numpy as np
from jaxinv.store import records
from jaxinv.store.fields import level_text
from jaxinv.store.record import SCHEMA

directory, call, record = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
owner = os if call.startswith("fsync") else pathlib.Path
name, count = call.split(":")
real, calls = getattr(owner, name), []

def kill_at_count(*arguments):
    calls.append(arguments)
    if len(calls) == int(count):
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments)

setattr(owner, name, kill_at_count)
records.write(directory, record, images={"originals": np.zeros(9)})
"""


@pytest.mark.parametrize("call", ["fsync:1", "replace:1", "fsync:2", "replace:2", "replace:3"])
def test_a_killed_writer_leaves_no_record_or_a_whole_one(tmp_path, call):
    process = python(KILLED_WRITER, tmp_path, call, json.dumps(a_record()))
    finished = call == "replace:3"  # there is no third
    assert process.wait(60) == (0 if finished else -signal.SIGKILL)
    record = records.read(tmp_path)
    assert (record is not None) == finished
    assert (tmp_path / "images.npz").exists() == (call in ("fsync:2", "replace:2", "replace:3"))
    records.write(tmp_path, a_record(), images=IMAGES)
    assert fields_of(tmp_path) == a_record()


REPEATED_WRITER = """
import json, sys
import numpy as np
from jaxinv.store import records
from jaxinv.store.fields import level_text
from jaxinv.store.record import SCHEMA

directory, value, record = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
for _ in range(40):
    record |= {"seed": value, "psnr": [value] * 4_000, "ssim": [0.5] * 4_000}
    record["num_images"] = 4_000
    records.write(directory, record, images={"originals": np.full(50_000, value)})
"""


def test_two_writers_of_one_run_leave_one_whole_record(tmp_path, capsys):
    writers = [python(REPEATED_WRITER, tmp_path, value, json.dumps(a_record())) for value in (1, 2)]
    while any(writer.poll() is None for writer in writers):
        record = records.read(tmp_path)
        assert record is None or set(record.psnr) == {record.seed}
    assert [writer.returncode for writer in writers] == [0, 0]
    assert files_in(tmp_path) == ["images.npz", "record.json"]
    assert not capsys.readouterr().err
    with np.load(tmp_path / "images.npz") as images:
        assert len(set(images["originals"])) == 1


@pytest.mark.parametrize(
    ("level", "text"), [(0.0, "0"), (0.6, "0.6"), (8.0, "8"), ([0.2, 3.0], "0.2+3")]
)
def test_a_level_is_written_as_flags_spell_it(level, text):
    assert level_text(level) == text


def test_half_a_surrogate_pair_is_a_mark_and_the_record_is_read(tmp_path):
    text = WHOLE.replace('"dataset": ""', '"dataset": "a\\ud800b"')
    (tmp_path / "record.json").write_text(text)
    assert records.read(tmp_path).dataset == "a\N{REPLACEMENT CHARACTER}b"


def test_keys_that_are_alike_once_they_are_shortened_are_not_the_same(tmp_path):
    long = "x" * 2000
    text = WHOLE.replace('"seed": 0', f'"seed": 0, "{long}a": 1, "{long}b": 2')
    (tmp_path / "record.json").write_text(text)
    assert records.read(tmp_path).seed == 0
