"""Recipes for targets, and the training of one. JAX."""

import dataclasses
import math
import os
from typing import Literal

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxinv import arguments
from jaxinv.errors import UsageError
from jaxinv.inputs.data import Dataset
from jaxinv.networks import Network, Params
from jaxinv.training.amsgrad import amsgrad
from jaxinv.training.augmentation import augment
from jaxinv.training.classification import accuracy, check, loss_and_accuracy
from jaxinv.training.fit import Fit, fit

OPTIMIZERS = ("amsgrad", "adamw")

_LEAST_STEPS = 1500


@dataclasses.dataclass(frozen=True)
class TargetRecipe:
    """Settings of the training of a target.

    Attributes:
      optimizer: "amsgrad", Adam with AMSGrad at a constant rate; or "adamw" with one cycle of the
        learning rate, on gradients clipped to norm 1.
      epochs: passes over the target's part of the training split.
      batch_size: images a step.
      learning_rate: of adamw at the peak of the cycle.
      weight_decay: of adamw.
      eps: added to the root of the squared gradient.
      augment: True if images are flipped and jittered.
      seed: of the initial parameters, the order of images and the augmentation.

    Raises:
      UsageError: a setting is no number that training can use.
    """

    optimizer: Literal["amsgrad", "adamw"]
    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    eps: float
    augment: bool
    seed: int = 0

    def __post_init__(self) -> None:
        arguments.check_choice("optimizer", self.optimizer, OPTIMIZERS)
        for name in ("epochs", "batch_size"):
            arguments.check_whole(name, getattr(self, name), least=1)
        for name in ("weight_decay", "eps"):
            arguments.check_number(name, getattr(self, name), least=0)
        arguments.check_number("learning_rate", self.learning_rate, least=0, above=True)
        arguments.check_choice("augment", self.augment, (False, True))
        arguments.check_whole("seed", self.seed, least=0, most=2**32 - 1)
        if self.optimizer == "amsgrad" and self.weight_decay:
            raise UsageError(f"weight_decay={self.weight_decay}: is of optimizer=adamw alone.")

    def transformation(self, steps: int) -> optax.GradientTransformation:
        """Returns the optimizer of a training of so many steps."""
        if self.optimizer == "amsgrad":
            return amsgrad(self.learning_rate, eps=self.eps)
        schedule = optax.cosine_onecycle_schedule(steps, self.learning_rate, pct_start=0.2)
        adamw = optax.adamw(schedule, eps=self.eps, weight_decay=self.weight_decay)
        return optax.chain(optax.clip_by_global_norm(1.0), adamw)


def default_recipe(dataset: Dataset) -> TargetRecipe:
    """Returns a recipe by kind of image: for grey images that of the authors' program.

    Theirs keeps weights small, and with them the reach of attacks whose own eps is absolute. Colour
    images are augmented, grey images are not. Small datasets have more epochs: at least 1,500
    steps.

    Source: He, Zhang & Lee 2021, and the program that they published.
    """
    if dataset.image_shape[-1] > 1:
        recipe = TargetRecipe("adamw", 16, 64, 1e-3, 0.05, 1e-8, augment=True)
    else:
        recipe = TargetRecipe("amsgrad", 12, 32, 1e-3, 0.0, 1e-3, augment=False)
    steps = max(1, len(dataset.target) // recipe.batch_size)
    return dataclasses.replace(recipe, epochs=max(recipe.epochs, math.ceil(_LEAST_STEPS / steps)))


def train(
    dataset: Dataset,
    network: Network,
    recipe: TargetRecipe,
    *,
    checkpoint: str | os.PathLike[str] | None = None,
) -> Fit:
    """Trains a network on the target's part of a dataset.

    The history has `loss` and `accuracy` on the (augmented) training images, and `test_accuracy` on
    the first 2,000 test images, for the picture alone: nothing is chosen by them.

    Args:
      dataset: its `target` part trains.
      network: takes the dataset's images, returns one logit a class.
      recipe: the settings.
      checkpoint: file to continue from after a kill.

    Raises:
      UsageError: the network takes other images, or has too few logits.
      UserError: the loss became non-finite.
    """
    for part in (dataset.target, dataset.test):
        check(network, part)
    key_init, key_fit = jax.random.split(jax.random.key(recipe.seed))
    samples, shown = dataset.target, dataset.test[:2000]
    steps = recipe.epochs * max(1, len(samples) // recipe.batch_size)

    def loss(params: Params, batch: dict[str, Array], key: Array):
        images = batch["pixels"].astype(jnp.float32) / 255
        images = augment(key, images) if recipe.augment else images
        return loss_and_accuracy(network.apply(params, images), batch["labels"])

    return fit(
        loss,
        network.init(key_init),
        samples.arrays,
        optimizer=recipe.transformation(steps),
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        key=key_fit,
        on_epoch=lambda params: {"test_accuracy": accuracy(network, params, shown)},
        checkpoint=checkpoint,
        description=f"{dataset.name} target",
    )
