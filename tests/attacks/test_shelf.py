"""Files of trainings are named by all that these depend on, and by their code."""

import numpy as np
import pytest

from jaxinv.attacks.shelf import NOWHERE, Shelf

BY = "jaxinv.attacks.learned.inverse"


def test_a_file_is_named_by_what_is_known_and_by_the_code(tmp_path):
    shelf = Shelf(tmp_path, "relu2")

    def path(shelf=shelf, kind="inverse", by=BY, value=1.0):
        return shelf.path(kind, by, lambda: {"images": np.full(3, value)})

    assert path() == path()
    assert path().parent == tmp_path
    assert path().name.startswith("relu2-") and path().name.endswith("-inverse.safetensors")
    others = [path(value=2.0), path(by="jaxinv.attacks.blackbox.paper"), path(kind="decoder")]
    others.append(path(shelf.part("shadow0")))
    assert len({path(), *others}) == 5
    assert others[-1].name.startswith("relu2-shadow0-")


def test_where_nothing_is_kept_nothing_is_computed():
    def known():
        pytest.fail("computed")

    assert NOWHERE.path("inverse", BY, known) is None
