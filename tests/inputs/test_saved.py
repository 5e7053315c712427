"""Folders of Hugging Face's `save_to_disk`, read without `datasets`."""

import importlib.util
import json

import pytest
from datasets import image_file
from own_images import counts, load, parts_of, pictures, write_saved
from tiny import assert_one_line

from jaxinv.errors import UserError
from jaxinv.inputs import data

IMAGES = pictures(10)
LABELS = [0, 1] * 5


def write_several(folder, **splits):
    for name, given in splits.items():
        write_saved(folder / name, *given)
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": list(splits)}))
    return folder


def refused(folder, *words):
    with pytest.raises(UserError) as caught:
        data.load(str(folder))
    assert_one_line(caught, f"dataset={folder}: ", *words)


def test_one_table(tmp_path):
    dataset = load(write_saved(tmp_path / "own", IMAGES, LABELS))
    assert dataset.name == "own" and dataset.num_classes == 2 and dataset.image_shape == (6, 5, 3)
    told = "Hugging Face dataset, 10 images, parts by a hash of each image's content"
    assert dataset.source == told
    known = {image.tobytes(): label for image, label in zip(IMAGES, LABELS, strict=True)}
    for part in (dataset.target, dataset.attacker, dataset.test):
        assert [known[image.tobytes()] for image in part.pixels] == part.labels.tolist()
    assert parts_of(dataset) == parts_of(data.from_arrays(IMAGES, name="own"))


def test_train_and_test(tmp_path):
    folder = write_several(
        tmp_path / "own", train=(IMAGES[:8], LABELS[:8]), test=(IMAGES[8:], LABELS[8:])
    )
    dataset = load(folder)
    assert sum(counts(dataset)) == 10 and counts(dataset)[2] == 2
    assert {*parts_of(dataset)} == {image.tobytes() for image in IMAGES}


def test_no_labels_and_sizes(tmp_path):
    files = [image_file(image, "JPEG") for image in (*pictures(3, (9, 9, 3)), *IMAGES[:3])]
    folder = write_saved(tmp_path / "own", files)
    refused(folder, "row 3 is 6 x 5 pixels", "row 0 is 9 x 9")
    dataset = load(folder, image_size=4)
    assert not dataset.has_labels and dataset.image_shape == (4, 4, 3)


def test_without_pyarrow_a_line_says_what_to_install(tmp_path, monkeypatch):
    folder = write_saved(tmp_path / "own", IMAGES, LABELS)
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "pyarrow" else find(name)
    )
    refused(folder, "pyarrow", "install jaxinv[huggingface]")


@pytest.mark.parametrize("harm", ["cut", "gone", "state", "info", "path", "label", "index"])
def test_tables_that_cannot_be_used(tmp_path, harm):
    images = [*IMAGES[:9], None] if harm == "path" else IMAGES
    labels = [*LABELS[:9], 2] if harm == "label" else LABELS
    indices = [{"filename": "i.arrow"}] if harm == "index" else ()
    folder = write_saved(tmp_path / "own", images, labels, indices=indices)
    arrow = folder / "data-00000-of-00001.arrow"
    if harm == "cut":
        arrow.write_bytes(arrow.read_bytes()[:600])
    elif harm == "gone":
        arrow.unlink()
    elif harm in ("state", "info"):
        name = {"state": "state.json", "info": "dataset_info.json"}[harm]
        (folder / name).write_text("{}")
    words = {"path": "row 9 has no bytes", "label": "has the label 2", "index": "flatten_indices"}
    refused(folder, words.get(harm, "cannot be read as a Hugging Face dataset"))


def test_features_without_an_image(tmp_path):
    folder = write_saved(tmp_path / "own", IMAGES, LABELS)
    features = {"text": {"dtype": "string", "_type": "Value"}}
    (folder / "dataset_info.json").write_text(json.dumps({"features": features}))
    refused(folder, "has the features text", "Image")
