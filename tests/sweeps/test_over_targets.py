"""Sweeps over targets: one line for all of them, and markers that know their target."""

import json
from types import SimpleNamespace

import fake_runs
import pytest

from jaxinv import sweeps
from jaxinv.errors import UsageError
from jaxinv.measures.leaks import PSNR
from jaxinv.studies import runs
from jaxinv.studies.whitebox import WhiteboxConfig
from jaxinv.sweeps import summary, targets
from jaxinv.sweeps.store import Run, Sweep, SweepOutcome

MEANS = (15.0, 16.0, 6.4)
PAPER = {"psnr": 15.1, "ssim": 0.6}


@pytest.fixture
def outcomes(tmp_path):
    """Finished runs of two methods at three targets; one of paper's did not move."""
    found = []
    for method, shift in (("paper", 0.0), ("tv", 10.0)):
        for seed, mean in enumerate(MEANS):
            name = f"{method}-{seed}"
            values = {"quality": (mean + shift, mean / 20), "paper": PAPER, "method": method}
            dead = 200 if (method, seed) == ("paper", 2) else 0
            fake_runs.attack(tmp_path, images=False, folder=name, dead=dead, **values)
            run = Run("whitebox", {"method": method, "target_seed": str(seed)}, {})
            path = tmp_path / "whitebox" / name / "record.json"
            found.append(SweepOutcome(run, "finished", (path,), 1.0))
    return found


def test_targets_together_have_a_mean_a_spread_and_the_number_of_dead_runs(outcomes):
    paper, tv = targets.rows(outcomes)
    assert (paper.seeds, paper.dead, tv.dead) == ([0, 1, 2], 1, 0)
    assert (paper.psnr.least, paper.psnr.most) == pytest.approx((6.4, 16.0))
    assert paper.psnr.mean == pytest.approx(sum(MEANS) / 3)
    assert paper.psnr.std == pytest.approx(5.278, abs=1e-3)
    assert (paper.above_printed, tv.above_printed) == (1, 3)
    low, high = paper.psnr.interval
    assert high - low > 20  # of three targets so far apart little is known, of 200 images much


def test_the_interval_is_about_the_mean_where_an_image_diverged_for_a_target():
    scores = [[10.0, 10.0, 50.0, 50.0]] * 9 + [[10.0, 10.0, None, None]]
    means = [30.0] * 9 + [10.0]
    told = zip(scores, means, strict=True)
    attacks = [SimpleNamespace(psnr=row, psnr_mean=mean) for row, mean in told]
    found = targets._over(attacks, PSNR)
    assert found.mean == 30 and (found.least, found.most) == (10, 30)
    assert found.interval.low < found.mean < found.interval.high


def test_the_table_has_a_line_for_all_targets(outcomes, tmp_path):
    text = summary.table(outcomes)
    (line,) = (row for row in text.splitlines() if row.startswith("paper  ") and " of 3 " in row)
    assert all(word in line for word in ("12.47", "5.28", "6.40", "16.00", "1 of 3", "15.10"))
    path = summary.write(Sweep(tuple(one.run for one in outcomes), tmp_path), outcomes)
    told = json.loads(path.read_text("utf-8"))["targets"]
    assert [row["flags"] for row in told] == [{"method": "paper"}, {"method": "tv"}]
    assert told[0]["target_seeds"] == [0, 1, 2] and told[0]["dead"] == 1


def test_runs_of_one_target_have_no_such_line(outcomes):
    alone = [outcomes[0], outcomes[3]]
    assert targets.rows(alone) == []
    assert "targets" not in summary.table(alone)


def test_a_run_of_another_seed_does_not_wait_for_what_ships(tmp_path):
    given = {"dataset": "mnist_5k", "split": "conv1", "target_seed": "0,1"}
    points = sweeps.expand("whitebox", given)
    assert [run.flags["target_seed"] for run in points] == ["0", "1"]
    sweep, inputs = Sweep(tuple(points), tmp_path), []
    for seed in (None, 0, 1):
        if seed is not None:
            folder = tmp_path / "train_target" / f"mnist_5k-s{seed}-0123456789"
            folder.mkdir(parents=True)
            (folder / "target.safetensors").touch()
        inputs.append([sweep._inputs(run).get("trained") for run in points])
    assert [[len(trained) for trained in row] for row in inputs] == [[0, 0], [1, 0], [1, 1]]


def test_a_seed_beside_a_checkpoint_is_refused():
    with pytest.raises(UsageError, match="^target_seed=3: checkpoint=a is the target"):
        runs.plan(WhiteboxConfig(checkpoint="a", target_seed=3))
