"""The README's Python runs as it stands, and the commands that it names exist."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def test_the_example_of_a_network_of_ones_own():
    (example,) = re.findall(r"```python\n(.*?)```", README, re.S)
    done = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    cuts, quality = done.stdout.splitlines()
    assert cuts == "stem relu add relu_2 max_pool head"
    psnr, ssim = re.fullmatch(r"([\d.]+) dB, SSIM ([\d.]+)", quality).groups()
    assert float(psnr) > 25 and float(ssim) > 0.9


def test_every_script_that_is_named_exists():
    scripts = set(re.findall(r"experiments/\w+\.py", README))
    assert scripts and all((ROOT / script).is_file() for script in scripts)
