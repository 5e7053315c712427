"""Tries random command lines and damaged files, and tells what became of them.

  PYTHONPATH=. python tests/fuzz.py --lines=300 --files=300 --seed=0

A line is of any experiment or of a sweep; a file is a record, images, weights of a network, a
checkpoint of a training, a cache, a dataset, the state of a sweep or a profile.
Faults end it, each with a line that names the command or the damage. The same seed tries the same.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path


def main() -> None:
    """Runs what is asked for and prints a line for each kind."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name, default in (("lines", 300), ("files", 300), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="jaxinv-fuzz-") as folder:
        os.environ["JAXINV_CACHE"] = f"{folder}/cache"
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
        _run(asked, Path(folder))


def _run(asked: argparse.Namespace, folder: Path) -> None:
    import fuzz_files
    import fuzz_lines
    from datasets import random_split, write_tfds

    train, test = (random_split(count, (28, 28, 1)) for count in (30, 200))
    write_tfds(folder / "data", "mnist", train, test, num_classes=10)
    began = time.monotonic()
    ended = fuzz_lines.fuzz(asked.lines, asked.seed, folder / "lines", folder / "data")
    told = ", ".join(f"{ended[key]} {name}" for key, name in _STATUSES.items())
    print(f"{asked.lines} command lines: {told}; {time.monotonic() - began:.0f} s", flush=True)
    began = time.monotonic()
    found = fuzz_files.fuzz(asked.files, asked.seed, folder / "files")
    told = ", ".join(f"{number} {key}" for key, number in sorted(found.items()))
    print(f"{asked.files} damaged files: {told}; {time.monotonic() - began:.0f} s")


_STATUSES = {None: "accepted", 0: "answered", 2: "refused as usage", 1: "refused otherwise"}

if __name__ == "__main__":
    main()
