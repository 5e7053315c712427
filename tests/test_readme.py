"""README and guides: their Python runs as it stands, and what they name exists."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "experiments").glob("*.md"))]
IDS = [page.relative_to(ROOT).as_posix() for page in PAGES]


def printed_by_example(page):
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text("utf-8"), re.S)
    done = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_example_of_a_network_of_ones_own():
    cuts, quality = printed_by_example("README.md")
    assert cuts == "stem relu add relu_2 max_pool head"
    psnr, ssim = re.fullmatch(r"([\d.]+) dB, SSIM ([\d.]+)", quality).groups()
    assert float(psnr) > 25 and float(ssim) > 0.9


def test_the_example_of_an_attack_of_ones_own():
    (quality,) = printed_by_example("experiments/extending.md")
    (psnr,) = re.fullmatch(r"([\d.]+) dB", quality).groups()
    assert float(psnr) > 10


def test_the_readme_can_be_read_in_minutes():
    assert len(PAGES[0].read_text("utf-8").splitlines()) <= 250


def test_the_citation_is_of_this_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    cited = (ROOT / "CITATION.cff").read_text("utf-8").splitlines()
    assert {f"version: {project['version']}", f"license: {project['license']}"} <= set(cited)


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_script_that_is_named_exists(page):
    scripts = set(re.findall(r"experiments/\w+\.py", page.read_text("utf-8")))
    assert all((ROOT / script).is_file() for script in scripts)


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_link_leads_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), link
        if anchor:
            heads = re.findall(r"^#+ (.*)$", there.read_text("utf-8"), re.M)
            named = {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}
            assert anchor in named, link


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_module_and_test_that_is_named_exists(page):
    named = re.findall(r"`((?:jaxinv|tests)/[\w/.]+)`", page.read_text("utf-8"))
    missing = [path for path in named if not (ROOT / path).exists()]
    assert not missing
