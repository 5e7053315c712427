"""How well can an untrusted cloud reconstruct the inputs of a split network?

The package reads in the order that data flow:

* `data`: datasets as arrays; the target's, the attacker's and the test images kept apart.
* `networks`: ordered named layers, `split` into an edge and a cloud at any of them.
* `targets`: trained networks: shipped, found or trained here. `training` is the fit loop.
* `defenses`: what the device does about it; `Release` is all that crosses the wire.
* `attacks`: `attack` has what an attacker of each threat model is handed, and what it hands back;
  `registry` lists every attack. `whitebox`: regularised maximum likelihood over whole batches (He,
  Zhang & Lee 2021); `blackbox`: inverse networks, for an attacker that may query; `queryfree`:
  shadow edges, for one that may not.
* `studies.defended`: a defense at all its levels, its accuracy, and what attackers make of it;
  `retraining` for targets that learn to live with it, `judge` for what is still to be seen.
* `bounds`: what no attacker can do. `costs`: what a split costs a device.
* `partition`, `decision`: cuts and defences as choices, and which to take.
* `measures`, `evaluation`, `paper`: quality per image, its summary, and the paper's numbers beside.
* `records`, `look`, `runs`: what a run leaves behind, and how scripts get there.
* `report`: a page of all records. `sweeps`: many runs, each done once, here or on SLURM.

Importing it imports none of them: each is imported by name, and is as light as it can be.
"""
