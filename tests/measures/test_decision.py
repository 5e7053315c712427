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
        "usability": {"kind": "accuracy", "value": 0.95, "ci": [0.94, 0.96]},
        "latency_s": 0.010,
        "energy_j": 0.002,
        "memory_bytes": 3e5,
        "ssim_mean": 0.5,
        "ssim_ci": [0.4, 0.6],
        "reid": 0.3,
        "reid_ci": [0.2, 0.4],
        "attacker": {"threat_model": "whitebox", "method": "adaptive"},
        "images_needed": {},
        "effort": "full",
    }
    accuracy = changes.pop("accuracy", None)
    if accuracy is not None:
        values["usability"] = {"kind": "accuracy", "value": accuracy, "ci": [accuracy] * 2}
    found = {**values, **changes}
    return {"latency_p95_s": found["latency_s"], **found}


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
    by_ssim = attack(ssim_mean=0.7, ssim_ci=[0.6, 0.8], psnr_mean=10.0, num_images=20)
    by_psnr = attack("paper", psnr_mean=30.0, psnr_ci=[29.0, 31.0])
    by_reid = attack(threat_model="blackbox", reid_top1=0.8, reid_ci=[0.7, 0.9])
    found = decision.worst([by_psnr, by_ssim, by_reid])
    assert (found["psnr_mean"], found["ssim_mean"], found["reid"]) == (30.0, 0.7, 0.8)
    for name, low, high in (("psnr", 28.7, 31.0), ("ssim", 0.381, 0.819), ("reid", 0.72, 0.854)):
        assert found[f"{name}_ci"] == pytest.approx(
            [low, high], abs=0.1 if name == "psnr" else 0.01
        )
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
    wide = attack("paper", ssim_mean=0.49, ssim_ci=[0.3, 0.7], num_images=20)
    found = decision.worst([best, wide])
    assert found["ssim_mean"] == 0.5
    assert found["ssim_ci"][0] > 0.44 and 0.69 < found["ssim_ci"][1] < 0.74
    assert Constraints(max_ssim=0.6).judged(row(**found))["undecided"] == ["max_ssim"]


def test_where_all_attacks_diverged_nothing_is_known():
    nothing = {"psnr_mean": None, "psnr_ci": [None] * 2, "ssim_mean": None, "ssim_ci": [None] * 2}
    found = decision.worst([attack(**nothing, reid_top1=0.0, reid_ci=[0.0, 0.0], diverged=5)])
    assert found["ssim_mean"] is None and found["ssim_ci"] == [None, None]
    unknown = row("relu2", **found)
    assert Constraints(max_ssim=0.9).judged(unknown)["undecided"] == ["max_ssim", "diverged"]
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
    "name, met, between, broken",
    [
        ("min_accuracy", 0.94, 0.95, 0.961),
        ("max_latency_ms", 10.0, None, 9.9),
        ("max_energy_mj", 2.0, None, 1.9),
        ("max_memory_mb", 0.3, None, 0.29),
        ("max_ssim", 0.61, 0.59, 0.39),
        ("max_reid", 0.4, 0.39, 0.19),
    ],
)
def test_each_constraint_is_in_its_unit_and_of_whole_intervals(name, met, between, broken):
    expected = {met: ("holds", True, [], []), broken: ("fails", False, [name], [])}
    if between is not None:
        expected[between] = ("undecided", False, [], [name])
    for limit, answer in expected.items():
        found = Constraints(**{name: limit}).judged(row())
        assert tuple(found[key] for key in ("verdict", "meets", "fails", "undecided")) == answer


def test_what_cannot_be_told_meets_no_constraint():
    unknown = row(ssim_ci=[0.1, float("nan")])
    assert Constraints(max_ssim=0.9).judged(unknown)["undecided"] == ["max_ssim"]
    assert Constraints(max_ssim=0.9).judged(row(ssim_ci=[None, None]))["undecided"] == ["max_ssim"]
    assert Constraints().judged(row(diverged=True))["undecided"] == ["diverged"]


def test_a_limit_that_is_broken_is_so_though_another_attack_diverged():
    found = Constraints(max_ssim=0.3, max_reid=0.5).judged(row(diverged=True))
    assert (found["verdict"], found["fails"]) == ("fails", ["max_ssim"])
    assert found["undecided"] == ["max_reid", "diverged"]


def test_what_needs_no_attack_keeps_a_limit_that_it_reaches():
    nothing = row("edge-only", ssim_ci=[0.0, 0.0], reid_ci=[0.0, 0.0], attacker=None)
    assert Constraints(max_ssim=0.0, max_reid=0.0).judged(nothing)["meets"]


def test_what_is_undecided_is_never_recommended():
    """A mean below the limit is not enough, however well it does in all else."""
    near = row("relu2", ssim_mean=0.248, ssim_ci=[0.22, 0.276], latency_s=0.001)
    sure = row("fc1", ssim_mean=0.2, ssim_ci=[0.19, 0.21], latency_s=0.009)
    limits = Constraints(max_ssim=0.25)
    for prefer in decision.PREFERENCES:
        assert decision.recommend([near, sure], limits, prefer=prefer) == 1
    assert decision.recommend([near], limits) is None


def test_how_many_images_settle_what_is_undecided():
    near = [attack(ssim_mean=0.248, ssim_ci=[0.22, 0.276], reid_top1=0.0, num_images=20)]
    limits = Constraints(max_ssim=0.25, max_reid=0.1, min_accuracy=0.9)
    found = decision.images_needed(near, limits, ["min_accuracy", "max_ssim", "max_reid"])
    assert found["max_reid"] == 36 and 3000 < found["max_ssim"] < 12_000
    told = decision.reason(
        [row(ssim_mean=0.248, ssim_ci=[0.22, 0.276], images_needed={"max_ssim": 4000})],
        Constraints(max_ssim=0.25),
    )
    assert told == (
        "No choice is shown to meet max_ssim=0.25; conv1 comes nearest and is undecided in "
        "max_ssim (95% interval 0.220 to 0.276; about 4,000 images would settle it)."
    )


# --- The Pareto set -------------------------------------------------------------------------------


def test_a_choice_is_worth_having_if_none_is_better_in_all():
    middling, dearer = row(), row(latency_s=0.020)
    private = row(ssim_mean=0.1, energy_j=1.0)
    assert decision.pareto([middling, dearer, private]) == [True, False, True]


def test_what_diverged_beats_nothing():
    unproved = row("relu2", ssim_mean=0.1, reid=0.0, diverged=True)
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
        ("reid", 0.2),
    ],
)
def test_every_measure_counts(key, better):
    assert decision.pareto([row(), row(**{key: better})]) == [False, True]


# --- Recommendations ------------------------------------------------------------------------------


CHOICES = [
    row("conv1", ssim_mean=0.9, accuracy=0.95, latency_s=0.001, energy_j=0.009),
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
    slow = [row(latency_p95_s=0.011), row("relu2")]  # for 5% of the images
    assert decision.recommend(slow, Constraints(max_latency_ms=10)) == 1
    only = decision.recommend(CHOICES, Constraints(), allowed=lambda row: row["split"] == "conv1")
    assert only == 0


def test_equals_are_decided_by_what_counts_next():
    equal = [row(reid=0.3), row(reid=0.2), row(reid=0.2, accuracy=0.99)]
    assert decision.recommend(equal, Constraints()) == 2


def test_where_nothing_fits_it_says_so_and_why():
    alone = Constraints(min_accuracy=0.99)
    assert decision.recommend(CHOICES, alone) is None
    told = "No choice meets min_accuracy=0.99; fc1 comes nearest and breaks min_accuracy."
    assert decision.reason(CHOICES, alone) == told
    assert decision.reason(CHOICES, alone, allowed=lambda row: False) == "There is no such choice."
    together = Constraints(min_accuracy=0.96, max_latency_ms=2)
    assert decision.recommend(CHOICES, together) is None
    told = decision.reason(CHOICES, together)
    assert "together by none; relu2 comes nearest and breaks max_latency_ms" in told


def test_that_an_attack_diverged_is_said_apart():
    limits = Constraints(min_accuracy=0.96, max_latency_ms=20)
    slow = row("fc1", accuracy=0.97, latency_s=1.0, energy_j=1.0)
    told = decision.reason([row("conv1", accuracy=0.97, diverged=True), slow], limits)
    assert "conv1 comes nearest and was attacked by what diverged" in told and "breaks" not in told
    unproved = row("conv1", accuracy=0.95, diverged=True)
    slow = {**slow, "energy_j": 1.0, "memory_bytes": 1e9}
    limits = Constraints(min_accuracy=0.96, max_latency_ms=20, max_energy_mj=5, max_memory_mb=1)
    told = decision.reason([unproved, slow], limits)
    assert "conv1 comes nearest and breaks min_accuracy and was attacked by" in told
    told = decision.reason([unproved], Constraints())
    assert told == "An attack on every choice diverged, which proves nothing."


def test_a_certificate_holds_where_attacks_prove_nothing():
    limits = Constraints(max_reid=0.25)
    certain = row(certified_reid=0.25, few_surrogates=True)
    assert limits.judged(row(few_surrogates=True))["undecided"] == ["max_reid", "few_surrogates"]
    assert limits.judged(certain) == {
        "verdict": "holds",
        "meets": True,
        "fails": [],
        "undecided": [],
    }
    assert not limits.judged({**certain, "certified_reid": 0.26})["meets"]
    assert limits.judged({**certain, "certified_reid": None})["undecided"]


def test_of_certified_choices_the_one_that_leaks_less_is_recommended():
    limits = Constraints(max_reid=0.1)
    few = {"few_surrogates": True, "ssim_mean": 0.02, "reid": 0.005, "reid_ci": [0.0, 0.02]}
    rows = [
        row("cloud-only", ssim_mean=1.0, reid=1.0, reid_ci=[1.0, 1.0], accuracy=0.96),
        row("conv1", certified_reid=0.064, accuracy=0.96, **few),
        row("relu2", certified_reid=0.016, accuracy=0.955, **few),
    ]
    assert decision.recommend(rows, limits) == 2
    assert decision.pareto(rows)[1:] == [True, True]
    known = row("fc1", ssim_mean=0.8, reid=0.04, reid_ci=[0.01, 0.09])
    assert decision.recommend([*rows, known], limits) == 3  # of the others nothing is known


@pytest.mark.parametrize(
    ("limits", "certified", "undecided"),
    [
        ({"max_ssim": 0.7, "max_reid": 0.5}, None, ["max_ssim", "max_reid"]),
        ({"max_ssim": 0.7, "max_reid": 0.5}, 0.2, ["max_ssim"]),
        ({"max_reid": 0.5}, 0.2, []),
        ({"min_accuracy": 0.9, "max_energy_mj": 5}, None, []),
    ],
)
def test_quick_attacks_show_no_limit_on_leakage_to_hold(limits, certified, undecided):
    limited = Constraints(**limits)
    quick = row(certified_reid=certified, effort="screen")
    found = limited.judged(quick)
    assert found["undecided"] == undecided and found["meets"] == (not undecided)
    assert limited.judged({**quick, "effort": "full"})["meets"]
    del quick["effort"]
    assert limited.judged(quick)["undecided"] == undecided
    # Whoever looks for what to attack with everything takes quick attacks for what they are.
    assert limited.unkept(quick) == {"fails": [], "undecided": []}
    assert decision.recommend([quick], limited) == 0


def test_what_quick_attacks_leave_is_not_told_as_met():
    limits = Constraints(min_accuracy=0.94, max_reid=0.5)
    leaks, wrong = row("conv1", reid_ci=[0.6, 0.7]), row("fc3", accuracy=0.5)
    told = decision.reason([leaks, wrong], limits)
    assert told.startswith("Each limit is met by some choice and all together by none; ")
    told = decision.reason([leaks, {**wrong, "effort": "screen"}], limits)
    assert told.startswith("Each limit is met by some choice, as far as quick attacks tell, and ")


def test_quick_attacks_that_succeed_break_limits():
    found = Constraints(max_ssim=0.39).judged(row(effort="screen"))
    assert (found["verdict"], found["fails"]) == ("fails", ["max_ssim"])


def test_an_attack_that_succeeds_breaks_a_certificate():
    found = Constraints(max_reid=0.25).judged(row(certified_reid=0.2, reid=0.4, reid_ci=[0.3, 0.5]))
    assert (found["verdict"], found["fails"]) == ("fails", ["max_reid"])


def test_a_certificate_says_nothing_of_reconstruction():
    limits = Constraints(max_reid=0.25, max_ssim=0.7)
    unproved = row(certified_reid=0.2, few_surrogates=True)
    assert limits.judged(unproved)["undecided"] == ["max_ssim", "few_surrogates"]
    assert limits.judged(row(certified_reid=0.2))["meets"]
    only = Constraints(max_ssim=0.7).judged(unproved)
    assert only["undecided"] == ["max_ssim", "few_surrogates"]
    assert not Constraints(min_accuracy=0.9).judged(unproved)["meets"]


def test_a_dead_attack_proves_nothing():
    limits = Constraints(max_ssim=0.25)
    found = {**row(ssim_mean=0.01, ssim_ci=[0.0, 0.02]), **decision.worst([attack(dead=3)])}
    found |= {"ssim_mean": 0.01, "ssim_ci": [0.0, 0.02]}
    assert found["dead"] and not found["diverged"]
    assert limits.judged(found)["undecided"] == ["max_ssim", "dead"]
    assert decision.recommend([found], limits) is None
    assert "did not move from its start" in decision.reason([found], limits)


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
