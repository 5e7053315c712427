"""Leaderboard: defences at equal accuracy, as their papers judge them and as we do.

Trains the target of each --seeds behind every --defense, at levels that cost it so many points of
accuracy (--loss), and attacks each with the attackers of the experiment defenses. Levels are found
on the first half of the test split, by seed 0; what is attacked is the second. For each defence and
loss: what the claimed attacker finds (the authors' decoder, trained on queries), what the strongest
of all finds, who knows the defence, and what the device pays. Each attack is a run of the
experiment defenses, so that a board that was stopped goes on. The board is a folder
<workdir>/leaderboard/<run>/ with record.json, leaderboard.md, leaderboard.png (the two attackers
behind each defence) and reconstructions.png; jaxinv report has it on its page.

  jaxinv leaderboard --split=relu2
  jaxinv leaderboard --split=relu2 --defense=gaussian,vib,cloak --loss=1,5 --seeds=1
  jaxinv leaderboard --network=resnet20 --dataset=cifar10 --split=stage1.block3 --loss=2
"""

from typing import Any

from jaxinv.studies.experiment import Experiment
from jaxinv.studies.leaderboard import board
from jaxinv.studies.leaderboard.options import LeaderboardConfig


def run(config: LeaderboardConfig) -> list[dict[str, Any]]:
    """Runs what is not finished yet and returns the record of each cut with its `path`."""
    return board.run(config)


EXPERIMENT = Experiment(
    board.NAME, LeaderboardConfig, run, __doc__, joins_cuts=True, check=board.prepare
)
