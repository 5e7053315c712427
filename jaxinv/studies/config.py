"""Settings that mean the same in every experiment. Their texts stand here once."""

import dataclasses
from typing import Any, ClassVar

from jaxinv.constants.halves import ALL, HALVES
from jaxinv.machine import tracking
from jaxinv.store import files
from jaxinv.studies.experiment import setting, settings_of

SURROGATES = ("attacker", "same")


@dataclasses.dataclass(frozen=True)
class WorkConfig:
    """Folder of results; in paths, ~ is the home folder.

    Raises:
      UsageError: a path begins with ~, and there is no such home.
    """

    workdir: str = setting("results", "Folder for records and pictures.", is_path=True)
    json: bool = setting(
        False,
        "Make the last line on stdout one JSON object in place of a path: records, each with its "
        "path and figures, but for those of single images.",
    )

    def __post_init__(self) -> None:
        kind: type = type(self)
        for each in settings_of(kind).values():
            path = getattr(self, each.field)
            if each.is_path and path is not None:
                object.__setattr__(self, each.field, files.expanded(each.name, path))


@dataclasses.dataclass(frozen=True)
class PlacesConfig(WorkConfig):
    """Folders of data and results, and the seed."""

    data_dir: str | None = setting(
        None,
        "Folder of prepared TFDS datasets; by default TFDS_DATA_DIR, then TFDS's own folder.",
        is_path=True,
    )
    seed: int = setting(0, "Seed of all randomness of this run.", least=0, most=2**32 - 1)


@dataclasses.dataclass(frozen=True)
class DataConfig(PlacesConfig):
    """Settings of runs on one dataset."""

    dataset: str = setting(
        "mnist",
        "mnist, cifar10, mnist_5k (embedded), any TFDS image classification dataset, or the path "
        "of images of your own: a folder (flat, or folders by class; above these, folders target, "
        "attacker and test), FILE.npz (images and labels, or images_test and so on), or a folder "
        "of Hugging Face's save_to_disk. Images in no named part are divided by a hash of their "
        "content: about a half, a quarter and a quarter.",
    )
    image_size: str | None = setting(
        None,
        "HxW, or one number for both: resizes images until they cover it, and cuts off what stands "
        "out evenly. By default all images must have one size.",
    )
    network: str | None = setting(
        None,
        "A network: of the zoo (lenet5, cifar_cnn, resnet20, vgg11, mobilenet_v2, vit_tiny), "
        "FILE.onnx, or FILE.py:function or package.module:function (takes nothing; returns a "
        "jaxinv Network, a network and its parameters, or apply, variables and input shape). By "
        "default the paper's for the images. What comes without parameters is trained.",
    )
    mean: tuple[float, ...] | None = setting(
        None,
        "Preprocessing of a --network that brings none, (image - mean) / std of images in [0, 1]: "
        "one number, or a comma list for the channels.",
    )
    std: tuple[float, ...] | None = setting(None, "See --mean.")
    rerun: bool = setting(False, "Run again even if the record exists.")
    multihost: bool = setting(
        False,
        "This is one of several processes that share the work, on one host or on many: they are "
        "found through SLURM (srun), a TPU pod, Open MPI or Kubernetes, or told by the variables "
        "JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID. The first writes files.",
    )


@dataclasses.dataclass(frozen=True)
class CutsConfig(DataConfig):
    """Settings of runs at one or several cuts."""

    split: tuple[str, ...] = setting(
        ("conv1",),
        "Layer after which the network is cut: one name, a comma list, or all, a dozen at most. "
        "jaxinv cuts lists the names. The paper's spelling is understood (ReLU2 is relu2). A "
        "network that has no such default is cut at its first place.",
        may_be_empty=True,  # the network knows what to choose from
    )


@dataclasses.dataclass(frozen=True)
class TrackedConfig(DataConfig):
    """Settings of runs that TensorBoard can show.

    Raises:
      UserError: TensorBoard's files cannot be written.
    """

    tensorboard: str | None = setting(
        None,
        "Folder for TensorBoard: curves of every training, and figures and reconstructions of "
        "every finished run. tensorboard --logdir=FOLDER shows them.",
        is_path=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tensorboard is not None:
            tracking.check_available(self.tensorboard)
            files.check_writable(self.tensorboard, "tensorboard")


def number_of_images(usual: int) -> Any:
    """Returns the setting of how many images are attacked, of a configuration's usual number."""
    return setting(
        None,
        "How many images of the test split to attack, from the first; by default "
        f"{usual}, or all of a smaller split.",
    )


@dataclasses.dataclass(frozen=True)
class AttackConfig(CutsConfig, TrackedConfig):
    """Settings of runs that attack test images."""

    usual_images: ClassVar[int] = 100
    num_images: int | None = number_of_images(usual_images)
    checkpoint: str | None = setting(
        None,
        "Weights of the network, .safetensors: as train_target writes them, or a PyTorch "
        "state_dict of the same layers. By default those that --network brings, else those of "
        "--target_seed.",
        is_path=True,
    )
    target_seed: int = setting(
        0,
        "Seed of the target's training by train_target's defaults: of 0 the one that ships with "
        "jaxinv, else the one that train_target left in --workdir, else one is trained there.",
        least=0,
        most=2**32 - 1,
    )
    surrogate: str = setting(
        "attacker",
        "Images that the attacker learns from, if it does: its own, or the target's training "
        "images.",
        choices=SURROGATES,
    )

    @property
    def half(self) -> str:
        """Test images that may be attacked, one of `HALVES`."""
        return ALL

    @property
    def asks_for_images(self) -> str:
        """The setting that asks for a number of test images, for messages."""
        return f"num_images={self.num_images}"

    @property
    def method_name(self) -> str:
        """Name of the run's method, for titles and files."""
        return self.method  # type: ignore[attr-defined]


@dataclasses.dataclass(frozen=True)
class HalvedConfig(AttackConfig):
    """Settings of runs that attack all test images, or a half of them as if there were no other."""

    test_images: str = setting(
        ALL,
        "Part of the test split that there is: all, or its first half, on which the experiment "
        "partition chooses, or the other, on which it attacks what it has chosen.",
        choices=HALVES,
    )

    @property
    def half(self) -> str:
        return self.test_images


@dataclasses.dataclass(frozen=True)
class ExchangedConfig(HalvedConfig):
    """Settings of attacks of one threat model, which another program may run in their place."""

    export: str | None = setting(
        None,
        "FILE.npz for features, images and labels of the images that are attacked: what crosses at "
        "--split, for an attack of another program. Several arrays that cross are features_0 and "
        "so on. The attack runs, too.",
        is_path=True,
    )
    imported: str | None = setting(
        None,
        "FILE.npz with images [N, H, W, C] that another program has reconstructed of the first N "
        "test images: they are judged, and no attack runs.",
        is_path=True,
        flag="import",
    )

    @property
    def asks_for_images(self) -> str:
        if self.imported is None:
            return super().asks_for_images
        return f"import={self.imported} with {self.num_images} images"

    @property
    def method_name(self) -> str:
        return super().method_name if self.imported is None else "import"
