"""The mechanisms that come with the package, by name. `clip` is made for its norm."""

from jaxinv.defenses.mechanism import Mechanism
from jaxinv.defenses.mechanisms.dropout import DROPOUT
from jaxinv.defenses.mechanisms.noise import GAUSSIAN, LAPLACE
from jaxinv.defenses.mechanisms.project import PROJECT
from jaxinv.defenses.mechanisms.prune import PRUNE
from jaxinv.defenses.mechanisms.quantize import QUANTIZE
from jaxinv.defenses.trained.adversarial import ADVERSARIAL
from jaxinv.defenses.trained.bido import BIDO
from jaxinv.defenses.trained.bottleneck import BOTTLENECK
from jaxinv.defenses.trained.cem import CEM
from jaxinv.defenses.trained.cloak import CLOAK
from jaxinv.defenses.trained.codebook import CODEBOOK
from jaxinv.defenses.trained.disco import DISCO
from jaxinv.defenses.trained.nopeek import NOPEEK
from jaxinv.defenses.trained.sca import SCA
from jaxinv.defenses.trained.shaped import SHAPED
from jaxinv.defenses.trained.vib import VIB

TRAINED = (
    NOPEEK,
    BIDO,
    ADVERSARIAL,
    CEM,
    VIB,
    CLOAK,
    SHAPED,
    SCA,
    DISCO,
    BOTTLENECK,
    CODEBOOK,
)
"""Mechanisms that are trained in."""

MECHANISMS: dict[str, Mechanism] = {
    mechanism.name: mechanism
    for mechanism in (GAUSSIAN, LAPLACE, DROPOUT, QUANTIZE, PRUNE, PROJECT, *TRAINED)
}
