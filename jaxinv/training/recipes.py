"""Recipes for targets, and the training of one. JAX."""

import dataclasses
import math
import os
from typing import Any, Literal

import jax
import optax
from jax import Array

from jaxinv import arguments, unit_space
from jaxinv.constants import kinds
from jaxinv.errors import UsageError
from jaxinv.inputs.data import Dataset
from jaxinv.networks import Network, Params
from jaxinv.training import batch_statistics
from jaxinv.training.amsgrad import amsgrad
from jaxinv.training.augmentation import AUGMENTATIONS
from jaxinv.training.classification import accuracy, check, loss_and_accuracy
from jaxinv.training.fit import Fit, fit

OPTIMIZERS = ("amsgrad", "adamw", "nadamw", "sgd")

_LEAST_STEPS = 1500


@dataclasses.dataclass(frozen=True)
class TargetRecipe:
    """Settings of the training of a target.

    Attributes:
      optimizer: "amsgrad", Adam with AMSGrad at a constant rate; or with one cycle of the learning
        rate "adamw" or "nadamw" (with Nesterov's momentum), on gradients clipped to norm 1, or
        "sgd" with Nesterov's momentum of 0.9.
      epochs: passes over the target's part of the training split.
      batch_size: images a step.
      learning_rate: at the peak of the cycle, if there is one.
      weight_decay: of adamw on all parameters; of nadamw and sgd on kernels alone, not on biases
        and not on the scales of normalisation. amsgrad has none.
      eps: added to the root of the squared gradient; sgd has none.
      augmentation: "none"; "crop", images mirrored and shifted by whole pixels; or "jitter", images
        mirrored, zoomed and shifted by fractions of a pixel.
      seed: of the initial parameters, the order of images and the augmentation.

    Raises:
      UsageError: a setting is no number that training can use.
    """

    optimizer: Literal["amsgrad", "adamw", "nadamw", "sgd"]
    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    eps: float
    augmentation: Literal["none", "crop", "jitter"]
    seed: int = 0

    def __post_init__(self) -> None:
        arguments.check_choice("optimizer", self.optimizer, OPTIMIZERS)
        for name in ("epochs", "batch_size"):
            arguments.check_whole(name, getattr(self, name), least=1)
        for name in ("weight_decay", "eps"):
            arguments.check_number(name, getattr(self, name), least=0)
        arguments.check_number("learning_rate", self.learning_rate, least=0, above=True)
        arguments.check_choice("augmentation", self.augmentation, tuple(AUGMENTATIONS))
        arguments.check_whole("seed", self.seed, least=0, most=2**32 - 1)
        if self.optimizer == "amsgrad" and self.weight_decay:
            raise UsageError(f"weight_decay={self.weight_decay}: optimizer=amsgrad has none.")

    def transformation(self, steps: int) -> optax.GradientTransformation:
        """Returns the optimizer of a training of so many steps."""
        if self.optimizer == "amsgrad":
            return amsgrad(self.learning_rate, eps=self.eps)
        schedule = optax.cosine_onecycle_schedule(steps, self.learning_rate, pct_start=0.2)
        if self.optimizer == "sgd":
            decay = optax.add_decayed_weights(self.weight_decay, _kernels)
            return optax.chain(decay, optax.sgd(schedule, 0.9, nesterov=True))
        settings: dict[str, Any] = {"eps": self.eps, "weight_decay": self.weight_decay}
        adam = (
            optax.adamw(schedule, **settings)
            if self.optimizer == "adamw"
            else optax.nadamw(schedule, **settings, mask=_kernels)
        )
        return optax.chain(optax.clip_by_global_norm(1.0), adam)


def _kernels(params: Params) -> Any:
    """Returns a tree of truth values: whether each array is a kernel."""
    return jax.tree.map_with_path(lambda path, _: path[-1].key == "kernel", params)


_OF_THE_ZOO = {
    "resnet20": TargetRecipe("sgd", 30, 128, 0.1, 5e-4, 0.0, augmentation="crop"),
    "vgg11": TargetRecipe("sgd", 60, 128, 0.05, 5e-4, 0.0, augmentation="crop"),
    "mobilenet_v2": TargetRecipe("sgd", 60, 128, 0.05, 5e-4, 0.0, augmentation="crop"),
    "vit_tiny": TargetRecipe("nadamw", 30, 64, 1e-3, 0.05, 1e-8, augmentation="jitter"),
}
_OF_VECTORS = TargetRecipe("adamw", 16, 32, 3e-3, 0.05, 1e-8, augmentation="none")


def default_recipe(dataset: Dataset, network: str = "") -> TargetRecipe:
    """Returns a recipe by the network's name, or by kind of input: of grey images the authors'.

    Theirs keeps weights small, and with them the reach of attacks whose own eps is absolute. Colour
    images are augmented, grey images are not: convolutional networks of the zoo see crops, others
    jittered images. Small datasets have more epochs: at least 1,500 steps.

    Args:
      dataset: the data.
      network: name of the network; those of the zoo beside the paper's have recipes of their own.

    Source: He, Zhang & Lee 2021, and the program that they published.
    """
    in_colour = dataset.kind == kinds.IMAGE and dataset.image_shape[-1] > 1
    if dataset.kind != kinds.IMAGE:
        recipe = _OF_VECTORS
    elif network in _OF_THE_ZOO:
        recipe = _OF_THE_ZOO[network]
        recipe = recipe if in_colour else dataclasses.replace(recipe, augmentation="none")
    elif in_colour:
        recipe = TargetRecipe("adamw", 16, 64, 1e-3, 0.05, 1e-8, augmentation="jitter")
    else:
        recipe = TargetRecipe("amsgrad", 12, 32, 1e-3, 0.0, 1e-3, augmentation="none")
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
    the first 2,000 test images, for the picture alone: nothing is chosen by them. BatchNorm
    normalises by each batch; in the end its statistics are measured on images of the same part.

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
        images = unit_space.from_stored(batch["pixels"])
        images = AUGMENTATIONS[recipe.augmentation](key, images)
        return loss_and_accuracy(network.apply_in_training(params, images)[0], batch["labels"])

    def settled(params: Params, images: int) -> Params:
        size = recipe.batch_size
        return batch_statistics.measured(network, params, samples, batch_size=size, images=images)

    def on_epoch(params: Params) -> dict[str, float]:
        return {"test_accuracy": accuracy(network, settled(params, len(shown)), shown)}

    done = fit(
        loss,
        network.init(key_init),
        samples.arrays,
        optimizer=recipe.transformation(steps),
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        key=key_fit,
        on_epoch=on_epoch,
        checkpoint=checkpoint,
        description=f"{dataset.name} target",
    )
    return done._replace(params=settled(done.params, batch_statistics.IMAGES))
