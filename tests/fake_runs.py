"""Records and pictures as experiments leave them, made up: what reports are tested on."""

import itertools

import numpy as np
import scipy.special

from jaxinv.networks import cifar_cnn, lenet5
from jaxinv.store import record, records

KEYS = frozenset(
    (
        *("kind", "schema", "code", "cuts", "experiment", "dataset", "data_source", "split"),
        *(
            "method",
            "attacker_knowledge",
            "surrogate",
            "surrogate_images",
            "seed",
            "num_images",
            "defense",
        ),
        *("releases", "accuracy", "accuracy_undefended", "psnr_mean", "psnr_std", "psnr_median"),
        *("ssim_mean", "ssim_std", "psnr", "ssim", "mse", "exact_fraction", "diverged", "paper"),
        *("reid_top1", "reid_top1_ci", "reid_likelihood", "reid_likelihood_ci", "reid", "reid_ci"),
        *("psnr_ci", "ssim_ci", "compile_s", "fit_s", "attack_s"),
        *("images_per_s", "device", "versions", "config", "config_hash"),
    )
)
"""Keys of every record of an attack, whichever experiment made it."""

VERSIONS = {"jaxinv": "0.1.0", "jax": "0.10.2", "dm-pix": None, "python": "3.11.7"}
NONE = {"kind": "none", "site": "feature", "level": 0.0}
CUTS = lenet5().cuts
_KNOWN = {
    "whitebox": "the edge's layers and parameters; surrogate images",
    "blackbox": "answers to queries of the release; surrogate images",
    "queryfree": "the cloud's layers and parameters; labelled surrogate images",
}


def digits(count=12, shape=(28, 28, 1), seed=0):
    """Blobs on black, `[N, H, W, C]` in unit space."""
    rng = np.random.default_rng(seed)
    height, width, channels = shape
    y, x = np.mgrid[:height, :width]
    centres = rng.uniform(8, 20, (count, 3, 2))
    distance = ((y - centres[..., :1, None]) ** 2 + (x - centres[..., 1:, None]) ** 2).min(axis=1)
    images = np.exp(-distance / 12.0)[..., None].repeat(channels, axis=-1)
    return images.astype(np.float32)


def attack_fields(experiment="whitebox", **values):
    """A record of an attack; `values` are fields of it, and `quality` its PSNR and SSIM.

    The scores of its images have the mean and the interval that it tells.
    """
    threat = values.get("threat_model", experiment)
    config = {"experiment": experiment, "surrogate": "attacker", **values.pop("config", {})}
    quality = values.pop("quality", (20.0, 0.8))
    count = values.get("num_images", 200)
    count = count if type(count) is int and count > 0 else 200
    network = cifar_cnn() if values.get("dataset") == "cifar10" else lenet5()
    fields = {
        "kind": "attack",
        "schema": record.SCHEMA,
        "experiment": experiment,
        "code": "0123456789ab",
        "cuts": list(network.cuts),
        "dataset": "mnist",
        "data_source": "tfds mnist:3.0.1 (array_record)",
        "data_fingerprint": "1a17c400a020",
        "target": {"source": "shipped", "fingerprint": "01254f39fa72"},
        "split": "relu2",
        "method": "hybrid",
        "attacker_knowledge": _KNOWN.get(threat, "something else"),
        "surrogate": "attacker",
        "surrogate_images": 20_000,
        "seed": 0,
        "num_images": 200,
        "defense": NONE,
        "releases": 1,
        "accuracy": 0.99,
        "accuracy_undefended": 0.99,
        "paper": None,
        "fit_s": 12.5,
        "compile_s": 0.5,
        "attack_s": 3.25,
        "images_per_s": 61.5,
        "psnr_mean": quality[0],
        "psnr_std": 1.0,
        "psnr_median": quality[0],
        "psnr_ci": _around(quality[0], 0.4),
        "ssim_mean": quality[1],
        "ssim_std": 0.05,
        "ssim_median": quality[1],
        "ssim_ci": _around(quality[1], 0.01),
        "reid_top1": 0.9,
        "reid_ci": [0.85, 0.95],
        "reid_likelihood": None,
        "reid_likelihood_ci": [None, None],
        "reid_likelihood_way": "exact",
        "reid_gallery": 1000,
        "exact_fraction": 0.0,
        "diverged": 0,
        "dead": 0,
        "mse": [None if quality[0] is None else 10 ** (-quality[0] / 10)] * count,
        "device": "cpu: Some Processor x2",
        "versions": VERSIONS,
        "config": config,
        **values,
    }
    for name, most in (("psnr", 100.0), ("ssim", 1.0)):
        mean, ends = fields[f"{name}_mean"], fields[f"{name}_ci"]
        fields.setdefault(name, scores(count, mean, ends, most))
    fields.setdefault("reid", fields["reid_top1"])
    fields.setdefault("reid_top1_ci", fields["reid_ci"])
    return fields | {"config_hash": records.config_hash({**config, "record": repr(fields)})}


def way(mean, *, images=200, spread=0.02, **values):
    """One of an attacker's ways, whose images have such SSIM, on average and about it."""
    found = {"psnr_mean": 10.0, "psnr_std": 1.0, "reid_top1": 0.0}
    found |= {"ssim_mean": mean, "ssim_std": spread}
    return {**found, "ssim": (mean + np.resize([spread, -spread], images)).tolist(), **values}


def scores(count, mean, ends, most):
    """Scores of images with a mean and this 95% interval by Student's t, none beyond the most."""
    if not isinstance(mean, int | float) or None in ends or count < 2:
        return [mean] * count
    half = (ends[1] - ends[0]) / 2
    std = half * np.sqrt(count) / scipy.special.stdtrit(count - 1, 0.975)
    apart = std * (np.sqrt((count - 1) / count) if count % 2 == 0 else 1.0)
    apart = min(apart, max(0.0, most - mean))
    signs = np.resize([1.0, -1.0], count)
    signs[count - count % 2 :] = 0.0
    return (mean + apart * signs).tolist()


def attack(workdir, experiment="whitebox", *, images=True, folder=None, **values):
    """Writes a run that attacked; returns its record. `values` are as for `attack_fields`."""
    record = attack_fields(experiment, **values)
    name = folder or f"{record['split']}-{record['method']}-{record['config_hash']}"
    pictures = None
    if images:
        originals = digits(shape=(32, 32, 3) if record["dataset"] == "cifar10" else (28, 28, 1))
        noise = np.random.default_rng(len(str(name))).normal(0, 0.2, originals.shape)
        pictures = {"originals": originals, "reconstructions": (originals + noise).astype("f4")}
    records.write(workdir / experiment / str(name), record, images=pictures)
    return record


def defended(workdir, kind="dropout", level=0.6, site="feature", *, method="adaptive", **values):
    """Writes a run that attacked a defence."""
    given = {
        "threat_model": "whitebox",
        "method": method,
        "defense": {"kind": kind, "site": site, "level": level},
        "accuracy_ci": _around(values.get("accuracy", 0.99), 0.002),
        "draws": 2,
        "retrain": "none",
        "level_units": ["r, share of values set to zero"],
        "judge_accuracy": 0.97,
        **values,
    }
    return attack(workdir, "defenses", **given)


def choice(split, *, defense=NONE, accuracy=0.99, ssim=0.8, latency=0.03, **values):
    """A row of a partition's record."""
    whole = split in ("cloud-only", "edge-only")
    return {
        "split": split,
        "defense": defense,
        "accuracy": accuracy,
        "accuracy_ci": _around(accuracy, 0.002),
        "latency_s": latency,
        "edge_s": 0.0 if split == "cloud-only" else latency / 10,
        "uplink_s": 0.0 if split == "edge-only" else latency * 0.9,
        "cloud_s": 0.0,
        "latency_p95_s": 2 * latency,
        "energy_j": latency / 10,
        "edge_j": 0.001,
        "uplink_j": 0.002,
        "wait_j": 0.0001,
        "tail_j": 0.0002,
        "memory_bytes": 123456,
        "edge_parameters": 3000,
        "edge_flops": 1e6,
        "cloud_flops": 1e5,
        "sent_bytes": 4096,
        "psnr_mean": None if split == "edge-only" else 10 + 15 * ssim,
        "psnr_ci": [None, None] if split == "edge-only" else _around(10 + 15 * ssim, 0.5),
        "psnr_of_mean": None if split == "edge-only" else 9 + 15 * ssim,
        "ssim_mean": ssim,
        "ssim_ci": _around(ssim, 0.01),
        "reid": ssim,
        "reid_ci": _around(ssim, 0.01),
        "attacker": None if whole else {"threat_model": "whitebox", "method": "adaptive"},
        "diverged": False,
        "attacks": [],
        "bounds": [],
        "pareto": True,
        "meets": True,
        "effort": "full",
        "fails": [],
        **values,
    }


PROFILE = {
    "name": "phone-wifi",
    "description": "phone of 2015 on Wi-Fi",
    "source": "measured by somebody",
    "edge_flops_per_s": 17.7e9,
    "edge_joules_per_flop": 4.5e-10,
    "uplink_bits_per_s": 12.8e6,
    "uplink_joules_per_bit": 2.9e-7,
    "round_trip_s": 0.02,
    "cloud_flops_per_s": 2.4e11,
    "memory_bytes": None,
}


_OF_A_STUDY = {
    "cuts": list(CUTS),
    "dataset": "mnist",
    "data_source": "tfds mnist:3.0.1 (array_record)",
    "data_fingerprint": "1a17c400a020",
    "target": {"source": "shipped", "fingerprint": "01254f39fa72"},
    "seed": 0,
    "device": "cpu: Some Processor x2",
    "versions": VERSIONS,
}


def partition(
    workdir, choices, *, recommendation=0, recommendation_split=None, folder=None, **values
):
    """Writes a run that compared choices."""
    config = {"experiment": "partition", "n": len(choices)}
    record = {
        "kind": "partition",
        "experiment": "partition",
        **_OF_A_STUDY,
        "num_images": 64,
        "accuracy_undefended": 0.99,
        "profile": PROFILE,
        "constraints": {"min_accuracy": 0.98, "max_latency_ms": None, "max_ssim": 0.25},
        "prefer": "privacy",
        "choices": choices,
        "recommendation": recommendation,
        "recommendation_split": recommendation_split,
        "reason": "",
        "fit_s": 100.0,
        "attack_s": 10.0,
        "compile_s": 1.0,
        "config": config,
        **values,
    }
    record["config_hash"] = records.config_hash({**config, "record": repr(record)})
    records.write(workdir / "partition" / (folder or record["config_hash"]), record, images=None)
    return record


def reconstructed(psnr, ssim, threat="whitebox", method="adaptive", **values):
    """Quality behind a defence, as a board holds it."""
    quality = {"psnr_mean": psnr, "psnr_ci": [psnr - 1, psnr + 1], "ssim_mean": ssim}
    quality |= {"ssim_ci": [ssim - 0.05, ssim + 0.05], "diverged": 0, "dead": 0}
    return {"threat_model": threat, "method": method, **quality, **values}


def standing(defense, claim, most, *, loss=1.0, **values):
    """A defence on a board; `claim` and `most` are SSIMs of the claimed and the strongest."""
    best = reconstructed(20.0, most)
    return {
        "defense": defense,
        "level": "0.3",
        "loss": loss,
        "usability": {"mean": 0.98, "std": 0.001, "by_seed": [0.979, 0.981]},
        "claimed": reconstructed(12.0, claim, "blackbox", "paper"),
        "strongest": best,
        "strongest_psnr": best,
        "reid": 0.8,
        "verdict": "fails",
        "error_ratio": 6.3,
        "error_ratio_ci": [5.0, 8.0],
        "sent_bytes": 4096.0,
        "edge_flops_ratio": 1.25,
        **values,
    }


def leaderboard(workdir, standings, *, folder="board", **values):
    """Writes a run that compared defences at equal accuracy."""
    config = {"experiment": "leaderboard", "n": len(standings)}
    record = {
        "kind": "leaderboard",
        "experiment": "leaderboard",
        **_OF_A_STUDY,
        "split": "relu2",
        "num_images": 48,
        "accuracy_undefended": 0.99,
        "losses": list(dict.fromkeys(each["loss"] for each in standings)),
        "seeds": 2,
        "standings": standings,
        "config": config,
        **values,
    }
    record["config_hash"] = records.config_hash(config)
    records.write(workdir / "leaderboard" / folder, record, images=None)
    return record


def all_choices(cuts=CUTS):
    """Cuts with some defences, behind sending the image and before sending nothing."""
    rows = [choice("cloud-only", ssim=1.0, latency=0.0201)]
    kinds = (("none", 0.0, 0.0), ("dropout", 0.6, 0.03), ("gaussian", 2.0, 0.28))
    for depth, (cut, (kind, level, loss)) in enumerate(itertools.product(cuts, kinds)):
        ssim = max(0.03, 0.99 - 0.02 * depth - 0.4 * loss - 0.1 * (kind == "dropout"))
        fails = ["min_accuracy"] * (loss > 0.01) + ["max_ssim"] * (ssim > 0.25)
        rows.append(
            choice(
                cut,
                defense={"kind": kind, "site": "feature", "level": level},
                accuracy=0.99 - loss,
                ssim=ssim,
                latency=0.045 - 0.0006 * depth + 0.0001 * depth * (kind == "none"),
                bounds=[
                    {
                        "name": "van Trees",
                        "kind": "estimated",
                        "quantity": "psnr",
                        "value": 30.5 - depth if kind == "gaussian" else None,
                        "assumptions": "the prior is that of dithered images",
                    }
                ],
                pareto=kind != "gaussian" or depth % 2 == 0,
                meets=not fails,
                fails=fails,
            )
        )
    return [*rows, choice("edge-only", ssim=0.0, latency=0.0012)]


def many(workdir, count=200):
    """A workdir with that many records: every kind of attack, and one partition."""
    partition(workdir, all_choices(), recommendation=34, recommendation_split=4)
    made = 1
    undefended = itertools.product(
        CUTS, ("whitebox", "blackbox", "queryfree"), ("paper", "strong"), ("mnist", "cifar10")
    )
    levels = itertools.product(
        ("dropout", "gaussian", "laplace", "quantize", "prune", "project", "clip", "nopeek"),
        ("feature", "input"),
        ("paper", "adaptive"),
        (0.0, 0.2, 0.4, 0.6, 0.8),
    )
    for number, (cut, threat, method, dataset) in enumerate(undefended):
        if made >= count // 2:
            break
        quality = 30 - CUTS.index(cut) - 3 * (method == "paper"), 0.95 - 0.03 * CUTS.index(cut)
        values = {"paper": {"psnr": 15.1, "ssim": 0.6}} if cut == "relu2" else {}
        attack(
            workdir,
            threat,
            split=cut,
            method=method,
            dataset=dataset,
            quality=quality,
            folder=f"u{number}",
            queries=100 + number if threat == "blackbox" else None,
            **values,
        )
        made += 1
    for number, (kind, site, method, level) in enumerate(levels):
        if made >= count:
            break
        quality = 25 - 10 * level - 8 * (method == "paper"), 0.9 - 0.5 * level
        defended(
            workdir,
            kind,
            level,
            site,
            method=method,
            accuracy=0.99 - 0.3 * level**2,
            quality=quality,
            folder=f"d{number}",
        )
        made += 1
    return made


def _around(value, reach):
    return [None, None] if value is None else [value - reach, value + reach]
