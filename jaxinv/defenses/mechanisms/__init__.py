"""The mechanisms that come with the package, by name. `clip` is made for its norm."""

from jaxinv.defenses.mechanism import Mechanism
from jaxinv.defenses.mechanisms.dropout import DROPOUT
from jaxinv.defenses.mechanisms.noise import GAUSSIAN, LAPLACE
from jaxinv.defenses.mechanisms.nopeek import NOPEEK
from jaxinv.defenses.mechanisms.project import PROJECT
from jaxinv.defenses.mechanisms.prune import PRUNE
from jaxinv.defenses.mechanisms.quantize import QUANTIZE

MECHANISMS: dict[str, Mechanism] = {
    mechanism.name: mechanism
    for mechanism in (GAUSSIAN, LAPLACE, DROPOUT, QUANTIZE, PRUNE, PROJECT, NOPEEK)
}
