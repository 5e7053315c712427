import fake_runs
import pytest

from jaxinv.measures import decision
from jaxinv.measures.decision import Constraints
from jaxinv.store.record import typed

NONE = {"kind": "none", "site": "feature", "level": 0.0}


def row(split="conv1", defense=NONE, **changes):
    """A choice that is middling in everything."""
    values = {
        "split": split,
        "defense": defense,
        "accuracy": 0.95,
        "latency_s": 0.010,
        "energy_j": 0.002,
        "memory_bytes": 3e5,
        "ssim_mean": 0.5,
        "ssim_ci": [0.4, 0.6],
        "reid_top1": 0.3,
        "reid_ci": [0.2, 0.4],
    }
    return {**values, **changes}


def attack(method="adaptive", experiment="defenses", **changes):
    values = {
        "threat_model": "whitebox",
        "method": method,
        "psnr_mean": 20.0,
        "psnr_ci": [19.0, 21.0],
        "ssim_mean": 0.5,
        "ssim_ci": [0.4, 0.6],
        "reid_top1": 0.3,
        "reid_ci": [0.2, 0.4],
    }
    return typed(fake_runs.attack_fields(experiment, **values | changes))


# --- The strongest attacker -----------------------------------------------------------------------


def test_each_measure_is_that_of_whoever_does_best_in_it():
    by_ssim = attack(ssim_mean=0.9, ssim_ci=[0.8, 1.0], psnr_mean=10.0)
    by_psnr = attack("paper", psnr_mean=30.0, psnr_ci=[29.0, 31.0])
    by_reid = attack(threat_model="blackbox", reid_top1=0.8, reid_ci=[0.7, 0.9])
    found = decision.worst([by_psnr, by_ssim, by_reid])
    assert (found["psnr_mean"], found["psnr_ci"]) == (30.0, [29.0, 31.0])
    assert (found["ssim_mean"], found["ssim_ci"]) == (0.9, [0.8, 1.0])
    assert (found["reid_top1"], found["reid_ci"]) == (0.8, [0.7, 0.9])
    assert found["attacker"] == {"threat_model": "whitebox", "method": "adaptive"}
    assert not found["diverged"]


def test_an_attack_that_diverged_altogether_is_not_the_strongest():
    nothing = attack(psnr_mean=None, ssim_mean=None, ssim_ci=[None, None], diverged=5)
    found = decision.worst([nothing, attack("paper")])
    assert found["ssim_mean"] == 0.5 and found["attacker"]["method"] == "paper"
    assert found["diverged"]


def test_the_whole_interval_is_that_of_all_attackers():
    """Who is second by the mean may reach further: a limit is on everybody."""
    best = attack(ssim_mean=0.5, ssim_ci=[0.49, 0.51])
    wide = attack("paper", ssim_mean=0.49, ssim_ci=[0.3, 0.7])
    found = decision.worst([best, wide])
    assert (found["ssim_mean"], found["ssim_ci"]) == (0.5, [0.49, 0.7])
    assert Constraints(max_ssim=0.6).broken(row(**found)) == ["max_ssim"]


def test_where_all_attacks_diverged_nothing_is_known():
    nothing = {"psnr_mean": None, "psnr_ci": [None] * 2, "ssim_mean": None, "ssim_ci": [None] * 2}
    found = decision.worst([attack(**nothing, reid_top1=0.0, reid_ci=[0.0, 0.0], diverged=5)])
    assert found["ssim_mean"] is None and found["ssim_ci"] == [None, None]
    unknown = row("relu2", **found)
    assert Constraints(max_ssim=0.9).broken(unknown) == ["max_ssim", "diverged"]
    assert decision.pareto([row(), unknown]) == [True, False]
    assert decision.recommend([unknown, row()], Constraints()) == 1


def test_an_attack_of_another_script_is_known_by_it():
    record = attack("map", experiment="whitebox", threat_model=None)
    assert decision.worst([record])["attacker"] == {"threat_model": "whitebox", "method": "map"}


def test_who_learned_from_the_targets_own_images_is_named_so():
    found = decision.worst([attack(surrogate="same"), attack(ssim_mean=0.1, surrogate="attacker")])
    assert found["attacker"]["surrogate"] == "same"
    assert decision.attacker_name(found["attacker"]) == "whitebox, adaptive (same)"
    own = decision.worst([attack(surrogate="attacker")])["attacker"]
    assert "surrogate" not in own and decision.attacker_name(own) == "whitebox, adaptive"


def test_without_an_attack_nothing_is_known():
    with pytest.raises(ValueError, match="at least one attack"):
        decision.worst([])


# --- Constraints ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, met, broken",
    [
        ("min_accuracy", 0.95, 0.951),
        ("max_latency_ms", 10.0, 9.9),
        ("max_energy_mj", 2.0, 1.9),
        ("max_memory_mb", 0.3, 0.29),
        ("max_ssim", 0.6, 0.59),  # the upper end of the interval counts
        ("max_reid", 0.4, 0.39),
    ],
)
def test_each_constraint_is_in_its_unit(name, met, broken):
    assert Constraints(**{name: met}).broken(row()) == []
    assert Constraints(**{name: broken}).broken(row()) == [name]


def test_what_cannot_be_told_meets_no_constraint():
    assert Constraints(max_ssim=0.9).broken(row(ssim_ci=[0.1, float("nan")])) == ["max_ssim"]
    assert Constraints().broken(row(diverged=True)) == ["diverged"]


# --- The Pareto set -------------------------------------------------------------------------------


def test_a_choice_is_worth_having_if_none_is_better_in_all():
    middling, dearer = row(), row(latency_s=0.020)
    private = row(ssim_mean=0.1, energy_j=1.0)
    assert decision.pareto([middling, dearer, private]) == [True, False, True]


def test_what_diverged_beats_nothing():
    unproved = row("relu2", ssim_mean=0.1, reid_top1=0.0, diverged=True)
    assert decision.pareto([row(), unproved]) == [True, False]


def test_equal_choices_are_both_worth_having():
    assert decision.pareto([row(), row("relu1")]) == [True, True]


@pytest.mark.parametrize(
    "key, better",
    [
        ("accuracy", 0.96),
        ("latency_s", 0.009),
        ("energy_j", 0.001),
        ("memory_bytes", 2e5),
        ("ssim_mean", 0.4),
        ("reid_top1", 0.2),
    ],
)
def test_every_measure_counts(key, better):
    assert decision.pareto([row(), row(**{key: better})]) == [False, True]


# --- Recommendations ------------------------------------------------------------------------------


CHOICES = [
    row("conv1", ssim_mean=0.9, latency_s=0.001, energy_j=0.009),
    row("relu2", ssim_mean=0.2, accuracy=0.97, latency_s=0.005, energy_j=0.005),
    row("fc1", ssim_mean=0.1, accuracy=0.90, latency_s=0.009, energy_j=0.001),
]


@pytest.mark.parametrize(
    "prefer, best", [("privacy", 2), ("accuracy", 1), ("latency", 0), ("energy", 2)]
)
def test_the_best_is_what_is_preferred(prefer, best):
    assert decision.recommend(CHOICES, Constraints(), prefer=prefer) == best


def test_the_best_meets_the_constraints():
    assert decision.recommend(CHOICES, Constraints(min_accuracy=0.95)) == 1
    assert decision.recommend(CHOICES, Constraints(max_latency_ms=2)) == 0
    only = decision.recommend(CHOICES, Constraints(), allowed=lambda row: row["split"] == "conv1")
    assert only == 0


def test_equals_are_decided_by_what_counts_next():
    equal = [row(reid_top1=0.3), row(reid_top1=0.2), row(reid_top1=0.2, accuracy=0.99)]
    assert decision.recommend(equal, Constraints()) == 2


def test_where_nothing_fits_it_says_so_and_why():
    alone = Constraints(min_accuracy=0.99)
    assert decision.recommend(CHOICES, alone) is None
    assert decision.reason(CHOICES, alone) == "No choice meets min_accuracy=0.99."
    together = Constraints(min_accuracy=0.96, max_latency_ms=2)
    assert decision.recommend(CHOICES, together) is None
    told = decision.reason(CHOICES, together)
    assert "together by none" in told and "conv1 comes nearest and breaks min_accuracy" in told


def test_that_an_attack_diverged_is_said_apart():
    limits = Constraints(min_accuracy=0.96, max_latency_ms=20)
    slow = row("fc1", accuracy=0.97, latency_s=1.0, energy_j=1.0)
    told = decision.reason([row("conv1", accuracy=0.97, diverged=True), slow], limits)
    assert "conv1 comes nearest and was attacked by what diverged" in told and "breaks" not in told
    unproved = row("conv1", diverged=True)
    slow = {**slow, "energy_j": 1.0, "memory_bytes": 1e9}
    limits = Constraints(min_accuracy=0.96, max_latency_ms=20, max_energy_mj=5, max_memory_mb=1)
    told = decision.reason([unproved, slow], limits)
    assert "conv1 comes nearest and breaks min_accuracy and was attacked by" in told
    told = decision.reason([unproved], Constraints())
    assert told == "Attacks on every choice diverged, which proves nothing."


@pytest.mark.parametrize(
    "defense, name",
    [
        (NONE, "relu2"),
        ({"kind": "dropout", "site": "feature", "level": 0.6}, "relu2 with dropout 0.6"),
        ({"kind": "gaussian", "site": "input", "level": 1}, "relu2 with gaussian 1 at the input"),
        (
            {"kind": "dropout+gaussian", "site": "feature", "level": [0.2, 0.3]},
            "relu2 with dropout+gaussian 0.2+0.3",
        ),
    ],
)
def test_a_choice_has_a_name(defense, name):
    assert decision.name_of(row("relu2", defense)) == name
