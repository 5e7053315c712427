"""Damaged files: each is read, set aside or refused in one line, and nothing else is lost.

Every kind of file stands in a folder of good ones. One file is damaged, its folder is read as
jaxinv reads it, and the good files beside it have to be read as before. The damaged bytes have to
be there still, under the old name or another.
"""

import collections
import contextlib
import io
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import fake_runs
import jax
import jax.numpy as jnp
import numpy as np
import optax
from datasets import random_split, write_tfds

from jaxinv.errors import UserError
from jaxinv.inputs import data
from jaxinv.measures import profiles
from jaxinv.networks import lenet5
from jaxinv.store import checkpoints, records
from jaxinv.sweeps import summary
from jaxinv.sweeps.store import Run, Sweep, SweepOutcome
from jaxinv.training import fit, targets


class Kind(NamedTuple):
    """A kind of files.

    Attributes:
      make: fills a folder with good files.
      files: pattern of those that are damaged.
      read: reads the folder as jaxinv does and checks the good files; raises UserError, if a file
        is refused.
      forgotten: patterns of files that only save time, and may be written anew.
    """

    make: Callable[[Path], None]
    files: str
    read: Callable[[Path], None]
    forgotten: tuple[str, ...] = ()


def fuzz(count: int, seed: int, folder: Path) -> collections.Counter:
    """Damages files one after another; returns how many of each kind were read or refused."""
    chance, found, faults = random.Random(seed), collections.Counter(), []
    for name, kind in KINDS.items():
        kind.make(folder / "good" / name)
        kind.read(folder / "good" / name)
    for number in range(count):
        name = list(KINDS)[number % len(KINDS)]
        place = folder / "tried" / name
        shutil.copytree(folder / "good" / name, place)
        try:
            found[f"{name} {_try(chance, KINDS[name], place, folder / 'good')}"] += 1
        except AssertionError as error:
            faults.append(f"{name}: {error}")
        shutil.rmtree(place)
    assert not faults, "\n".join(faults)
    return found


def _try(chance: random.Random, kind: Kind, place: Path, good: Path) -> str:
    """Damages a file of a folder and reads the folder."""
    path = chance.choice(sorted(path for path in place.glob(kind.files) if path.is_file()))
    harm = _damage(chance, path, good)
    before, said = _contents(place, kind.forgotten), io.StringIO()
    what = f"{path.relative_to(place)}, {harm}"
    outcome = "read"
    with contextlib.redirect_stderr(said):
        try:
            kind.read(place)
        except UserError as error:
            outcome = "refused"
            assert str(error) and "\n" not in str(error), (what, str(error))
        except Exception as error:
            raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
    assert all(len(line) > 10 for line in said.getvalue().splitlines()), (what, said.getvalue())
    lost = before - _contents(place, ())
    assert not lost, (what, lost)
    if list(place.rglob("*.corrupt-*")):
        assert "is damaged" in said.getvalue(), what
        outcome = "set aside"
    return outcome


def _contents(place: Path, forgotten: tuple[str, ...]) -> set[bytes]:
    """Returns what the files below a folder hold."""
    skipped = {path for pattern in forgotten for path in place.glob(pattern)}
    return {
        path.read_bytes() for path in place.rglob("*") if path.is_file() and path not in skipped
    }


def _damage(chance: random.Random, path: Path, good: Path) -> str:
    """Damages a file; returns how."""
    content, harm = bytearray(path.read_bytes()), chance.choice(_HARMS)
    place = chance.randrange(len(content)) if content else 0
    if harm == "cut":
        content = content[:place]
    elif harm == "emptied":
        content.clear()
    elif harm == "zeroed":
        size = chance.choice([1, 16, 4096])
        content[place : place + size] = bytes(len(content[place : place + size]))
    elif harm == "flipped":
        for at in (place, chance.randrange(len(content))) if content else ():
            content[at] ^= 1 << chance.randrange(8)
    elif harm == "bytes swapped":
        other = chance.randrange(len(content)) if content else 0
        content[place : place + 1], content[other : other + 1] = (
            content[other : other + 1],
            content[place : place + 1],
        )
    elif harm == "noise":
        content = bytearray(chance.randbytes(chance.choice([1, 100, 5000])))
    elif harm == "longer":
        content += chance.randbytes(9)
    elif harm == "other JSON":
        content = bytearray(chance.choice(_JSON))
    elif harm == "a value changed":
        content = _other_value(chance, content)
    elif harm == "another file":
        other = chance.choice(sorted(found for found in good.rglob("*") if found.is_file()))
        content, harm = bytearray(other.read_bytes()), f"{harm}: {other.relative_to(good)}"
    if harm in ("gone", "a folder", "a link to nothing"):
        path.unlink()
    if harm == "a folder":
        path.mkdir()
    elif harm == "a link to nothing":
        path.symlink_to("nothing")
    elif harm != "gone":
        path.write_bytes(content)
    return f"{harm} at {place}"


_HARMS = (
    *("cut", "emptied", "zeroed", "flipped", "bytes swapped", "noise", "longer", "other JSON"),
    *("a value changed", "a value changed", "another file", "gone", "a folder"),
    "a link to nothing",
)
_VALUES = (
    None,
    True,
    -1,
    0.5,
    10**400,
    1e308,
    "",
    "é\u2028\0",
    [],
    [[]],
    {},
    {"kind": []},
    "mnist",
)
_JSON = (b"null", b"[]", b"{}", b"3", b'"text"', b"[" * 5000, b'{"a": NaN}', b'{"kind": "attack"}')


def _other_value(chance: random.Random, content: bytearray) -> bytearray:
    """Changes or removes a value of a JSON object, or one of an object in it."""
    try:
        found = json.loads(content)
    except ValueError:
        return content[::-1]
    inner = found
    while isinstance(inner, dict | list) and inner:
        key = chance.choice(list(inner) if isinstance(inner, dict) else range(len(inner)))
        if chance.random() < 0.4 or not isinstance(inner[key], dict | list) or not inner[key]:
            if chance.random() < 0.2:
                del inner[key]
            else:
                inner[key] = chance.choice(_VALUES)
            break
        inner = inner[key]
    return bytearray(json.dumps(found).encode())


# --- Kinds ----------------------------------------------------------------------------------------


def _make_records(folder: Path) -> None:
    for number in range(3):
        values = {"num_images": 2, "psnr": [1.0, 2.0], "ssim": [0.1, 0.2]}
        fake_runs.attack(folder, folder=str(number), seed=number, **values)


def _read_records(folder: Path) -> None:
    found = records.find(folder)
    assert len(found) >= 2
    assert sum(records.read_images(Path(one.path).parent) is not None for one in found) >= 1


def _make_sweep(folder: Path) -> None:
    _make_records(folder)
    sweep = _sweep(folder)
    for number, run in enumerate(sweep.runs):
        path = folder / "whitebox" / str(number) / "record.json"
        sweep.mark(SweepOutcome(run, "finished", (path,), 1.5))
    sweep.write_failure(SweepOutcome(sweep.runs[0], "failed", (), 1.0, None, "killed"))
    sweep.write()


def _sweep(folder: Path) -> Sweep:
    runs = (Run("whitebox", {"seed": str(seed)}, {"code": "c", "data": "d"}) for seed in range(3))
    return Sweep(tuple(runs), folder)


def _read_sweep(folder: Path) -> None:
    sweep = _sweep(folder)
    known = [*sweep.known().values()]
    assert len(known) >= 2
    failed = [sweep.failure(run) for run in sweep.runs]
    assert summary.table([*known, *filter(None, failed)])
    assert all(run.name for run in Sweep.read(sweep.folder).runs)


def _make_cache(folder: Path) -> None:
    write_tfds(folder / "data", "tiny", random_split(9), random_split(4))
    for _ in range(2):
        _load(folder)


def _load(folder: Path) -> data.Dataset:
    cache = folder / "cache"
    return data.load("tiny", data_dir=folder / "data", cache_dir=cache, announce=_say)


def _say(line: str) -> None:
    import sys

    print(line, file=sys.stderr)


def _read_cache(folder: Path) -> None:
    np.testing.assert_array_equal(_load(folder).target.pixels, random_split(9)[0][:6])


def _make_dataset(folder: Path) -> None:
    write_tfds(folder / "data", "tiny", random_split(9), random_split(4), num_shards=2)
    write_tfds(folder / "data", "other", random_split(3), random_split(4))


def _read_dataset(folder: Path) -> None:
    found, refused = [], None
    for name in ("tiny", "other"):
        try:
            found.append(data.load(name, data_dir=folder / "data", cache_dir=folder / "cache"))
        except UserError as error:
            refused = error
    assert found
    for one in found:
        pixels = one.test.images
        assert pixels.min() >= 0 and pixels.max() <= 1
        assert one.test.labels.max() < one.num_classes
    if refused:
        raise refused


_MNIST = data.Dataset(
    *("mnist", "nowhere", "f" * 12, 10),
    *[data.Samples(np.zeros((2, 28, 28, 1), np.uint8), np.zeros(2, np.int32))] * 3,
)


def _make_weights(folder: Path) -> None:
    shapes = jax.eval_shape(lenet5().init, jax.random.key(0))
    for number in range(2):
        params = jax.tree.map(lambda leaf, number=number: np.full(leaf.shape, number, "f"), shapes)
        training = {"test_accuracy": 0.99, "data_fingerprint": "f" * 12, "epochs": 3}
        metadata = {"dataset": "mnist", "training": json.dumps(training)}
        checkpoints.save(folder / f"{number}.safetensors", params, metadata=metadata)


def _read_weights(folder: Path) -> None:
    found, refused = [], None
    for path in sorted(folder.glob("*.safetensors")):
        try:
            found.append(targets.load(path, _MNIST))
            targets.test_accuracy(found[-1], _MNIST)
        except UserError as error:
            refused = error
    assert found
    if refused:
        raise refused


def _make_training(folder: Path) -> None:
    folder.mkdir(parents=True)
    _train(folder, 1)


def _train(folder: Path, epochs: int) -> fit.Fit:
    return fit.fit(
        _loss,
        {"w": jnp.zeros(3)},
        {"x": np.arange(12, dtype=np.float32).reshape(4, 3)},
        optimizer=_ADAM,
        epochs=epochs,
        batch_size=2,
        key=jax.random.key(0),
        checkpoint=folder / "part.safetensors",
    )


_ADAM = optax.adam(0.1)


def _loss(params, batch, key):
    return jnp.mean((batch["x"] @ params["w"] - 1) ** 2), {}


def _read_training(folder: Path) -> None:
    found = _train(folder, 1)
    assert len(found.history) == 1 and np.isfinite(found.params["w"]).all()


def _make_profile(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name in ("own", "other"):
        text = (Path(profiles.__file__).parent / "phone-wifi.toml").read_text("utf-8")
        (folder / f"{name}.toml").write_text(text)


def _read_profiles(folder: Path) -> None:
    found, refused = [], None
    for name in ("own", "other"):
        try:
            found.append(profiles.load(str(folder / f"{name}.toml")))
        except UserError as error:
            refused = error
    assert found
    if refused:
        raise refused


KINDS = {
    "record": Kind(_make_records, "*/*/record.json", _read_records),
    "images": Kind(_make_records, "*/*/images.npz", _read_records),
    "sweep": Kind(_make_sweep, "sweeps/**/*", _read_sweep),
    "cache": Kind(
        _make_cache, "cache/**/*", _read_cache, ("cache/**/checked.json", "cache/sources/*")
    ),
    "dataset": Kind(_make_dataset, "data/tiny/**/*", _read_dataset, ("cache/**/*",)),
    "weights": Kind(_make_weights, "*.safetensors", _read_weights),
    "training": Kind(_make_training, "*.safetensors", _read_training),
    "profile": Kind(_make_profile, "own.toml", _read_profiles),
}
