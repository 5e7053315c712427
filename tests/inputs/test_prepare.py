"""Downloads that fail."""

import time

from jaxinv.inputs import tfds as _tfds


def test_prepare_fails_in_one_line(tmp_path):
    reason = _tfds.prepare(_tfds.parse("mnist:9.9.9"), tmp_path)
    assert "9.9.9" in reason and "\n" not in reason


def test_a_dead_network_ends_the_download_soon(tmp_path, monkeypatch):
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # the discard port: nothing listens
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    start = time.monotonic()
    reason = _tfds.prepare(_tfds.parse("mnist"), tmp_path)
    assert "Error" in reason and "\n" not in reason
    assert time.monotonic() - start < 60
