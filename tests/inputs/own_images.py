"""Images of a user's own, in folders, NPZ files and Hugging Face's tables."""

import json
from pathlib import Path

import numpy as np
from datasets import image_file

from jaxinv.inputs import data


def pictures(count, shape=(6, 5, 3), *, seed=0):
    """Returns different images, `[N, H, W, C]` uint8."""
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def write(folder: Path, images, *, start=0, suffix="png"):
    """Writes images as files `<number>.<suffix>`; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images, start):
        (folder / f"{number}.{suffix}").write_bytes(image_file(image))
    return folder


def write_saved(folder: Path, images, labels=None, *, classes=("a", "b"), indices=()):
    """Writes a table as `save_to_disk` does; an image may be the bytes of a file, or None."""
    import pyarrow as pa

    folder.mkdir(parents=True)
    files = [
        image if image is None or isinstance(image, bytes) else image_file(image)
        for image in images
    ]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns = {"image": pa.array([{"bytes": file, "path": "x.png"} for file in files], kind)}
    features = {"image": {"_type": "Image"}}
    if labels is not None:
        columns["label"] = pa.array(labels, pa.int64())
        features["label"] = {"names": list(classes), "_type": "ClassLabel"}
    table = pa.table(columns)
    with pa.ipc.new_stream(str(folder / "data-00000-of-00001.arrow"), table.schema) as writer:
        writer.write_table(table, max_chunksize=3)
    state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_indices_files": indices}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text(json.dumps({"features": features}))
    return folder


def load(path, *lines, **options):
    """Loads, and checks that just lines with these words are announced."""
    said = []
    dataset = data.load(str(path), announce=said.append, **options)
    assert len(said) == len(lines)
    assert all(word in line and "\n" not in line for word, line in zip(lines, said, strict=True))
    return dataset


def counts(dataset):
    return [len(part) for part in (dataset.target, dataset.attacker, dataset.test)]


def parts_of(dataset):
    """Returns content -> part of all images."""
    return {
        image.tobytes(): part
        for part in ("target", "attacker", "test")
        for image in getattr(dataset, part).pixels
    }
