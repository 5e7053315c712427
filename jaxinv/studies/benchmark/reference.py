"""Another program, timed in turn with a white-box attack. JAX."""

import math
import shlex
import statistics
import subprocess
from collections.abc import Sequence
from typing import Any

import jax

from jaxinv.attacks.inversion.loop import chunk_size
from jaxinv.errors import UserError
from jaxinv.inputs import data
from jaxinv.studies.benchmark.attacks import attack_work, features_of, whitebox_stage
from jaxinv.training.targets import Target


def reference(
    command: str,
    method: str,
    target: Target,
    dataset: data.Dataset,
    splits: Sequence[str],
    *,
    images: int,
    steps: int,
    repeats: int,
    key: jax.Array,
) -> list[dict[str, Any]]:
    """Times a white-box method and another program in turn, on as many images and steps.

    Ours is compiled before, and has the chunks that `rmle.invert` has by default.

    Args:
      command: of the shell, with `{dataset}`, `{split}`, `{images}` and `{steps}` to be filled in.
        The last line that it prints is how many seconds the attack took.
      method: "paper", "tv" or "map".
      target, dataset: as for `works`.
      splits: names of cuts.
      images: attacked at once by the other program.
      steps: at most the method's own.
      repeats: of both.
      key: of what is random.

    Returns:
      A row for each cut: `split`, `method`, `images`, `steps`, `seconds` and `reference_s`
      (medians), and `times_as_fast`, the median of the ratios of runs that followed each other, and
      `_low`, `_high`, the extremes.

    Raises:
      UserError: the command fails, or does not print seconds.
    """
    rows = []
    for split in splits:
        edge, _ = target.network.split(split)
        features = features_of(target, dataset, split, images)
        stage = whitebox_stage(method, target, dataset, split, key)
        taken = min(steps, stage.settings.steps)
        chunk = chunk_size(edge, images)
        work = attack_work(
            method, edge, target.params, features, stage, split=split, chunk=chunk, steps=taken
        )
        work.run()
        filled = fill(command, dataset=dataset.name, split=split, images=images, steps=taken)
        pairs = [(work.run().seconds, run_reference(filled)) for _ in range(repeats)]
        ratios = [theirs / ours for ours, theirs in pairs]
        ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
        rows.append(
            {
                "split": split,
                "method": method,
                "images": images,
                "steps": taken,
                "seconds": ours,
                "reference_s": theirs,
                "times_as_fast": statistics.median(ratios),
                "times_as_fast_low": min(ratios),
                "times_as_fast_high": max(ratios),
            }
        )
    return rows


def fill(command: str, **values: Any) -> str:
    """A command with its placeholders replaced, each by a word of the shell; other braces stay."""
    for name, value in values.items():
        command = command.replace(f"{{{name}}}", shlex.quote(str(value)))
    return command


def run_reference(command: str) -> float:
    """The seconds that a command of the shell says it took, as the last line that it prints.

    Raises:
      UserError: it fails, or says no such thing.
    """
    done = subprocess.run(command, shell=True, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise UserError(f"reference={command}: ended with status {done.returncode}.")
    last = (done.stdout.splitlines() or [""])[-1]
    try:
        seconds = float(last)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise UserError(
            f"reference={command}: the last line that it prints is {last[:80]!r}; expected how "
            "many seconds it took."
        )
    return seconds
