"""Networks as a command line names them."""

import os
import sys

import foreign
import jax
import numpy as np
import pytest

from jaxinv.errors import UsageError, UserError
from jaxinv.networks import cifar_cnn, lenet5, loading
from jaxinv.studies import scenes
from jaxinv.studies.config import WorkConfig


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a network in it, which is the current one."""
    foreign.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_name_of_the_zoo_is_built_for_images_and_classes():
    assert loading.load("lenet5").network is lenet5()
    assert loading.load("cifar_cnn", (32, 32, 3), 7).network is cifar_cnn(num_classes=7)
    assert loading.load("lenet5").params is None
    assert loading.load("lenet5", (20, 16, 3), 0).network.input_shape == (20, 16, 3)
    with pytest.raises(UsageError, match=r"network=lenet5: takes images .* not \[12, 12, 1\]"):
        loading.load("lenet5", (12, 12, 1))


def test_a_function_of_a_file_gives_a_network_and_its_parameters(here):
    model = loading.load("net.py:build")
    assert model.network.input_shape == (12, 12, 1) and model.network.output_shape == (3,)
    x = jax.random.uniform(jax.random.key(1), (2, 12, 12, 1))
    assert np.isfinite(model.network.apply(model.params, x)).all()
    assert loading.load("net.py:untrained").params is None
    assert loading.load(f"{here}/net.py:build").network is not model.network
    assert loading.load(f"{here}/net.py:build").facts["fingerprint"] == model.facts["fingerprint"]


def test_a_file_that_changes_is_read_again(here, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    before = loading.load("net.py:build")
    assert loading.load("net.py:build") is before
    path = here / "net.py"
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    path.write_text(path.read_text("utf-8").replace("nn.relu(x + y)", "nn.tanh(x + y)"), "utf-8")
    os.utime(path, ns=times)  # as an edit within the same second, and of the same size
    assert loading.load("net.py:build").facts["fingerprint"] != before.facts["fingerprint"]


def test_a_function_that_reads_another_file_is_asked_again_in_the_next_run(here):
    """The content of such a file is not known."""
    scaled = "def scaled():\n    import pathlib\n    apply, variables, shape = _made(3)\n"
    scaled += "    scale = float(pathlib.Path('scale.txt').read_text())\n"
    scaled += "    return (lambda v, x: scale * apply(v, x)), variables, shape\n"
    path = here / "net.py"
    path.write_text(path.read_text("utf-8") + "\n\n" + scaled, "utf-8")
    found = []
    for scale in ("1", "2"):
        (here / "scale.txt").write_text(scale)
        scenes.begin(WorkConfig(workdir=str(here / "results")))
        found.append(loading.load("net.py:scaled"))
        assert loading.load("net.py:scaled") is found[-1]
    assert found[0].network.fingerprint != found[1].network.fingerprint


def test_a_module_is_found_from_the_current_folder(here, monkeypatch):
    (here / "ours").mkdir()
    (here / "ours" / "__init__.py").write_text("")
    foreign.write(here / "ours", "tiny.py")
    path = list(sys.path)
    assert loading.load("ours.tiny:build").short_name == "ours.tiny.build"
    assert sys.path == path
    for name in ("ours", "ours.tiny"):
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.parametrize(
    "spelling, kind, told",
    [
        ("lenet", UsageError, "network=lenet: expected a name of the zoo"),
        ("lenet", UsageError, "did you mean lenet5"),
        ("absent.py:build", UsageError, "there is no file absent.py"),
        ("absent.onnx", UsageError, "there is no file absent.onnx"),
        ("net.py", UsageError, "network=net.py: expected net.py:function"),
        ("net.py:", UsageError, "expected net.py:function"),
        ("net.py:TEXT", UsageError, "there is no function TEXT; functions there: Tiny, _made"),
        ("absent_package.part:build", UsageError, "there is no module absent_package"),
        ("net.py:fails", UserError, "network=net.py:fails: line 50: ZeroDivisionError: division"),
        ("net.py:number", UserError, r"returns int: expected a Network, \(Network, params\)"),
        ("broken.py:build", UserError, "network=broken.py:build: line 2: SyntaxError"),
        ("raises.py:build", UserError, "network=raises.py:build: line 1: NameError"),
        ("leaves.py:build", UserError, "network=leaves.py:build: line 1: SystemExit: 3"),
    ],
)
def test_what_names_no_network_is_refused_in_a_line(here, spelling, kind, told):
    (here / "broken.py").write_text("x = 1\ndef build(:\n")
    (here / "raises.py").write_text("nothing\n")
    (here / "leaves.py").write_text("raise SystemExit(3)\n")
    with pytest.raises(UserError, match=told) as refused:
        loading.load(spelling)
    assert type(refused.value) is kind and "\n" not in str(refused.value)


def test_preprocessing_is_added_to_a_network_that_brings_none(here):
    plain, scaled = (loading.load("net.py:build", mean=m, std=m) for m in (None, (0.5,)))
    x = jax.random.uniform(jax.random.key(1), (2, 12, 12, 1))
    found = scaled.network.apply(scaled.params, x)
    np.testing.assert_allclose(found, plain.network.apply(plain.params, (x - 0.5) / 0.5), atol=1e-6)
    assert plain.network.fingerprint != scaled.network.fingerprint
    with pytest.raises(UsageError, match=r"mean=0.5: network=lenet5 brings its own preprocessing"):
        loading.load("lenet5", mean=(0.5,), std=(0.5,))
    with pytest.raises(UsageError, match="expected both of mean and std"):
        loading.load("net.py:build", std=(0.5,))
