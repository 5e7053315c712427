"""Measures how well an untrusted cloud reconstructs the inputs of a split network.

Rooms, from the ground up; each imports those before it alone:

* `constants`: numbers and names that need no JAX. `errors`: what a user can mend.
  `unit_space`: what every array of images must be.
* `machine`: devices, processes that share the work, progress. `store`: records, checkpoints, locks.
* `networks`: networks as programs, cut into an edge and a cloud between any two operations.
* `defenses`: mechanisms, and the release: all that crosses the wire.
* `inputs`: datasets as arrays. `look`: pictures and charts.
* `measures`: quality, linkage, intervals, bounds, costs, the decision.
* `training`: the fit loop, targets, retraining, the judge.
* `attacks`: attacks as values, by threat model; `attacks.registry` is the only list of them.
* `studies`: experiments as values, from settings to records. `sweeps`: many runs, each done once.
* `report`: one page of all records. `paper`: the paper's tables and figures, made again.

Importing it imports none of them: each is imported by name, and is as light as it can be.
"""
