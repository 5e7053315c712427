"""Verdicts on limits by whole intervals, over all attackers."""

import fake_runs
import numpy as np
import pytest
import scipy.special

from jaxinv.constants.verdicts import FAILS, HOLDS, SPOILT, UNDECIDED
from jaxinv.measures import verdicts
from jaxinv.measures.intervals import Score, Share
from jaxinv.measures.leaks import REID, SSIM
from jaxinv.store.record import typed


def attack(ssim=0.1, reach=0.01, *, images=200, reid=0.0, **values):
    """An attack whose mean SSIM has an interval of so much on either side."""
    ends = [ssim - reach, ssim + reach]
    fields = {"num_images": images, "quality": (10.0, ssim), "ssim_ci": ends, "reid_top1": reid}
    fields |= {"threat_model": "whitebox", **values}
    return typed(fake_runs.attack_fields("defenses", **fields))


@pytest.mark.parametrize(
    "ends, limit, verdict",
    [
        ((0.1, 0.2), 0.25, HOLDS),
        ((0.1, 0.25), 0.25, HOLDS),
        ((0.24, 0.26), 0.25, UNDECIDED),
        ((0.26, 0.3), 0.25, FAILS),
        ((None, None), 0.25, UNDECIDED),
        ((float("nan"), float("nan")), 0.25, UNDECIDED),
        ((0.0, 0.0), 0.0, HOLDS),
    ],
)
def test_a_limit_holds_only_where_the_whole_interval_keeps_it(ends, limit, verdict):
    assert verdicts.at_most(ends, limit) == verdict
    low, high = ends
    negative = (None if high is None else -high, None if low is None else -low)
    assert verdicts.at_least(negative, -limit) == verdict


def test_a_mean_below_its_limit_is_not_enough():
    near = attack(0.248, 0.02, images=50)
    assert verdicts.kept([near], SSIM, 0.25) == UNDECIDED
    assert verdicts.images_needed([near], SSIM, 0.25) > 1000
    assert verdicts.kept([attack(0.15, 0.001, images=50)], SSIM, 0.25) == HOLDS
    assert verdicts.kept([attack(0.4, 0.02, images=50)], SSIM, 0.25) == FAILS


def test_what_another_machine_may_turn_over_is_undecided():
    """Float32 sums differ by more than nothing."""
    for ssim in (0.25, 0.25 - 5e-5, 0.25 + 5e-5):
        assert verdicts.at_most((ssim, ssim), 0.25, noise=SSIM.noise) == UNDECIDED
        assert verdicts.images_needed([attack(ssim, 0.0, images=4)], SSIM, 0.25) is None
    assert verdicts.at_most((0.1, 0.25 - 2e-4), 0.25, noise=SSIM.noise) == HOLDS


def test_one_image_decides_nothing():
    alone = attack(0.01, images=1, ssim_ci=[None, None])
    assert verdicts.kept([alone], SSIM, 0.25) == verdicts.safe([alone]) == UNDECIDED
    assert verdicts.kept([attack(), alone], SSIM, 0.25) == UNDECIDED
    assert verdicts.images_needed([alone], SSIM, 0.25) is None


def test_nobody_of_few_images_proves_no_share():
    few, more = attack(images=20), attack(images=64)
    assert verdicts.kept([few], REID, 0.1) == UNDECIDED
    assert verdicts.images_needed([few], REID, 0.1) == 36
    assert verdicts.kept([more], REID, 0.1) == HOLDS
    assert list(verdicts.greatest([more], REID)) == pytest.approx([0.0, 0.056], abs=1e-4)


def test_all_lower_ends_hold_together_and_one_upper_end_is_enough():
    """Each of three lower ends is at 1 - 5% / 3; who is strongest does not change by chance."""
    many = [attack(images=64, reid=0.5)] * 3
    share = Share(0.5, 64)
    expected = [share.interval(1 - 0.05 / 3).low, share.interval().high]
    assert list(verdicts.greatest(many, REID)) == pytest.approx(expected)
    alone, three = verdicts.greatest([attack()], SSIM), verdicts.greatest([attack()] * 3, SSIM)
    assert three.low < alone.low < alone.high == three.high
    wide = verdicts.greatest([attack(0.5, 0.01), attack(0.49, 0.2, images=20)], SSIM)
    assert wide.low > 0.44 and wide.high > 0.68  # who is second by the mean may reach further


@pytest.mark.parametrize("wrong, others", [(HOLDS, 0.02), (FAILS, 0.1)])
def test_many_attackers_make_no_verdict_wrong_more_often(wrong, others):
    """One leaks as much as the limit, the 19 others less or as much; 400 studies of 200 images."""
    shares = np.array([0.1] + [others] * 19)
    studies = np.random.default_rng(0).binomial(200, shares, (400, 20))
    found = [
        verdicts.at_most(verdicts.greatest_of([Share(hits / 200, 200) for hits in study]), 0.1)
        for study in studies
    ]
    assert found.count(wrong) <= 0.04 * len(found)


WAYS = {"inverse map": fake_runs.way(0.35), "rMLE": fake_runs.way(0.1, reid_top1=0.5)}


def with_ways(**values):
    return attack(ways=WAYS, **values)


def test_the_worst_way_counts_in_each_measure_and_not_the_one_that_is_answered():
    """The attacker answers by rMLE here, at SSIM .1, and finds nobody."""
    for leak, mean in ((SSIM, 0.35), (REID, 0.5)):
        found = verdicts.greatest([with_ways(reid=0.5)], leak)
        assert found.low < mean < found.high
        assert verdicts.highest([with_ways(reid=0.5)], leak) == mean
    assert verdicts.kept([with_ways()], SSIM, 0.25) == FAILS
    assert verdicts.kept([attack()], SSIM, 0.25) == HOLDS
    (_, second) = SSIM.samples(with_ways())
    assert (second.mean, second.number) == (pytest.approx(0.1), 200)


def test_ways_whose_scores_were_not_kept_prove_nothing():
    """Older versions kept mean and spread, which tell nothing of rare leaks."""
    ways = {name: fake_runs.way(0.1, ssim=[]) for name in WAYS}
    old = attack(ways=ways)
    assert verdicts.greatest([old], SSIM) == (None, None)
    assert verdicts.safe([old]) == verdicts.safe([old, attack()]) == UNDECIDED
    assert verdicts.images_to_be_safe([old]) is None


def test_a_way_that_diverged_proves_nothing():
    ways = {name: fake_runs.way(0.1) for name in WAYS}
    assert verdicts.safe([attack(ways=ways)]) == HOLDS
    ways["rMLE"] |= {"diverged": 1}
    assert verdicts.safe([attack(ways=ways)]) == UNDECIDED


@pytest.mark.parametrize("name", ["diverged", "dead"])
def test_one_attack_that_leaks_is_enough_and_one_that_is_spoilt_proves_nothing(name):
    spoilt = attack(**{name: 1}, threat_model="blackbox")
    assert verdicts.safe([attack()]) == HOLDS
    assert verdicts.safe([spoilt]) == verdicts.safe([attack(), spoilt]) == UNDECIDED
    assert verdicts.safe([attack(0.9), spoilt]) == FAILS
    assert verdicts.safe([attack(reid=0.5)]) == FAILS
    gone = attack(quality=(None, None), ssim_ci=[None, None], diverged=200)
    assert verdicts.safe([gone]) == UNDECIDED
    assert verdicts.images_to_be_safe([attack(), spoilt]) is None


def test_who_looks_at_nothing_shows_nothing():
    floor = attack(method="mean")
    assert verdicts.safe([floor]) == verdicts.safe([floor, floor]) == UNDECIDED
    assert verdicts.safe([floor, attack()]) == HOLDS
    assert verdicts.spoilt([floor]) == dict.fromkeys(SPOILT, False) | {"blind": True}


def test_linkage_by_the_release_counts_where_all_reconstructions_diverged():
    gone = attack(quality=(None, None), ssim_ci=[None, None], diverged=200)
    gone.reid_likelihood, gone.reid_likelihood_images = 1.0, 200
    assert verdicts.kept([gone, attack()], REID, 0.1) == FAILS


def test_the_spread_over_shadows_counts():
    fields = {"psnr_by_seed": [9.0, 10.0, 11.0], "ssim_ci": [0.02, 0.3], "reid_top1_ci": [0, 0.4]}
    assert verdicts.greatest([attack()], SSIM).high < 0.13
    assert verdicts.greatest([attack(**fields)], SSIM).high == 0.3
    assert verdicts.kept([attack(**fields)], SSIM, 0.25) == UNDECIDED
    assert verdicts.greatest([attack(**fields)], REID).high == 0.4


def test_shadows_of_other_seeds_might_do_better():
    """The three find .1, .11 and .12; Student's quantile of two degrees of freedom counts."""
    ways = {f"shadow {place}": fake_runs.way(0.1 + 0.01 * place) for place in range(3)}
    joint = {"joint": fake_runs.way(0.15)}
    for sure, half in ((0.95, 0.975), (0.975, 0.9875)):
        reach = scipy.special.stdtrit(2, (1 + half) / 2) * 0.01 / 3**0.5
        found = verdicts.greatest([attack(ways=ways | joint)], SSIM, sure)
        over_images = Score(tuple(joint["joint"]["ssim"])).interval(half)
        assert found.high == pytest.approx(over_images.high + reach)
    alone = Score(tuple(joint["joint"]["ssim"])).interval()
    assert verdicts.greatest([attack(ways=joint)], SSIM).high == pytest.approx(alone.high)
    # Two of them find nobody, and one every twentieth.
    ways["shadow 2"]["reid_top1"] = 0.05
    alone, three = Share(0.05, 200).interval().high, verdicts.greatest([attack(ways=ways)], REID)
    spread = scipy.special.stdtrit(2, 0.9875) * 0.05 / 3
    assert alone < three.high < 0.05 / 3 + spread + 0.06


def test_what_many_trials_spend_is_no_more_than_one_may():
    """The errors of verdicts on one choice after another are fixed before the first."""
    spent = [1 - verdicts.spent(number) for number in range(1, 1000)]
    assert spent[:3] == pytest.approx([0.025, 0.05 / 6, 0.05 / 12])
    assert 0.049 < sum(spent) < 0.05


def test_a_verdict_is_as_sure_as_it_is_asked_to_be():
    """None of 64 shows at most 10% at 95%, and not at 99.9%."""
    none = [attack(images=64)]
    assert verdicts.kept(none, REID, 0.1) == HOLDS
    assert verdicts.kept(none, REID, 0.1, 0.999) == verdicts.safe(none, 0.999) == UNDECIDED
    assert verdicts.images_needed(none, REID, 0.1, 0.999) == 73
    share = Share(0.5, 64)
    ends = verdicts.greatest([attack(images=64, reid=0.5)] * 3, REID, 0.999)
    assert list(ends) == pytest.approx(
        [share.interval(1 - 0.001 / 3).low, share.interval(0.999).high]
    )


def test_of_an_attack_that_does_not_tell_nothing_is_shown():
    """Older versions did not note what left its start."""
    old = attack()
    old.dead = None
    assert verdicts.safe([old]) == UNDECIDED and verdicts.spoilt([old])["untold"]
    assert not verdicts.spoilt([old])["dead"]
    assert verdicts.safe([old, attack()]) == HOLDS
    assert verdicts.safe([old, attack(0.9)]) == FAILS


def test_who_learned_from_few_images_shows_what_little_data_can_do():
    few, enough = attack(surrogate_images=20), attack(surrogate_images=1000)
    assert verdicts.safe([few]) == UNDECIDED and verdicts.spoilt([few])["few_surrogates"]
    assert verdicts.safe([enough]) == verdicts.safe([few, enough]) == HOLDS
    assert verdicts.safe([few, attack(0.9)]) == FAILS
    assert verdicts.images_to_be_safe([few]) is None
    other = attack(surrogate_images=20, threat_model="blackbox")
    assert verdicts.safe([enough, other]) == UNDECIDED
    assert verdicts.surrogate_images([enough, other]) == 20
    # Who learns from none has all that it needs, and an older version did not note how many.
    assert verdicts.safe([attack(surrogate="none", surrogate_images=None)]) == HOLDS
    old = attack(surrogate_images=None)
    assert verdicts.safe([old]) == UNDECIDED and verdicts.surrogate_images([old]) is None
    assert [name for name, is_so in verdicts.spoilt([old]).items() if is_so] == ["untold"]


def test_others_who_know_as_much_make_up_for_a_dead_attack():
    dead = attack(dead=200, method="paper")
    assert verdicts.spoilt([dead, attack()]) == dict.fromkeys(SPOILT, False)
    assert verdicts.safe([dead, attack()]) == HOLDS
    assert verdicts.safe([dead, attack(method="mean")]) == UNDECIDED
    assert verdicts.safe([dead, attack(threat_model="queryfree")]) == UNDECIDED


def test_the_hardest_to_settle_counts_or_the_first_to_leak():
    easy, hard = attack(0.1, 0.01), attack(0.24, 0.05)
    needed = verdicts.images_needed([easy, hard], SSIM, 0.25)
    assert needed > 1000
    assert verdicts.images_needed([easy, hard, attack(0.6, 0.1)], SSIM, 0.25) < 100
    assert verdicts.images_to_be_safe([easy, hard]) == needed


def test_an_attacker_who_cannot_compare_releases_proves_nothing_of_linkage():
    assert verdicts.kept([attack()], REID, 0.1) == HOLDS
    unable = attack(reid_likelihood_way="none")
    assert verdicts.kept([unable, unable], REID, 0.1) == UNDECIDED
    assert verdicts.images_needed([unable], REID, 0.1) is None
    assert verdicts.greatest([unable], REID).high == 1.0
    # Beside somebody who can it takes nothing away, and what it finds by pixels counts.
    assert verdicts.safe([attack(), unable]) == HOLDS
    assert verdicts.kept([attack(0.1, reid=0.5, reid_likelihood_way="none")], REID, 0.1) == FAILS
