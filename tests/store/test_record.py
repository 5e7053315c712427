"""Records as types: what is read, what is refused, and what older versions left."""

import json

import fake_runs
import pytest

from jaxinv.measures import verdicts
from jaxinv.measures.leaks import REID
from jaxinv.store import record, records
from jaxinv.store.fields import UNKNOWN, RecordedDefense
from jaxinv.store.record import SCHEMA, VersionError, typed
from jaxinv.store.strict import loads

OLD = {
    "whitebox": ("split", "attack", record.AttackRecord),
    "defenses": ("split", "attack", record.AttackRecord),
    "mine": ("split", "attack", record.AttackRecord),
    "partition": ("choices", "partition", record.PartitionRecord),
    "fake": (None, "fake", record.Record),
}
HOSTILE = "a\x00b\x01\x1b[2J\u2028c\u2029\u202e\r\nd\ufeff"


def old(experiment="whitebox", **values):
    """A record of an attack as there were before records had a schema."""
    new = {"kind", "schema", "code", "cuts", "mse"}
    found = fake_runs.attack_fields(experiment, **values)
    return {key: value for key, value in found.items() if key not in new}


def test_a_record_is_what_its_kind_says_and_not_what_its_keys_are_like():
    fields = fake_runs.attack_fields()
    assert type(typed(fields)) is record.AttackRecord
    assert type(typed({**fields, "kind": "benchmark"})) is record.BenchmarkRecord
    assert type(typed({**fields, "kind": "of tomorrow"})) is record.Record
    with pytest.raises(ValueError, match="kind"):
        typed({key: value for key, value in fields.items() if key != "kind"})


def test_an_attack_has_its_values_typed():
    found = typed(
        fake_runs.attack_fields(
            "defenses", threat_model="blackbox", paper={"psnr": 15.1, "ssim": 0.6}, mine=[1]
        ),
        "somewhere/record.json",
    )
    assert (found.threat, found.paper.psnr, found.path) == (
        "blackbox",
        15.1,
        "somewhere/record.json",
    )
    assert found.defense == RecordedDefense("none", "feature", 0.0) and found.defense.is_none
    assert found.cuts[:2] == ["conv1", "relu1"] and len(found.psnr) == 200
    assert found.fields["mine"] == [1]
    assert typed(fake_runs.attack_fields("queryfree")).threat == "queryfree"


@pytest.mark.parametrize(
    ("mse", "expected"),
    [([0.01, 0.03], 16.9897), ([0.0, 0.0], 100.0), ([0.01, None], None), ([], None)],
)
def test_the_psnr_of_the_mean_error_is_that_of_squared_errors(mse, expected):
    per_image = {"num_images": len(mse), "psnr": [20.0] * len(mse), "ssim": [0.5] * len(mse)}
    found = typed(fake_runs.attack_fields(mse=mse, **per_image)).psnr_of_mean
    assert found == (expected if expected is None else pytest.approx(expected, abs=1e-4))


def test_records_without_a_schema_are_read(tmp_path, capsys):
    for experiment, (key, kind, cls) in OLD.items():
        fields = old(experiment)
        if experiment == "partition":
            continue
        if key is None:
            del fields["split"]
        found = typed(fields)
        assert (type(found), found.kind, found.schema) == (cls, kind, 0)
        assert (found.code, found.cuts) == (None, [])
    found = typed(old(psnr=[20.0, None, 10], ssim=[None] * 3, num_images=3))
    assert found.mse == [pytest.approx(0.01), None, pytest.approx(0.1)]
    assert (
        typed(old(psnr=[-1e30], ssim=[0.0], num_images=1)).psnr_of_mean is not None
    )  # and no overflow
    before = old()
    del before["reid_top1"], before["reid_ci"]
    assert typed(before).reid_ci == UNKNOWN and not typed(before).is_measured


@pytest.mark.parametrize("schema", [None, 1])
def test_records_from_before_linkage_by_the_release_say_nothing_of_it(tmp_path, schema):
    """Their interval was of the share that reconstructions tell, which is no verdict."""
    before = {**old(), "reid_top1": 0.0, "reid_ci": [0.0, 0.05]}
    before |= {} if schema is None else {"schema": schema, "kind": "attack"}
    found = typed({key: before[key] for key in before if key not in ("reid", "reid_top1_ci")})
    assert (found.reid_top1, found.reid_top1_ci) == (0.0, (0.0, 0.05))
    assert (found.reid, found.reid_ci) == (None, UNKNOWN)
    assert verdicts.kept([found], REID, 0.1) == "undecided"
    chosen = fake_runs.partition(tmp_path, [fake_runs.choice("conv1")], folder="new")
    without = {key: value for key, value in chosen.items() if key != "schema"}
    with pytest.raises(VersionError, match="did not compare releases"):
        typed({**without, **({} if schema is None else {"schema": schema})})


def test_intervals_of_older_versions_that_miss_rare_leaks_are_not_read(tmp_path):
    """Scores are, so that limits can be judged anew; a recommendation by such intervals is not."""
    usable = {"kind": "cosine", "value": 0.99, "value_undefended": 1.0, "ci": [0.98, 1.0]}
    ways = {"map": fake_runs.way(0.1, ssim_ci=[0.09, 0.11])}
    found = typed({**fake_runs.attack_fields(ways=ways, usability=usable), "schema": 2})
    assert found.ssim_ci == found.ways["map"].ssim_ci == found.usability.ci == UNKNOWN
    assert found.psnr_ci != UNKNOWN and found.reid_ci != UNKNOWN and len(found.ssim) == 200
    with pytest.raises(VersionError, match="missed rare leaks"):
        typed({**fake_runs.partition(tmp_path, [fake_runs.choice("conv1")]), "schema": 2})


def written(tmp_path, fields):
    path = tmp_path / "whitebox" / "run" / "record.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(fields))
    return path


NEVER = {
    "ways": ({"map": fake_runs.way(0.1, images=199)},),
    "psnr": ([20.0] * 199, [100.5] * 200, [True] * 200),
    "ssim": ([], [1.1] * 200),
    "mse": ([0.1], [-0.1] * 200),
    "diverged": (201, -1, 0.5, False),
    "num_images": (-1, None, "200"),
    "releases": (-1, True),
    "draws": (-1,),
    "exact_fraction": (-0.1, True),
    "paper": ({"psnr": 1e5, "ssim": 0.5}, {"psnr": "12", "ssim": 0.5}, {}),
    "psnr_mean": (101.0, "12", [12.0]),
    "ssim_mean": (1.5, -2.0),
    "psnr_std": (-1.0,),
    "psnr_by_seed": ([1.0, 120.0], 3.0),
    "joint": ({"psnr_mean": 1e6, "ssim_mean": None},),
    "reid_ci": ([0.1], [-5.0, 0.5], [0.9, 99.0], ["0.1", "0.2"]),
    "accuracy_ci": ([98.0, 99.1],),
    "fit_s": (-1.0, "12 s"),
    "attack_s": (-0.1,),
    **dict.fromkeys(
        ("accuracy", "accuracy_undefended", "reid", "reid_top1", "reid_likelihood"),
        (99.1, -0.1, "0.99", True, [0.9], {}),
    ),
    **dict.fromkeys(
        ("judge_accuracy",),
        (99.1, -0.1, "0.99", True, [0.9], {}),
    ),
}
NEVER_OF_TARGETS = {"test_accuracy": (99.1, "0.99", -1, True), "num_test_images": (-1, None)}
NEVER_OF_CHOICES = {
    **{"accuracy": (99.1,), "reid": (-0.5,), "ssim_mean": (2.0,), "psnr_mean": (1e6,)},
    **{"latency_s": (-1.0,), "sent_bytes": ("many",), "accuracy_ci": ([98.0, 99.0],)},
}


def cases(values):
    return [(key, value) for key, values_ in values.items() for value in values_]


@pytest.mark.parametrize(("key", "value"), cases(NEVER))
def test_a_number_that_nothing_measures_is_no_record(key, value):
    with pytest.raises(ValueError):
        typed(json.loads(json.dumps(fake_runs.attack_fields(**{key: value}))))


@pytest.mark.parametrize(("key", "value"), cases(NEVER_OF_TARGETS))
def test_a_number_that_nothing_measures_is_no_record_of_a_target(key, value):
    fields = fake_runs.attack_fields(kind="target", test_accuracy=0.9, num_test_images=1)
    assert typed({**fields, "fingerprint": ""}).test_accuracy == 0.9
    with pytest.raises(ValueError, match=key):
        typed({**fields, "fingerprint": "", key: value})


@pytest.mark.parametrize(("key", "value"), cases(NEVER_OF_CHOICES))
def test_a_number_that_nothing_measures_is_no_choice(tmp_path, key, value):
    with pytest.raises(ValueError):
        fake_runs.partition(tmp_path, [fake_runs.choice("conv1") | {key: value}])


def test_the_limits_themselves_are_measured():
    ends = {"accuracy": 1, "reid_top1": 0.0, "psnr_mean": 100.0, "ssim_mean": 1.0000001}
    assert typed(fake_runs.attack_fields(**ends, reid_ci=[-0.1, 1.1])).accuracy == 1


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {**fake_runs.attack_fields(), "schema": SCHEMA + 1},
            f"by a newer version (schema {SCHEMA + 1})",
        ),
        ({**fake_runs.attack_fields(), "schema": 0}, "by an older version (schema 0)"),
        ({**old(), "psnr_mean": "high"}, "by an older version (Expected `float | null`, got `str`"),
    ],
)
def test_a_record_of_another_version_is_named_and_left_where_it_is(tmp_path, capsys, fields, said):
    path = written(tmp_path, fields)
    content = path.read_bytes()
    assert records.read(path.parent) is None and records.find(tmp_path) == []
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and lines[0] == lines[1]
    assert lines[0].startswith(f"{path} was written {said}")
    assert lines[0].endswith(" and is not shown.")
    assert path.read_bytes() == content


@pytest.mark.parametrize("schema", ["1", True, None, 1.5, [1]])
def test_a_schema_that_is_no_number_is_damage(schema):
    with pytest.raises(ValueError) as caught:
        typed({**fake_runs.attack_fields(), "schema": schema})
    assert not isinstance(caught.value, VersionError)


def test_text_is_made_printable_and_short():
    value = {HOSTILE: HOSTILE, "in": [HOSTILE, [HOSTILE], 1], "long": "x" * 5000}
    found = loads(json.dumps({"deep": value, "n": 1}).encode())["deep"]
    assert found.keys() == {"a b [2J c d ", "in", "long"}
    assert found["a b [2J c d "] == "a b [2J c d " and found["in"] == ["a b [2J c d "] * 1 + [
        ["a b [2J c d "],
        1,
    ]
    assert len(found["long"]) == 1000
    assert loads(json.dumps(found).encode()) == found  # once is enough
    assert loads('{"name": "Δ, naïve, 数"}'.encode()) == {"name": "Δ, naïve, 数"}


def test_numbers_that_nothing_can_measure_are_missing():
    text = b'{"a": 1e31, "b": -1e300, "c": 1e30, "d": 12, "e": 1e2, "f": %s}' % (b"9" * 40)
    assert loads(text) == {"a": None, "b": None, "c": 1e30, "d": 12, "e": 100.0, "f": None}
    for text in (b'{"a": 1e999}', b'{"a": NaN}', b'{"a": %s}' % (b"9" * 400), b"3"):
        with pytest.raises(ValueError):
            loads(text)


@pytest.mark.parametrize(
    ("kind", "level", "is_none", "words"),
    [
        ("none", 0.0, True, "undefended"),
        ("dropout", 0.0, True, "undefended"),
        ("dropout+gaussian", (0.0, 0.3), False, "dropout+gaussian 0+0.3 at the features"),
        ("nopeek", 0.0, False, "nopeek 0 at the features"),
    ],
)
def test_a_defence_in_words(kind, level, is_none, words):
    defense = RecordedDefense(kind, "feature", level)
    assert (defense.is_none, defense.words) == (is_none, words)


def test_of_means_over_several_reconstructions_no_error_is_told():
    """A mean of PSNRs is above the PSNR of the mean error."""
    fields = fake_runs.attack_fields(quality=(20.0, 0.5))
    for key in ("schema", "kind", "mse"):
        del fields[key]
    assert typed(fields).psnr_of_mean == pytest.approx(20.0, abs=1.0)
    assert typed({**fields, "draws": 2}).psnr_of_mean is None
    assert typed({**fields, "psnr_by_seed": [19.0, 21.0]}).psnr_of_mean is None
