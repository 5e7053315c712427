"""Attacks as a report shows them: what decides about a number stands beside it."""

import fake_runs

from jaxinv.report import cards, tables
from jaxinv.report.results import ShownAttack
from jaxinv.store.record import typed


def shown(**values):
    return ShownAttack(1, typed(fake_runs.attack_fields(**values)), "mnist")


def test_a_seed_is_told_with_that_of_a_target_that_does_not_ship():
    seeds = [shown(seed=1, target={"seed": target}).seed for target in (None, 0, 3)]
    assert seeds == ["1", "1", "1; target of seed 3"]


def test_images_that_did_not_move_are_told_beside_their_quality():
    dead, alive = shown(dead=7), shown()
    assert "dead start: 7 of 200" in tables._psnr(dead).note
    assert "dead" not in tables._psnr(alive).note
    told = [dict(cards.card(each).pairs)["Images"] for each in (dead, alive)]
    assert told == ["200, 7 did not move from the start", "200"]


def test_attacks_on_different_targets_do_not_attack_the_same():
    one = shown()
    assert one.setting == shown(method="tv").setting
    other = {"source": "shipped", "fingerprint": "0" * 12}
    assert one.setting != shown(target=other).setting
    assert one.setting != shown(data_fingerprint="0" * 12).setting
