"""Verdicts on limits by whole intervals, over all attackers."""

import fake_runs
import pytest

from jaxinv.constants.verdicts import FAILS, HOLDS, UNDECIDED
from jaxinv.measures import verdicts
from jaxinv.measures.intervals import Share
from jaxinv.measures.verdicts import REID, SSIM
from jaxinv.store.record import typed


def attack(ssim=0.1, reach=0.01, *, images=200, reid=0.0, **values):
    """An attack whose mean SSIM has an interval of so much on either side."""
    ends = [ssim - reach, ssim + reach]
    fields = {"num_images": images, "quality": (10.0, ssim), "ssim_ci": ends, "reid_top1": reid}
    return typed(fake_runs.attack_fields("defenses", threat_model="whitebox", **fields | values))


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
    assert verdicts.kept([attack(0.248, 0.001, images=50)], SSIM, 0.25) == HOLDS
    assert verdicts.kept([attack(0.3, 0.02, images=50)], SSIM, 0.25) == FAILS


def test_what_another_machine_may_turn_over_is_undecided():
    """Equal scores have no spread, but float32 sums differ by more than nothing."""
    for ssim in (0.25, 0.25 - 5e-5, 0.25 + 5e-5):
        assert verdicts.kept([attack(ssim, 0.0, images=4)], SSIM, 0.25) == UNDECIDED
        assert verdicts.images_needed([attack(ssim, 0.0, images=4)], SSIM, 0.25) is None
    assert verdicts.kept([attack(0.25 - 2e-4, 0.0, images=4)], SSIM, 0.25) == HOLDS


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


def test_all_intervals_of_several_attackers_hold_together():
    """Each of three is at 1 - 5% / 3."""
    many = [attack(images=64)] * 3
    expected = Share(0.0, 64).interval(1 - 0.05 / 3)
    assert list(verdicts.greatest(many, REID)) == pytest.approx(list(expected))
    alone, three = verdicts.greatest([attack()], SSIM), verdicts.greatest([attack()] * 3, SSIM)
    assert three.low < alone.low < alone.high < three.high
    wide = verdicts.greatest([attack(0.5, 0.01), attack(0.49, 0.2, images=20)], SSIM)
    assert wide.low > 0.48 and wide.high > 0.69  # who is second by the mean may reach further


def test_one_attack_that_leaks_is_enough_and_one_that_diverged_proves_nothing():
    spoilt = attack(diverged=1)
    assert verdicts.safe([attack()]) == HOLDS
    assert verdicts.safe([attack(), spoilt]) == UNDECIDED
    assert verdicts.safe([attack(0.9), spoilt]) == FAILS
    assert verdicts.safe([attack(reid=0.5)]) == FAILS
    gone = attack(quality=(None, None), ssim_ci=[None, None], diverged=200)
    assert verdicts.safe([gone]) == UNDECIDED
    assert verdicts.images_to_be_safe([attack(), spoilt]) is None


def test_the_hardest_to_settle_counts_or_the_first_to_leak():
    easy, hard = attack(0.1, 0.01), attack(0.24, 0.05)
    needed = verdicts.images_needed([easy, hard], SSIM, 0.25)
    assert needed > 1000
    assert verdicts.images_needed([easy, hard, attack(0.6, 0.1)], SSIM, 0.25) < 100
    assert verdicts.images_to_be_safe([easy, hard]) == needed


def test_an_attacker_who_cannot_compare_releases_proves_nothing_of_linkage():
    assert verdicts.kept([attack()], REID, 0.1) == HOLDS
    unable = attack(reid_likelihood_way="none")
    assert verdicts.kept([unable], REID, 0.1) == UNDECIDED
    assert verdicts.safe([attack(), unable]) == UNDECIDED
