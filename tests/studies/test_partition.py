"""Choices put together: what is attacked, what counts, what is kept, and what a record says."""

import dataclasses
import json
from pathlib import Path
from typing import NamedTuple

import fake_runs
import flax.linen as nn
import jax
import numpy as np
import pytest
import scipy.special

from jaxinv.constants.verdicts import SAFE_REID
from jaxinv.defenses import NONE
from jaxinv.errors import UsageError, UserError
from jaxinv.inputs import data
from jaxinv.measures import bounds, costs, usability
from jaxinv.measures.intervals import Score
from jaxinv.networks import lenet5, sequence
from jaxinv.networks.loading import Model
from jaxinv.store import records
from jaxinv.store.record import typed
from jaxinv.studies import order, runs
from jaxinv.studies.defended import accuracy
from jaxinv.studies.defended import run as defended_run
from jaxinv.studies.partition import attacks, everything, limits, options, table
from jaxinv.studies.partition import study as studies
from jaxinv.studies.partition.options import PartitionConfig
from jaxinv.training import targets

NETWORK = sequence(
    [
        ("conv", nn.Conv(2, (3, 3), (2, 2))),
        ("relu", nn.relu),
        ("fc", nn.DenseGeneral(10, axis=(-3, -2, -1))),
    ],
    (12, 12, 1),
    mean=(0.5,),
    std=(0.3,),
)
PARAMS = jax.jit(NETWORK.init)(jax.random.key(0))


def samples(count, seed):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (count, 12, 12, 1), dtype=np.uint8)
    return data.Samples(pixels, rng.integers(0, 10, count).astype(np.int32))


@pytest.fixture(scope="module")
def scene():
    parts = samples(40, 0), samples(40, 1), samples(120, 2)
    dataset = data.Dataset("random", "nowhere", "d" * 12, 10, *parts)
    target = targets.Target("ours", NETWORK, PARAMS, "nowhere", "e" * 12, {})
    usable = usability.undefended("accuracy", 0.9, len(dataset.test))
    return runs.Scene(dataset, target, usable, list(NETWORK.cuts))


QUANTIZED = {"kind": "quantize", "site": "feature", "level": 2.0}
IMAGES = 60  # all of a half
LEAKS = {"conv": 0.9, "relu": 0.6, "fc": 0.2}  # SSIM


def record_of(scene, cut, defense, *, method="adaptive", **changes):
    """An attack's record, as far as it is read here."""
    level = float(np.sum(defense["level"]))
    ssim = LEAKS[cut] / (1 + level)
    fields = {
        "threat_model": "whitebox",
        "dataset": scene.dataset.name,
        "data_fingerprint": scene.dataset.fingerprint,
        "target": {"source": "nowhere", "fingerprint": scene.target.fingerprint},
        "split": cut,
        "method": method,
        "num_images": IMAGES,
        "defense": defense,
        "accuracy": 0.9 - 0.05 * level,
        "accuracy_ci": [0.8, 0.95],
        "accuracy_undefended": 0.9,
        "quality": (20.0, ssim),
        "psnr_ci": [19.0, 21.0],
        "ssim_ci": [ssim - 0.05, ssim + 0.05],
        "reid_top1": ssim,
        "reid_ci": [ssim - 0.05, ssim + 0.05],
        "fit_s": 1.0,
        "attack_s": 2.0,
        "compile_s": 3.0,
        **changes,
    }
    return fake_runs.attack_fields(fields.pop("experiment", "defenses"), **fields)


class Attacked(NamedTuple):
    """An attack that was made or read."""

    cut: str
    kind: str
    threat: str
    method: str
    steps: int | None
    half: str = "choice"
    releases: int = 1


@pytest.fixture
def study(scene, monkeypatch, tmp_path):
    """Runs a study whose attacks are made up; tells which are made, by whom, and how long.

    `leaks` is what an attack finds: a function of its record's fields that returns more of them.
    """
    attacked, finished = [], {}

    def written(cut, defense, threat, method, steps, half, releases=1):
        """Reads or makes a record, as a run does."""
        kind = "none" if defense["level"] == 0 else defense["kind"]
        known = Attacked(cut, kind, threat, method, steps, half, releases)
        attacked.append(known)
        if known not in finished:
            if run.made == run.killed_after:
                raise KeyboardInterrupt
            run.made += 1
            given = {"method": method, "threat_model": threat, "test_images": half}
            given |= {"releases": releases, "config": {"steps": steps, "half": half}}
            found = record_of(scene, cut, defense, **given)
            record = record_of(scene, cut, defense, **given, **run.leaks(found))
            path = tmp_path / "defenses" / record["config_hash"] / "record.json"
            finished[known] = {**record, "path": str(path)}
        return finished[known]

    def attack(config, scene, attacker, number):
        deployment = attacker.deployment
        defense = deployment.family[number].describe()
        who = attacker.threat, attacker.method
        more = (config.fit_steps, config.test_images, config.releases)
        return written(deployment.cut, defense, *who, *more)

    def run_cut(config, scene, cut):
        steps = getattr(config, "fit_steps", None)
        threat = next(name for name, (kind, _) in scripts.items() if isinstance(config, kind))
        more = (config.method, steps, config.test_images)
        return written(cut, NONE.describe(), threat, *more)

    scripts = {name: (kind, run_cut) for name, (kind, _) in everything._SCRIPTS.items()}
    monkeypatch.setattr(everything, "_SCRIPTS", scripts)

    planned = runs.Plan(scene.dataset, Model("ours", NETWORK), list(NETWORK.cuts))
    monkeypatch.setattr(runs, "plan", lambda config, dataset: planned)
    monkeypatch.setattr(runs, "load", lambda config, plan: scene.on("choice", scene.dataset))
    monkeypatch.setattr(targets, "test_accuracy", lambda *args: 0.9)
    monkeypatch.setattr(defended_run, "run_one", attack)
    monkeypatch.setattr(accuracy, "judge_of", lambda config, scene: None)
    monkeypatch.setattr(attacks, "columns", lambda *told: ("", lambda record: ""))

    def run(**changes):
        settings = {
            "workdir": str(tmp_path),
            "num_images": IMAGES,
            "split": ("all",),
            "defense": ("none", "gaussian:1"),
            "threat_model": ("whitebox",),
            **changes,
        }
        return studies.run(PartitionConfig(**settings))

    run.attacked = attacked
    run.made, run.killed_after = 0, None
    run.leaks = lambda record: {}
    run.workdir = tmp_path
    return run


@pytest.fixture
def plain(study, monkeypatch):
    """The same without bounds and pictures."""
    monkeypatch.setattr(limits, "of_options", lambda *args: ([[] for _ in args[2]], []))
    monkeypatch.setattr(studies.style, "save", lambda *args: None)
    return study


def with_everything(study):
    """The choices that somebody attacked who does not screen."""
    return {(one.cut, one.kind) for one in study.attacked if one.threat == "queryfree"}


# --- Flags ----------------------------------------------------------------------------------------


def test_defences_of_one_kind_and_site_are_learned_together():
    config = PartitionConfig(defense=("none", "gaussian:.5", "dropout@input:.2", "gaussian:2"))
    found = options.choices(config)
    assert [(each.kinds, each.sites, each.levels) for each in found] == [
        (("gaussian",), ("feature",), ((0.0,), (0.5,), (2.0,))),
        (("dropout",), ("input",), ((0.2,),)),
    ]


def test_no_defence_needs_no_other():
    (found,) = options.choices(PartitionConfig(defense=("none",)))
    assert found.levels == ((0.0,),)
    nopeek, host = options.choices(PartitionConfig(defense=("none", "nopeek:1")))
    assert nopeek.kinds == ("nopeek",) and nopeek.levels == ((1.0,),)
    assert host.levels == ((0.0,),)


@pytest.mark.parametrize(
    "text, message",
    [
        ("blur:1", "^defense=blur"),
        ("gaussian", "defense=gaussian: a level is missing"),
        ("gaussian:much", "^level=much"),
        ("gaussian@wire:1", "^site=wire"),
        ("", "defense=: a level"),
        ("nopeek:0", "defense=nopeek:0: trains the edge on, too"),
        ("gaussian+nopeek:1+0", "defense=nopeek:0: trains"),
    ],
)
def test_a_defence_that_is_none_is_named(text, message):
    with pytest.raises(UsageError, match=message):
        options.choices(PartitionConfig(defense=(text,)))


# --- Studies --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_record_has_every_choice_in_order_and_what_it_costs_and_leaks(study):
    record = study()
    rows = record["choices"]
    assert [(row["split"], row["defense"]["kind"]) for row in rows] == [
        ("cloud-only", "none"),
        *((cut, kind) for cut in NETWORK.cuts for kind in ("none", "gaussian")),
        ("edge-only", "none"),
    ]
    whole, first, *_, nothing = rows
    assert (whole["ssim_mean"], whole["reid"], whole["psnr_mean"]) == (1.0, 1.0, 100.0)
    assert (nothing["ssim_mean"], nothing["reid"], nothing["psnr_mean"]) == (0.0, 0.0, None)
    assert whole["sent_bytes"] == 144 and nothing["sent_bytes"] == 0
    assert first["sent_bytes"] == 4 * 72 and first["ssim_mean"] == LEAKS["conv"]
    assert first["attacker"] == {"threat_model": "whitebox", "method": "adaptive"}
    attack, *_ = first["attacks"]
    assert not Path(attack["path"]).is_absolute() and attack["path"].endswith("record.json")
    for row in rows:
        assert row["latency_s"] == pytest.approx(row["edge_s"] + row["uplink_s"] + row["cloud_s"])
        parts = ("edge_j", "uplink_j", "wait_j", "tail_j")
        assert row["energy_j"] == pytest.approx(sum(row[part] for part in parts))
        assert row["wire_bytes"] >= row["sent_bytes"] and row["latency_p95_s"] >= row["latency_s"]
        assert row["meets"] == (row["verdict"] == "holds") == (not row["fails"] + row["undecided"])
        assert row["images_needed"].keys() == set(row["undecided"]) - {"diverged"}
    assert [row["memory_bytes"] for row in rows] == sorted(row["memory_bytes"] for row in rows)
    made = float(study.made)
    assert (record["fit_s"], record["attack_s"]) == (made, 2 * made)
    assert record["compile_s"] == 3 * made
    folder = Path(record["path"]).parent
    for name in (studies.COSTS_NAME, studies.CHOICES_NAME):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")


def test_what_is_recommended_meets_the_constraints_and_leaks_least(plain):
    record = plain()
    # One point less than what 54 right answers of 60 are for certain.
    least = scipy.special.betaincinv(54, 7, 0.0005)
    assert record["constraints"]["min_accuracy"] == pytest.approx(least - 0.01, abs=1e-4)
    best = record["choices"][record["recommendation"]]
    assert best["split"] == "edge-only"
    # At the last cut the cloud has nothing left to do.
    split = record["choices"][record["recommendation_split"]]
    assert (split["split"], split["defense"]["kind"]) == ("relu", "gaussian")
    assert record["reason"] == record["reason_split"] == ""


def test_where_no_choice_fits_the_record_says_why(plain):
    record = plain(min_accuracy=0.99)
    assert record["recommendation"] is None and record["recommendation_split"] is None
    told = "No choice meets min_accuracy=0.99; edge-only comes nearest and breaks min_accuracy."
    assert record["reason"] == told
    assert record["reason_split"].startswith("No choice meets min_accuracy=0.99; ")
    assert plain(min_accuracy=0.9)["reason"] == (
        "No choice is shown to meet min_accuracy=0.9; edge-only comes nearest and is undecided in "
        "min_accuracy (95% interval 0.795 to 0.962)."
    )


def test_a_choice_within_the_interval_of_a_limit_is_not_recommended(plain):
    """Sixty images prove little about a share of 28%."""
    record = plain(max_reid=0.28)
    near = next(row for row in record["choices"] if row["split"] == "relu" and row["reid"] == 0.3)
    assert near["verdict"] == "undecided" and near["images_needed"]["max_reid"] > IMAGES
    assert record["choices"][record["recommendation"]]["split"] == "edge-only"
    assert record["recommendation_split"] is None
    assert "max_reid (95% interval" in record["reason_split"]
    said = f"{table.table(record)}\n{table.summary(record)}"
    assert "max_reid? (" in said and "images would settle it" in said


@pytest.mark.slow
def test_the_papers_advice_is_tested(study):
    advice = study()["advice"]
    assert advice["before"]["split"] == "relu" and advice["after"]["split"] == "fc"
    assert not advice["holds"]  # SSIM .2 of sixty images may be .25
    assert advice["verdict"] == "undecided"


@pytest.mark.parametrize("effort, verdict", [("full", "holds"), ("screen", "undecided")])
def test_a_choice_that_quick_attacks_alone_do_not_break_is_not_safe(
    plain, monkeypatch, effort, verdict
):
    attack = defended_run.run_one
    monkeypatch.setattr(attacks.Siege, "is_over", lambda *_: effort == "full")
    monkeypatch.setattr(studies, "settle", lambda *_: None)

    def nothing(config, scene, attacker, number):
        record = attack(config, scene, attacker, number)
        record |= {"ssim": [0.02] * 300, "ssim_mean": 0.02, "psnr": [9.0] * 300, "mse": []}
        record |= {"num_images": 300, "reid_top1": 0.0, "reid": 0.0}
        return record | {"reid_likelihood": 0.0, "reid_likelihood_images": 300}

    monkeypatch.setattr(defended_run, "run_one", nothing)
    rows = plain()["choices"]
    assert {row["safe"] for row in rows[1:-1]} == {verdict}


@pytest.mark.parametrize("effort, verdict", [("full", "holds"), ("screen", "undecided")])
def test_the_papers_advice_has_a_verdict_for_each_threat_model(study, monkeypatch, effort, verdict):
    """Quick attacks alone show no protection."""
    attack = defended_run.run_one
    monkeypatch.setattr(attacks.Siege, "is_over", lambda *_: effort == "full")
    monkeypatch.setattr(studies, "settle", lambda *_: None)

    def many(config, scene, attacker, number):
        record = attack(config, scene, attacker, number)
        ssim, reid = (0.02, 0.0) if record["threat_model"] == "queryfree" else (0.5, 0.9)
        record |= {"ssim": [ssim - 0.001, ssim, ssim + 0.001] * 100, "ssim_mean": ssim}
        record |= {"psnr": [9.0] * 300, "mse": [], "num_images": 300, "reid_top1": reid}
        return record | {"reid": reid, "reid_likelihood": reid, "reid_likelihood_images": 300}

    monkeypatch.setattr(defended_run, "run_one", many)
    record = study(threat_model=("whitebox", "queryfree"))
    threats = {each["threat_model"]: each for each in record["advice"]["threats"]}
    assert {name: each["verdict"] for name, each in threats.items()} == {
        "whitebox": "fails",
        "blackbox": "undecided",
        "queryfree": verdict,
    }
    assert threats["queryfree"]["num_images"] == 300 and threats["blackbox"]["num_images"] == 0
    assert threats["queryfree"]["reid_ci"][1] < 0.1 and record["advice"]["verdict"] == "fails"
    said = table.summary(record)
    assert (
        f"query-free {verdict} (SSIM 0.020 [-0.001, 0.037], re-identified 0.0% [0.0%, 1.2%]" in said
    )
    assert "white-box fails" in said and "black-box undecided, for none attacked" in said


def test_where_attacks_diverged_nothing_is_said_to_be_safe(study, monkeypatch):
    attack = defended_run.run_one

    def diverges_at_fc(config, scene, attacker, number):
        record = attack(config, scene, attacker, number)
        if record["split"] == "fc":
            nothing = dict.fromkeys(("psnr_mean", "ssim_mean")) | {"reid_top1": 0.0, "diverged": 5}
            record |= {**nothing, "psnr_ci": [None] * 2, "ssim_ci": [None] * 2, "reid_ci": [0, 0]}
        return record

    monkeypatch.setattr(defended_run, "run_one", diverges_at_fc)
    record = study(max_ssim=0.0)
    for row in record["choices"]:
        if row["split"] == "fc":
            assert row["diverged"] and not row["pareto"]
            assert "diverged" in row["undecided"]
    assert (record["advice"]["holds"], record["advice"]["verdict"]) == (False, "undecided")


def test_bounds_hold_for_the_noise_alone(study):
    rows = study()["choices"]
    plain = next(row for row in rows if row["split"] == "relu")
    noisy = next(row for row in rows if row["defense"]["kind"] == "gaussian")
    assert [bound["name"] for bound in plain["bounds"]] == ["rate", "Bayes"]
    assert {bound["name"] for bound in noisy["bounds"]} >= {"van Trees", "two-point", "Fano"}
    for row in rows:
        for bound in row["bounds"]:
            assert bound["kind"] in ("certified", "estimated") and bound["assumptions"]


@pytest.mark.slow
def test_of_rounded_features_the_entropy_counts_and_not_the_bits_alone(study):
    defended = (
        *("quantize:2", "quantize@input:2", "nopeek+quantize:1+2", "gaussian:1"),
        *("gaussian+quantize:.1+2", "quantize+dropout:2+.5", "quantize+gaussian:2+0"),
    )
    rows = study(defense=defended)["choices"]
    told = {
        (row["defense"]["kind"], row["defense"]["site"]): [
            bound for bound in row["bounds"] if bound["name"] == "rate"
        ]
        for row in rows
        if row["split"] == "conv"
    }
    certified, estimated = told["quantize", "feature"]
    assert (certified["kind"], estimated["kind"]) == ("certified", "estimated")
    assert estimated["dithered"] and "2 images" in estimated["assumptions"]
    size = 12 * 12
    bits = [
        size / 2 * np.log2(bounds.DITHER**2 * 10 ** (bound["value"] / 10))
        for bound in (certified, estimated)
    ]
    assert bits[0] == pytest.approx(8 * costs.sent_bytes((6, 6, 2), QUANTIZED))
    assert 64 < bits[1] < 0.9 * bits[0]  # at least the range
    # What is rounded last is few values, be there noise before it; not those of another edge.
    counted = {kind for (kind, site), found in told.items() if len(found) == 2}
    assert counted == {"quantize", "gaussian+quantize", "quantize+gaussian"}
    assert len(told["quantize", "input"]) == 1


def test_bounds_on_the_target_are_not_of_an_edge_that_was_trained_on(study, monkeypatch):
    rows = study(defense=("gaussian:1", "gaussian+nopeek:1+1", "gaussian+nopeek@input+feature:1+1"))
    names = {
        (row["defense"]["kind"], row["defense"]["site"]): [bound["name"] for bound in row["bounds"]]
        for row in rows["choices"]
        if row["split"] == "relu"
    }
    assert "Fano" in names["gaussian", "feature"]
    assert names["gaussian+nopeek", "feature"] == ["rate"]
    assert "Fano" in names["gaussian+nopeek", "input+feature"]  # of the image, whatever the edge
    # A cloud that is trained on leaves the edge as it is.
    attacks = PartitionConfig.attacks
    trained = {"retrain": "cloud"}
    monkeypatch.setattr(
        PartitionConfig, "attacks", lambda own, **more: attacks(own, **trained, **more)
    )
    rows = study(defense=("gaussian:1",))["choices"]
    assert "Fano" in {bound["name"] for bound in rows[2]["bounds"]}


@pytest.mark.slow
def test_a_codebook_is_bounded_by_the_number_of_its_releases(study, scene, monkeypatch):
    one = scene._replace(cuts=["fc"]).on("choice", scene.dataset)
    monkeypatch.setattr(runs, "load", lambda config, plan: one)
    record = study(defense=("none", "codebook:2"))
    (row,) = (row for row in record["choices"] if row["defense"]["kind"] == "codebook")
    (reid,) = (bound for bound in row["bounds"] if bound["quantity"] == "reid")
    assert reid["name"] == "counting" and reid["kind"] == "certified"
    assert reid["value"] == pytest.approx(4 / IMAGES) and row["sent_bytes"] == 1
    assert {"rate", "counting"} == {bound["name"] for bound in row["bounds"]}
    assert record["certain"][0]["code_bits"] == 2
    assert "codebook of 2 bits or fewer it is at most 10% for certain" in table.summary(record)
    record["certain"][0]["code_bits"] = 1
    assert "codebook of one bit it is at most 10% for certain" in table.summary(record)


@pytest.mark.slow
def test_what_is_certified_holds_where_attackers_learned_from_few(plain, scene, monkeypatch):
    one = scene._replace(cuts=["relu"]).on("choice", scene.dataset)
    monkeypatch.setattr(runs, "load", lambda config, plan: one)
    plain.leaks = lambda record: {"surrogate_images": 20, "reid_top1": 0.02}
    asked = {"defense": ("none", "codebook:2"), "min_accuracy": 0.5}
    record = plain(**asked, max_reid=0.1)
    coded, plainly = record["choices"][1:-1]
    assert coded["defense"]["kind"] == "codebook"
    assert plainly["certified_reid"] is None and "few_surrogates" in plainly["undecided"]
    assert coded["certified_reid"] == pytest.approx(4 / IMAGES) and coded["few_surrogates"]
    assert record["recommendation_split"] == 1 and coded["test_images"] == "report"
    assert (coded["effort"], coded["verdict"], coded["undecided"]) == ("full", "holds", [])
    said, limited = table.summary(record), table.table(record).splitlines()[-3:-1]
    assert "certified that no attacker re-identifies more than 6.7% of 1,000 candidates" in said
    assert "prove nothing: one had fewer than 1,000 images to learn from." in said
    assert limited[0].endswith("  ok but few_surrogates")
    assert "no limit is shown to hold, but for those that are certified" in " ".join(
        table.table(record).split()
    )
    for changes in ({"max_reid": 0.06}, {"max_reid": 0.1, "max_ssim": 0.9}):
        assert plain(**asked, **changes)["recommendation_split"] is None
    several = plain(**asked, max_reid=0.1, releases=3)
    assert several["choices"][1]["certified_reid"] == pytest.approx(4 / IMAGES)  # all are alike
    noisy = plain(**{**asked, "defense": ("codebook+gaussian:2+1",)}, max_reid=0.1, releases=3)
    assert noisy["choices"][1]["certified_reid"] is None


def test_noise_that_is_certain_is_found_for_every_cut(study):
    certain = study()["certain"]
    assert [one["split"] for one in certain] == list(NETWORK.cuts)
    for one in certain:
        assert one["sigma"] > 0 and 0 <= one["accuracy"] <= 1
        # Simulations tell of less noise, at which the best attacker finds so many.
        assert 0 < one["bayes_sigma"] < one["sigma"] and 0 <= one["bayes_accuracy"] <= 1
        low, high = one["bayes_reid_ci"]
        assert low < one["bayes_reid"] <= SAFE_REID < high


@pytest.mark.slow
def test_the_bayes_rate_is_simulated_at_every_choice_and_shown(study):
    """It is nowhere above what is certified, but for its interval."""
    record = study(defense=("none", "gaussian:1", "laplace:2", "gaussian@input:1"))
    told = table.table(record)
    for row in record["choices"][1:-1]:
        found = {bound["name"]: bound for bound in row["bounds"] if bound["quantity"] == "reid"}
        if row["defense"]["site"] == "input":
            assert "Bayes" not in found
            continue
        bayes, fano = found["Bayes"], found.get("Fano", {"value": None})
        low, high = bayes["ci"]
        assert bayes["kind"] == "estimated" and 0 < low <= bayes["value"] <= high <= 1
        assert fano["value"] is None or low <= fano["value"]
        assert f"{bayes['value']:.1%}" in told
    assert "Bayes [95%]" in told and "Bayes rate is 10% (estimated): conv " in table.summary(record)


# --- What is known already ------------------------------------------------------------------------


def test_a_finished_study_is_read(study, monkeypatch):
    before = study()
    monkeypatch.setattr(bounds, "evaluate", None)
    assert study() == before


def test_another_question_about_the_same_attacks_measures_no_bound_anew(study, monkeypatch):
    before = study()
    monkeypatch.setattr(bounds, "evaluate", None)
    monkeypatch.setattr(bounds, "reid_sigma", None)
    after = study(min_accuracy=0.1, profile="microcontroller")
    assert after["path"] != before["path"]
    assert [row["bounds"] for row in after["choices"]] == [
        row["bounds"] for row in before["choices"]
    ]


def test_an_edge_that_was_timed_elsewhere_takes_that_time(study, tmp_path, monkeypatch):
    no_bounds = lambda config, scene, options, prices: ([[] for _ in options], [])  # noqa: E731
    monkeypatch.setattr(limits, "of_options", no_bounds)
    file = tmp_path / "times.csv"
    file.write_text("cut,seconds\nconv,0.25\nrelu,0.5\nfc,2\n")
    settings = {"defense": ("none",), "profile": f"{file}@phone-lte"}
    before = study(**settings)
    assert [row["edge_s"] for row in before["choices"]] == [0, 0.25, 0.5, 2, 2]
    assert before["profile"]["tail_s"] > 10
    assert "On times.csv@phone-lte (edge timed elsewhere" in table.table(before)
    assert "2,000" in table.table(before)  # ms
    file.write_text(file.read_text("utf-8").replace("2\n", "3\n"))
    after = study(**settings)
    assert after["path"] != before["path"] and after["choices"][-1]["edge_s"] == 3
    file.write_text("cut,seconds\nconv,0.25\n")
    with pytest.raises(UsageError, match="cut relu is missing"):
        study(**settings)


def test_attacks_of_other_scripts_on_the_same_release_count(study, scene):
    def write(name, experiment="whitebox", **changes):
        given = {"ssim_mean": 0.99, "ssim_ci": [0.94, 1.0], "experiment": experiment, **changes}
        if experiment == "whitebox":
            given["threat_model"] = None
        record = record_of(scene, "relu", NONE.describe(), method="map", **given)
        records.write(study.workdir / experiment / name, record, images=None)

    write("counts", ssim_mean=0.95, ssim_ci=[0.94, 0.96], code="of an old attacker")
    write("fewer-images", num_images=4)
    write("four-releases", releases=4)
    write("retrained", retrain="both")
    write("another-target", target={"fingerprint": "d"})
    write("no-target", target=None)
    write("by-other-code", "defenses", code="of other code")
    write("no-reid", reid_top1=None, reid_ci=[None, None])  # as before it was measured
    row = next(row for row in study(max_reid=0)["choices"] if row["split"] == "relu")
    assert row["ssim_mean"] == 0.95
    assert row["attacker"] == {"threat_model": "whitebox", "method": "map"}
    assert len(row["attacks"]) == 3  # and that on the noisy release


def test_plain_features_are_no_safer_than_what_can_be_made_of_them(plain, monkeypatch):
    """An attacker who adds the noise finds without it all that is found behind it."""
    attack = defended_run.run_one

    def stronger_behind_noise(config, scene, attacker, number):
        record = attack(config, scene, attacker, number)
        if record["defense"]["level"] and record["defense"]["site"] == "feature":
            record |= {"reid_top1": 0.95, "reid": 0.95, "reid_ci": [0.9, 1.0]}
        return record

    monkeypatch.setattr(defended_run, "run_one", stronger_behind_noise)
    rows = plain(defense=("none", "gaussian:1", "dropout@input:.5"), max_reid=0)["choices"]
    found = {(row["split"], row["defense"]["kind"]): row["reid"] for row in rows}
    for cut in NETWORK.cuts:
        assert found[cut, "none"] == found[cut, "gaussian"] == 0.95
        assert found[cut, "dropout"] < 0.95


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["[", "{}", "[1]", '[{"value": 3}]', "null", "[" * 100_000])
def test_a_damaged_bound_is_measured_anew(study, damage):
    before = study()
    learned = study.workdir / "learned"
    kept = [*learned.glob("*-bounds.json"), *learned.glob("*-certain.json")]
    assert {path.stem.rpartition("-")[2] for path in kept} == {"bounds", "certain"}
    texts = [path.read_text("utf-8") for path in kept]
    for path in kept:
        path.write_text(damage)
    after = study(prefer="energy")
    for key in ("bounds", "psnr_of_mean"):
        assert [row[key] for row in after["choices"]] == [row[key] for row in before["choices"]]
    assert after["certain"] == before["certain"]
    assert [path.read_text("utf-8") for path in kept] == texts
    assert {path.with_name(f"{path.name}.corrupt-1").read_text("utf-8") for path in kept} == {
        damage
    }


def test_run_again_bounds_are_measured_again(study):
    before = study()
    for path in (study.workdir / "learned").glob("*-bounds.json"):
        told = [{**bound, "value": 1.25} for bound in json.loads(path.read_text("utf-8"))]
        path.write_text(json.dumps(told))
    after = study(rerun=True)
    assert [row["bounds"] for row in after["choices"]] == [
        row["bounds"] for row in before["choices"]
    ]


def test_bounds_are_sampled_often_enough(study):
    texts = [
        bound["assumptions"]
        for row in study()["choices"]
        for bound in row["bounds"]
        if bound["name"] == "van Trees" and bound["kind"] == "estimated"
    ]
    assert texts and all("2 images and 8 dithers of each" in text for text in texts)


def test_what_is_beside_bounds_is_the_psnr_of_the_mean_error(study, monkeypatch):
    """One image that is nearly exact adds much to the mean PSNR, and nothing to the error."""
    attack = defended_run.run_one

    def uneven(config, scene, attacker, number):
        record = attack(config, scene, attacker, number)
        blackbox = record["threat_model"] == "blackbox"
        told = [0.1, 0.1, 0.1, None if blackbox else 1e-8, 0.075]
        return {**record, "mse": told * (IMAGES // 5), "psnr_mean": 27.5}

    monkeypatch.setattr(defended_run, "run_one", uneven)
    whole, row, *_, nothing = study(threat_model=("whitebox", "blackbox"))["choices"]
    assert row["psnr_mean"] == 27.5
    assert row["psnr_of_mean"] == pytest.approx(11.249, abs=1e-3)
    # Of what diverged there is no error.
    told = {attack["threat_model"]: attack["psnr_of_mean"] for attack in row["attacks"]}
    assert told == {"whitebox": row["psnr_of_mean"], "blackbox": None}
    assert whole["psnr_of_mean"] == 100 and nothing["psnr_of_mean"] is None


def test_every_attacker_attacks_a_choice_that_breaks_no_limit(plain, monkeypatch):
    monkeypatch.setattr(studies, "settle", lambda *args: None)
    plain(threat_model=("blackbox", "whitebox"), attacker=("paper", "adaptive"), min_accuracy=0)
    expected = {
        (cut, kind, threat, method, options.SCREENING["fit_steps"], "choice", 1)
        for cut in NETWORK.cuts
        for kind in ("none", "gaussian")
        for threat in ("whitebox", "blackbox")
        for method in ("paper", "adaptive")
    }
    assert set(plain.attacked) == expected and len(plain.attacked) == len(expected)


def test_who_knows_less_attacks_no_choice_that_is_broken_but_the_one_that_advice_is_about(plain):
    record = plain(threat_model=("blackbox", "whitebox"), max_latency_ms=1e-9)
    found = [(one.cut, one.kind, one.threat) for one in plain.attacked]
    first = [(cut, kind, "whitebox") for cut in NETWORK.cuts for kind in ("none", "gaussian")]
    assert sorted(found) == sorted([*first, ("fc", "none", "blackbox")])
    (black,) = (one for one in record["advice"]["threats"] if one["threat_model"] == "blackbox")
    assert black["num_images"] > 0  # it attacked
    assert [one["threat_model"] for one in record["choices"][2]["attacks"]] == ["whitebox"]


def test_what_needs_no_attack_may_be_all_that_is_recommended(plain):
    record = plain(max_reid=1e-9)
    assert record["choices"][record["recommendation"]]["split"] == "edge-only"
    assert record["recommendation_split"] is None


def test_who_is_asked_for_alone_attacks_every_choice(plain):
    plain(threat_model=("queryfree",), max_latency_ms=1e-9)
    found = [(one.cut, one.kind, one.threat) for one in plain.attacked]
    every = [(cut, kind, "queryfree") for cut in NETWORK.cuts for kind in ("none", "gaussian")]
    assert sorted(found) == sorted(every)


# --- Everything -----------------------------------------------------------------------------------


def test_what_is_recommended_was_attacked_with_everything(plain):
    record = plain(min_accuracy=0.5, max_ssim=0.7)
    rows = record["choices"]
    split = rows[record["recommendation_split"]]
    assert (split["split"], split["defense"]["kind"], split["effort"]) == (
        "relu",
        "gaussian",
        "full",
    )
    assert with_everything(plain) == {("relu", "gaussian")}
    told = {(one["threat_model"], one["method"]) for one in split["attacks"]}
    assert told == {(t, m) for t in ("whitebox", "blackbox", "queryfree") for m in METHODS}
    assert [row["effort"] for row in rows].count("full") == 3  # the two that cut nothing
    assert record["effort"] == "screen" and record["releases"] == 1
    assert record["threat_models"] == ["whitebox", "blackbox", "queryfree"]
    lines = table.table(record).splitlines()
    of_choices = [cells for cells in map(str.split, lines) if cells and cells[0] in CHOICES]
    assert len(of_choices) == 3 * len(rows)  # what is found, what bounds it, what it costs
    assert [cells.count("screen") for cells in of_choices[: len(rows)]] == [
        int(row["effort"] == "screen") for row in rows
    ]
    header, *below = lines[-len(rows) - 1 :]
    assert {line[header.index("limits") - 2 : header.index("limits")] for line in below} == {"  "}
    long = {**rows[-1], "split": "stage1.block3.relu"}
    wide_header, *_, wide = table.table({**record, "choices": [*rows, long]}).splitlines()[
        -len(rows) - 2 :
    ]
    assert wide[wide_header.index("usable") :] == below[-1][header.index("usable") :]
    assert "everything that attacked images that no choice has seen" in table.summary(record)


def test_only_what_was_attacked_with_everything_is_green(plain, monkeypatch):
    record = plain(min_accuracy=0.5, max_ssim=0.7)
    rows = record["choices"]
    undecided = {**rows[0], "undecided": ["max_ssim"], "images_needed": {}, "fails": []}
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR")
    header, *below = table.table({**record, "choices": [*rows, undecided]}).splitlines()[
        -len(rows) - 2 :
    ]
    assert header.startswith("\x1b[1msplit")
    told = [line.partition("m")[0].removeprefix("\x1b[") for line in below]
    best = {record["recommendation"], record["recommendation_split"]}
    assert {place for place, style in enumerate(told) if style == "1;32"} == best
    for row, style in zip(rows, told, strict=False):
        assert (style == "31") == bool(row["fails"])
    screened = [
        (row["undecided"], row["images_needed"], style)
        for row, style in zip(rows, told, strict=False)
        if row["effort"] == "screen" and not row["fails"]
    ]
    assert screened and all(each == (["max_ssim"], {"max_ssim": None}, "33") for each in screened)
    assert told[-1] == "33"


METHODS = ("paper", "adaptive", "mean")
CHOICES = ("cloud-only", *NETWORK.cuts, "edge-only")


def test_what_everything_breaks_is_replaced_by_the_next(plain, capsys):
    def leaks(record):
        broken = record["split"] == "relu" and record["threat_model"] == "blackbox"
        return {"ssim_mean": 0.95, "ssim_ci": [0.9, 1.0]} if broken else {}

    plain.leaks = leaks
    record = plain(min_accuracy=0.5, max_ssim=0.7, fit_steps=3)
    rows = record["choices"]
    split = rows[record["recommendation_split"]]
    assert (split["split"], split["defense"]["kind"], split["effort"]) == (
        "conv",
        "gaussian",
        "full",
    )
    broken = next(row for row in rows if row["ssim_mean"] == 0.95 and row["defense"]["level"])
    assert (broken["split"], broken["effort"]) == ("relu", "screen")
    assert broken["fails"] == ["max_ssim"] and not broken["meets"]
    assert with_everything(plain) == {("relu", "gaussian"), ("conv", "gaussian")}
    # It is not attacked any further.
    after = [one for one in plain.attacked if (one.cut, one.kind) == ("relu", "gaussian")]
    assert len(after) < 9
    said = capsys.readouterr().out
    assert "relu with gaussian 1 would be recommended if the cloud is to compute" in said
    assert "relu with gaussian 1 is no longer recommended if" in said and "(max_ssim)" in said
    assert "conv with gaussian 1 was attacked with everything." in said
    # Also those that are runs of the screening, for want of other settings.
    told = [line.split()[4:6] for line in said.splitlines() if line.startswith("  conv with")]
    assert len({*map(tuple, told)}) == len(told) == 9


def test_what_leaks_more_under_everything_gives_way_to_what_leaks_less(plain):
    """Nothing is broken: the choice is made again by what is known then."""

    def leaks(record):
        more = record["split"] == "relu" and record["method"] == "paper"
        return {"ssim_mean": 0.5, "ssim_ci": [0.45, 0.55]} if more else {}

    plain.leaks = leaks
    record = plain(min_accuracy=0.5, max_ssim=0.7)
    split = record["choices"][record["recommendation_split"]]
    assert (split["split"], split["ssim_mean"], split["effort"]) == ("conv", 0.45, "full")


def test_images_that_are_sorted_by_class_have_no_halves(scene, monkeypatch):
    test = scene.dataset.test
    ordered = data.Samples(test.pixels, np.sort(test.labels))
    dataset = dataclasses.replace(scene.dataset, test=ordered)
    planned = runs.Plan(dataset, Model("ours", NETWORK), list(NETWORK.cuts))
    monkeypatch.setattr(runs, "plan", lambda config, dataset: planned)
    with pytest.raises(UserError, match="random: its 120 test images are sorted by class"):
        studies.prepare(PartitionConfig())
    one = data.Samples(test.pixels, np.zeros_like(test.labels))
    order.check(dataclasses.replace(scene.dataset, test=one))
    order.check(scene.dataset)


def test_what_is_safe_on_the_images_it_was_chosen_by_alone_is_not_recommended(plain):
    """An attack breaks relu on report images, and finds nothing new on choice images."""

    def leaks(record):
        fresh = record["test_images"] == "report" and record["split"] == "relu"
        return {"ssim_mean": 0.95, "ssim_ci": [0.9, 1.0]} if fresh else {}

    plain.leaks = leaks
    record = plain(min_accuracy=0.5, max_ssim=0.7)
    rows = {(row["split"], row["defense"]["kind"]): row for row in record["choices"]}
    split = record["choices"][record["recommendation_split"]]
    assert (split["split"], split["defense"]["kind"]) == ("conv", "gaussian")
    # Its figures are those of the images that it was not chosen by.
    told = [one.half for one in plain.attacked if (one.cut, one.kind) == ("conv", "gaussian")]
    assert told[0] == "choice" and set(told[1:]) == {"report"}
    assert split["test_images"] == "report" and len(split["attacks"]) == 9 == len(told) - 1
    broken, untried = rows["relu", "gaussian"], rows["fc", "gaussian"]
    assert (broken["test_images"], broken["fails"]) == ("report", ["max_ssim"])
    assert (untried["test_images"], untried["effort"]) == ("choice", "screen")
    # Each that was tried counts: the first, edge-only beside it, and the second.
    tried = [broken, rows["edge-only", "none"], split]
    spent = [0.05 / 2, 0.05 / 6, 0.05 / 12]
    assert [1 - row["confidence"] for row in tried] == pytest.approx(spent)
    assert untried["confidence"] == 0.95
    scores = Score(tuple(fake_runs.scores(IMAGES, 0.45, [0.4, 0.5], 1.0)))
    assert split["ssim_ci"][1] == pytest.approx(scores.interval(1 - spent[-1]).high)
    assert "(intervals of 99.58%)" in table.summary(record)


def test_trials_are_counted_over_the_studies_of_a_work_folder(plain):
    """Whoever has seen a study and asks for another choice selects by the same report images."""

    def sure(**changes):
        rows = plain(min_accuracy=0.5, max_ssim=0.7, **changes)["choices"]
        return [1 - row["confidence"] for row in rows if row["test_images"] == "report"]

    first = sure()
    assert sorted(first) == pytest.approx([0.05 / 6, 0.05 / 2])
    assert sorted(sure(defense=("none", "gaussian:2"))) == pytest.approx([0.05 / 12, 0.05 / 6])
    assert sure() == first  # the same choices on the same images
    assert min(sure(num_images=4)) == pytest.approx(0.05 / 30)  # others of them


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b'["a", ', "is damaged"),
        (b"{}", "is damaged"),
        (b'["a"]', "has 1 of 2 choices"),
        (None, "has 0 of 2 choices"),
    ],
)
def test_a_list_of_trials_that_is_damaged_or_lost_counts_nothing_anew(plain, content, why):
    plain(min_accuracy=0.5, max_ssim=0.7)
    (path,) = (plain.workdir / "learned").glob("trials-*.json")
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    made = plain.made
    for _ in range(2):
        with pytest.raises(UserError, match=f"trials-.*json {why}. It counts the choices"):
            plain(min_accuracy=0.5, max_ssim=0.7, defense=("none", "gaussian:2"))
    assert plain.made == made and path.exists() == (content is not None)


def test_with_few_images_to_learn_from_no_limit_is_shown_to_hold(plain):
    plain.leaks = lambda record: {"surrogate_images": 20}
    record = plain(min_accuracy=0.5, max_ssim=0.7)
    assert record["recommendation_split"] is None
    assert "had fewer than 1,000 images to learn from" in record["reason_split"]
    row = record["choices"][1]
    assert row["surrogate_images"] == 20 and "few_surrogates" in row["undecided"]
    found, _, costs = (
        line
        for line in table.table(record).splitlines()
        if line.split()[:2] == ["conv", "gaussian"]
    )
    assert " 20  " in found and "few_surrogates?" in costs


def test_attackers_who_may_come_spoil_nothing_yet(plain):
    """The first attack on report images is dead, and another of its threat model is not."""
    plain.leaks = lambda record: {"dead": 5 * (record["method"] == "adaptive")}
    record = plain(min_accuracy=0.5, max_ssim=0.7, attacker=("paper",))
    split = record["choices"][record["recommendation_split"]]
    assert (split["split"], split["effort"], split["dead"]) == ("relu", "full", False)


def test_who_sees_several_releases_attacks_one_alone_too(plain):
    plain(min_accuracy=0.5, max_ssim=0.7, releases=3)
    siege = [one for one in plain.attacked if one.half == "report"]
    assert {one.kind for one in siege} == {"gaussian"} and len(siege) == 2 * 9
    assert sorted(one.releases for one in siege) == [1] * 9 + [3] * 9
    assert {one.releases for one in plain.attacked if one.half == "choice"} == {3}


def test_with_full_effort_everything_attacks_every_choice(plain):
    record = plain(effort="full")
    assert {row["effort"] for row in record["choices"]} == {"full"}
    assert with_everything(plain) == {
        (cut, kind) for cut in NETWORK.cuts for kind in ("none", "gaussian")
    }
    hybrid = {one for one in plain.attacked if one.method == "hybrid" and one.half == "choice"}
    assert {one.kind for one in hybrid} == {"none"} and len(hybrid) == 3


def test_a_study_that_was_killed_goes_on(plain):
    settings = {"min_accuracy": 0.5, "max_ssim": 0.7}
    plain.killed_after = 9  # six screen
    with pytest.raises(KeyboardInterrupt):
        plain(**settings)
    plain.killed_after = None
    record = plain(**settings)
    assert plain.made == len(set(plain.attacked)) == 6 + 9
    assert record["choices"][record["recommendation_split"]]["effort"] == "full"
    assert plain(**settings) == record


def test_an_attack_that_fails_is_left(monkeypatch):
    def fail():
        raise UserError("a full disk")

    planned = {"whitebox": [everything.Planned("whitebox", "map", fail)]}
    monkeypatch.setattr(attacks, "everything", lambda *_: planned)
    siege, option = attacks.Siege(None, None), options.Option(None, 0)
    with pytest.raises(UserError, match="a full disk"):
        siege.advance([option])
    assert siege.left(option) == 1 and not siege.is_over(option)


def test_a_run_that_is_made_again_takes_the_place_of_the_earlier_one():
    option = options.Option(None, 0)
    for name, reid in (("a", 0.1), ("b", 0.2), ("a", 0.9)):
        record = typed(fake_runs.attack_fields(reid_top1=reid))
        record.config_hash = name
        option.add(record)
    assert [each.reid_top1 for each in option.attacks] == [0.9, 0.2]


@pytest.mark.parametrize(
    "threat_model, expected",
    [
        (("queryfree", "whitebox"), ["whitebox", "blackbox", "queryfree"]),
        (("blackbox",), ["blackbox", "queryfree"]),
        (("queryfree",), ["queryfree"]),
    ],
)
def test_who_knows_more_than_is_asked_for_does_not_attack(plain, threat_model, expected):
    record = plain(threat_model=threat_model, min_accuracy=0.5)
    assert record["threat_models"] == expected
    assert {threat for _, _, threat, *_ in plain.attacked} == set(expected)


def test_of_several_releases_those_who_see_fewer_count_and_no_bound_on_one(study, scene):
    noisy = {"kind": "gaussian", "site": "feature", "level": 1.0, "grid": 2.0**-6}
    for number in (1, 3, 4):
        record = record_of(scene, "relu", noisy, releases=number, code=code_of(), fit_s=number)
        records.write(study.workdir / "defenses" / str(number), record, images=None)
    found = study(releases=3, max_reid=0, min_accuracy=0.5, defense=("none", "gaussian:1"))
    row = next(row for row in found["choices"] if row["defense"]["kind"] == "gaussian")
    rows = {(row["split"], row["defense"]["kind"]): row for row in found["choices"]}
    row = rows["relu", "gaussian"]
    counted = [one for one in row["attacks"] if one["path"].split("/")[1] in "134"]
    assert len(counted) == 2 and found["releases"] == 3
    assert not row["bounds"] and rows["relu", "none"]["bounds"] and not found["certain"]
    assert "for certain" not in table.summary(found)


def code_of():
    return runs.code_of(*defended_run.decided_by("whitebox", "adaptive"))


@pytest.mark.slow
def test_the_attacks_are_those_of_the_registry_and_are_made_by_their_experiments(scene, tmp_path):
    """Made for real by those who answer the mean."""
    config = PartitionConfig(workdir=str(tmp_path), num_images=5, defense=("none", "gaussian:1"))
    (choice,) = options.choices(config)
    deployment = attacks.Deployment(config.screening, scene, "relu", choice)
    for number, several in enumerate(({"map", "hybrid", "tv"}, set())):
        option = options.Option(deployment, number)
        planned = everything.everything(config, scene, option)
        assert list(planned) == ["whitebox", "blackbox", "queryfree"]
        methods = [one.method for one in planned["whitebox"]]
        assert set(methods) == {"adaptive", "paper", "mean"} | several
        assert methods[:2] == ["mean", "adaptive"]
        assert ("strong" in [one.method for one in planned["queryfree"]]) == bool(several)
        record = planned["whitebox"][0].make()
        assert record["experiment"] == ("whitebox" if several else "defenses")
        assert record["defense"]["level"] == number and record["num_images"] == 5
        again = planned["whitebox"][0].make()
        assert again == record


# --- The script -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_script_recommends_and_its_record_is_read_again(scripts, few):
    flags = ("--split=pool2", "--defense=none,gaussian:2", "--fit_steps=5", "--max_reid=.1", *few)
    done = scripts.here("partition", *flags)
    assert done.returncode == 0, done.stderr
    path = scripts.folder / done.stdout.splitlines()[-1]
    record = json.loads(path.read_text("utf-8"))
    assert (record["kind"], record["cuts"]) == ("partition", list(lenet5().cuts))
    assert [row["split"] for row in record["choices"]] == [
        "cloud-only",
        "pool2",
        "pool2",
        "edge-only",
    ]
    for row in record["choices"][1:3]:
        own = {attack["threat_model"] for attack in row["attacks"]}
        assert "whitebox" in own and own <= {"whitebox", "blackbox"}  # others where that broke none
        for attack in row["attacks"]:
            assert (scripts.folder / "results" / attack["path"]).is_file()
    said = done.stdout
    assert "Recommendation: edge-only" in said
    assert "strongest attacker that was run" in said and "dB of MSE" in said
    assert "If the cloud is to compute some layers: none." in said
    assert "choices whose 95% intervals overlap may change places" in said
    assert "phone-wifi" in said and "min_accuracy" in said and "cloud-only" in said
    # Another profile asks no attack anew, and what nothing meets is said.
    more = ("--profile=this@microcontroller", "--max_latency_ms=0.001")
    again = scripts.here("partition", *flags, *more)
    assert again.returncode == 0, again.stderr
    assert "No choice meets max_latency_ms=0.001;" in again.stdout
    assert "On this@microcontroller (edge timed on this machine (" in again.stdout
    (kept,) = scripts.folder.glob("results/learned/times-*.json")
    assert list(json.loads(kept.read_text("utf-8"))) == list(lenet5().cuts)
    made = {attack["path"] for row in record["choices"] for attack in row["attacks"]}
    assert len([*scripts.folder.glob("results/defenses/*/record.json")]) == len(made)


@pytest.mark.parametrize(
    "flags, status, told",
    [
        (["--defense=blur:1"], 2, "--defense=blur"),
        (["--profile=toaster"], 2, "--profile=toaster"),
        (["--max_ssim=nan"], 2, "max_ssim"),
        (["--max_ssim=1.1"], 2, "max_ssim"),
        (["--min_accuracy=99"], 2, "min_accuracy"),
        (["--max_reid=50"], 2, "max_reid"),
        (["--prefer=beauty"], 2, "--prefer"),
    ],
)
def test_a_mistake_gets_one_line(scripts, flags, status, told):
    found, said = scripts.answer("partition", *flags)
    assert found == status
    (line,) = said.splitlines()
    assert told in line
