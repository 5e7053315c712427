"""Partition: where to split a network and which defence to add, by cost and leakage.

For every cut of a target and every --defense: accuracy of half the test split; latency, energy and
memory on a device of a --profile; what the strongest of the attackers that are run reconstructs of
the test images, and what no attacker can (bounds). Of these choices it shows the Pareto set, and
recommends one that meets the constraints. Sending everything and sending nothing are choices, too.

Quick attackers screen all choices on the first half of the test split. What would be recommended is
attacked with everything that there is on the second, which no choice has seen, and the choice is
made again with what that finds, until it stands; --effort=full attacks every choice with everything
on the first half, too.

Each attack is a run of the experiment defenses, or of whitebox, blackbox or queryfree, so that each
reads what another has finished, and a study that was stopped goes on. The study itself is a folder
<workdir>/partition/<run>/ with record.json, choices.png and costs.png; the report has a page of it.

  jaxinv partition --dataset=mnist
  jaxinv partition --profile=microcontroller --max_latency_ms=100 --min_accuracy=.97
  jaxinv partition --defense=none,dropout:.6,gaussian:2,quantize:1 --max_ssim=.5
  jaxinv partition --split=relu2,fc1 --profile=my_device.toml --prefer=energy
  jaxinv partition --profile=this@phone-lte
  jaxinv partition --profile=times.csv@microcontroller
  jaxinv partition --split=fc1,relu4 --defense=gaussian:12 --max_reid=.1 --min_accuracy=.5
"""

from pathlib import Path
from typing import Any

from jaxinv.constants.kinds import in_words
from jaxinv.store import similarity
from jaxinv.studies.experiment import Experiment
from jaxinv.studies.partition import study, table
from jaxinv.studies.partition.options import PartitionConfig


def run(config: PartitionConfig) -> list[dict[str, Any]]:
    """Runs what is not finished yet and returns the record with its `path`."""
    record = study.run(config)
    folder = Path(record["path"]).parent
    kind = similarity.kind_of(record)
    print(in_words(table.table(record), kind))
    print(f"What each cut costs: {folder / study.COSTS_NAME}")
    print(f"What each choice leaves and costs: {folder / study.CHOICES_NAME}")
    print(in_words(table.summary(record), kind))
    return [record]


EXPERIMENT = Experiment(
    study.NAME, PartitionConfig, run, __doc__, joins_cuts=True, check=study.prepare
)
