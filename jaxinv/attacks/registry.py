"""Every attack, by threat model and method: the only list of them. Standard library.

Scripts, studies, the benchmark and reports read it. It imports an attack only to make one, so that
reading it does not start JAX. An attack of a user's is no part of it: its method is `FILE.py:name`
or `package.module:name`.
"""

import importlib
import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from jaxinv.constants.threats import FLOOR, THREATS
from jaxinv.errors import UsageError
from jaxinv.machine import own_code

if TYPE_CHECKING:
    from jaxinv.attacks.attack import Attack


class RegisteredAttack(NamedTuple):
    """An attack on the list.

    Attributes:
      threat_model: key of `constants.threats.THREATS`.
      method: name of the attack within its threat model.
      place: `module:name` of the class or the function that makes it.
      experiments: names of those that offer it.
      summary: its way of attacking, in a sentence or two.
      needs_labels: whether it cannot learn from images without labels.
    """

    threat_model: str
    method: str
    place: str
    experiments: tuple[str, ...]
    summary: str
    needs_labels: bool = False

    @property
    def module(self) -> str:
        """Full name of the module whose code decides its result, beside a user's own."""
        if own_code.is_spelled(self.method):
            return "jaxinv.attacks.attack"
        return f"jaxinv.attacks.{self.place.partition(':')[0]}"

    @property
    def maker(self) -> Callable[..., Any]:
        """The class or function; importing it starts JAX."""
        if own_code.is_spelled(self.method):
            return own(self.method)
        return getattr(importlib.import_module(self.module), self.place.partition(":")[2])

    def takes(self, option: str) -> bool:
        """Returns whether the attack has a setting of this name."""
        return option in inspect.signature(self.maker).parameters

    def make(self, **options: Any) -> "Attack[Any]":
        """Makes the attack.

        Args:
          options: its settings; those that it does not have, or that are None, are left out.

        Raises:
          UsageError: one that it cannot do without is missing, or is not allowed.
        """
        given = {name: value for name, value in options.items() if value is not None}
        for name, each in inspect.signature(self.maker).parameters.items():
            if each.default is each.empty and name not in given:
                raise UsageError(f"{name}=None: method={self.method} depends on the {name}.")
        return self.maker(**{name: given[name] for name in given if self.takes(name)})


_WHITEBOX = ("whitebox", "convergence")

ENTRIES = (
    RegisteredAttack(
        *("whitebox", "paper", "whitebox.rmle:paper"),
        (*_WHITEBOX, "benchmark", "defenses"),
        "the authors' settings (Adam with AMSGrad, eps 1e-3, mean losses).",
    ),
    RegisteredAttack(
        *("whitebox", "tv", "whitebox.rmle:tv"),
        (*_WHITEBOX, "benchmark"),
        "Adam with total variation, pixels kept in [0, 1], rectifiers attacked through what went "
        "into them.",
    ),
    RegisteredAttack(
        *("whitebox", "map", "whitebox.map:MapAttack"),
        (*_WHITEBOX, "benchmark"),
        "Levenberg-Marquardt with total variation and a Gaussian prior of the attacker's images.",
    ),
    RegisteredAttack(
        *("whitebox", "hybrid", "whitebox.hybrid:HybridAttack"),
        _WHITEBOX,
        "map, then an inverse map that is trained on the attacker's images as start, the "
        "distribution of its errors as prior, and a trained correction. Takes minutes to learn.",
    ),
    RegisteredAttack(
        *("whitebox", "adaptive", "whitebox.adaptive:AdaptiveEdge"),
        ("defenses",),
        "an inverse map of defended releases, rMLE with the defense's likelihood, a correction, or "
        "an image of its own.",
    ),
    RegisteredAttack(
        *("blackbox", "paper", "blackbox.paper:DecodedQueries"),
        ("blackbox", "defenses"),
        "the authors' decoder (transposed convolutions, Adam with AMSGrad), which queries each "
        "image once.",
    ),
    RegisteredAttack(
        *("blackbox", "strong", "blackbox.strong:StrongQueries"),
        ("blackbox",),
        "exact recovery where the edge is affine, from a few coded queries or one for each value "
        "of an image; elsewhere ridge regression and a residual network, with jittered images "
        "among the queries. It shares its training with whitebox.py --method=hybrid.",
    ),
    RegisteredAttack(
        *("blackbox", "adaptive", "blackbox.adaptive:AdaptiveQueries"),
        ("defenses",),
        "one inverse map for all levels of a defense, trained on queries of each, or an image of "
        "its own.",
    ),
    RegisteredAttack(
        *("queryfree", "paper", "queryfree.paper:PaperShadows"),
        ("queryfree", "defenses"),
        "shadows trained by cross-entropy alone, inverted by rMLE with the authors' settings.",
        needs_labels=True,
    ),
    RegisteredAttack(
        *("queryfree", "strong", "queryfree.strong:StrongShadows"),
        ("queryfree",),
        "the shadows must also meet the class means of a stream of features that the cloud was "
        "sent, or without labels the means of groups of its outputs; they are inverted by maps "
        "trained on pairs of theirs.",
    ),
    RegisteredAttack(
        *("queryfree", "adaptive", "queryfree.strong:AdaptiveShadows"),
        ("defenses",),
        "strong, with the defense behind its shadows, too.",
    ),
    *(
        RegisteredAttack(
            *(threat, FLOOR, "mean:Mean"),
            (threat, "defenses"),
            "the mean of the surrogate images, whatever is observed: a floor for the others.",
        )
        for threat in THREATS
    ),
)


def entries(experiment: str, threat_model: str | None = None) -> list[RegisteredAttack]:
    """Returns the attacks that an experiment offers, of one threat model or of all."""
    return [
        entry
        for entry in ENTRIES
        if experiment in entry.experiments and threat_model in (None, entry.threat_model)
    ]


def methods(experiment: str, threat_model: str | None = None) -> list[str]:
    """Returns names of the attacks that an experiment offers, each once, in order."""
    return list(dict.fromkeys(entry.method for entry in entries(experiment, threat_model)))


def summaries(experiment: str, threat_model: str | None = None) -> str:
    """Returns a line on each attack that an experiment offers, for its help."""
    return " ".join(
        f"{entry.method}: {entry.summary}" for entry in entries(experiment, threat_model)
    )


def find(threat_model: str, method: str) -> RegisteredAttack:
    """Finds an attack.

    Raises:
      UsageError: there is none of this name.
    """
    if own_code.is_spelled(method):
        return RegisteredAttack(threat_model, method, method, ("defenses",), "a user's own.")
    known = [entry for entry in ENTRIES if entry.threat_model == threat_model]
    for entry in known:
        if entry.method == method:
            return entry
    names = ", ".join(entry.method for entry in known)
    raise UsageError(f"method={method}: expected one of {names}.")


def own(spelling: str) -> Any:
    """Loads an attack of a user's: a class of `Attack`, or a function that makes one.

    It has the attribute `threat_model`, a key of `THREATS`, which tells what it is handed.

    Args:
      spelling: `FILE.py:name` or `package.module:name`.

    Raises:
      UserError: there is no such attack, or its code fails.
    """
    found, _ = _own(spelling)
    if getattr(found, "threat_model", None) not in THREATS:
        raise UsageError(
            f"attacker={spelling}: expected an attribute threat_model of {', '.join(THREATS)}."
        )
    return found


def _own(spelling: str) -> tuple[Any, str | None]:
    file, name = own_code.place("attacker", spelling, "class")
    return own_code.value("attacker", spelling, file, name, what="class")


def digest_of_own(spelling: str) -> str:
    """Returns the digest of the file that has an attack of a user's; not of those it imports."""
    return own_code.digest(_own(spelling)[1])


def of_threat(methods: Sequence[str], threat_model: str) -> list[str]:
    """Returns the methods that attack by a threat model: a user's own is of one alone."""
    return [
        method
        for method in dict.fromkeys(methods)
        if not own_code.is_spelled(method) or own(method).threat_model == threat_model
    ]


def needs_labels(threat_model: str, method: str) -> bool:
    """Returns whether there is such an attack, and it cannot learn from images without labels."""
    return any(
        entry.needs_labels and (entry.threat_model, entry.method) == (threat_model, method)
        for entry in ENTRIES
    )


def make(threat_model: str, method: str, **options: Any) -> "Attack[Any]":
    """Makes an attack; see `find` and `RegisteredAttack.make`."""
    return find(threat_model, method).make(**options)
