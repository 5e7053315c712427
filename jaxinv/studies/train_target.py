"""Trains the target network of a dataset, which the attacks then split and invert.

The target's part of the training split (its first two thirds) trains; the test split is only
measured. A run that is killed goes on from its last finished epoch when it is started again. The
run's folder holds target.safetensors (for --checkpoint), record.json and learning_curve.png.
"""

import dataclasses
from pathlib import Path

from absl import flags

from jaxinv.inputs import data
from jaxinv.store import files
from jaxinv.studies import cli
from jaxinv.training import targets

FLAGS = flags.FLAGS
cli.define_count("epochs", None, "Passes over the data; by default chosen by the dataset.")
cli.define_count("batch_size", None, "Images a step; by default chosen by the dataset.")
cli.define_float("learning_rate", None, "Peak of the one-cycle schedule.", lower_bound=1e-8)
cli.common_flags()


def main() -> Path:
    files.ensure_writable(FLAGS.workdir)
    dataset = data.load(FLAGS.dataset, data_dir=FLAGS.data_dir, announce=print)
    given = {name: FLAGS[name].value for name in ("epochs", "batch_size", "learning_rate")}
    given = {name: value for name, value in given.items() if value is not None}
    recipe = dataclasses.replace(targets.default_recipe(dataset), seed=FLAGS.seed, **given)
    return targets.train_run(dataset, recipe, FLAGS.workdir, rerun=FLAGS.rerun)


if __name__ == "__main__":
    cli.run(main)
