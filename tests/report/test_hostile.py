"""Whatever text, number or name of a folder a record has, there is a page and there are figures."""

import json
import re
import typing
from html.parser import HTMLParser

import fake_runs
import msgspec
import pytest

from jaxinv import report
from jaxinv.report import page, results
from jaxinv.store.record import (
    AttackRecord,
    ConvergenceRecord,
    LeaderboardRecord,
    PartitionRecord,
    TargetRecord,
)

HOSTILE = {
    "control": "a\x00b\x01\x07\x1b[2J\x7f\x85c",
    "breaks": "a\nb\r\nc\td\u2028e\u2029f",
    "half a pair": "a\ud800b\udcffc",
    "direction": "a\u202eb\u2066c\u200b\u200f\ufeff\ufffe\U000e0001d",
    "html": "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&]]><!--",
    "markdown": "a|b`c`**d**[e](javascript:f)\\|",
    "template": "{{ 7 * 7 }}{% for x in y %}{# z #}",
    "expression": "' + datum.x + signal('y') || true //",
    "long": "x" * 5000,
    "empty": "",
    "blank": "   ",
}
_KEPT = {"kind", "experiment", "site", "config_hash"}  # which record it is, and where it lies
_NO_TEXT = {"path", "fields"}  # made by the reader
_FREE = (
    *("versions", "flags", "curves", "images_needed", "config", "numerics", "ways", "edge_times"),
    "counts",
)


def texts_of(struct, seen=()):
    """Names of the fields of a typed record that hold text, and of those of its parts."""
    found = set()
    for field in msgspec.structs.fields(struct):
        for kind in _parts(field.type):
            if kind is str:
                found.add(field.name)
            elif isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind not in seen:
                found |= texts_of(kind, (*seen, struct))
    return found - _NO_TEXT


def _parts(kind):
    inner = typing.get_args(kind)
    return [kind] if not inner else [part for each in inner for part in _parts(each)]


def spoilt(value, text, name=""):
    """A record's JSON with `text` in place of every text, the keys of free mappings among them."""
    if isinstance(value, dict):
        free = name in _FREE
        return {
            (f"{text}{key}" if free else key): spoilt(each, text, "" if free else key)
            for key, each in value.items()
        }
    if isinstance(value, list):
        return [spoilt(each, text, name) for each in value]
    return text if isinstance(value, str) and name not in _KEPT else value


def records_of_every_kind(folder):
    """Paths of records in which every text of every typed record is given."""
    told = {"code": "c", "processor": "p", "numerics": {"x64": "no"}, "flags": {"split": "relu2"}}
    told |= {"network": {"name": "a.py:b", "fingerprint": "f"}}
    usable = {"usability": {"kind": "accuracy", "value": 0.9, "ci": [0.8, 0.95]}}
    way = {"psnr_mean": 20.0, "psnr_std": 1.0, "ssim_mean": 0.5, "ssim_std": 0.1, "reid_top1": 0.5}
    own = {**told, **usable, "test_images": "report", "level_units": ["r"], "ways": {"w": way}}
    lists = {"misfit": [0.1], "levels": [1.0], "shown": [3]}
    own |= {"obstacles": {"counts": {"prior": 1}, "directions": 9, **lists}}
    fake_runs.attack(folder, folder="undefended", paper={"psnr": 0.0, "ssim": 0.0}, **own)
    fake_runs.defended(folder, folder="defended", threat_model="whitebox", **own)
    column = {"name": "a", "unit": "m", "low": 0.0, "high": 1.0}
    rows = {"inputs": {"kind": "table", "shape": [1], "columns": [column]}, **own}
    fake_runs.attack(folder, folder="rows", **rows)
    who = {"threat_model": "whitebox", "method": "adaptive", "surrogate": "same"}
    attempt = {**who, "psnr_mean": 20.0, "ssim_mean": 0.5, "reid": 0.5, "path": "a/b/c"}
    bound = {"name": "rate", "kind": "certified", "quantity": "psnr", "value": 20.0}
    unsure = {"undecided": ["max_ssim"], "images_needed": {"max_ssim": 70}, "safe": "undecided"}
    row = fake_runs.choice(
        "relu2",
        attacker=who,
        attacks=[attempt],
        bounds=[{**bound, "assumptions": "some"}],
        fails=["max_reid"],
        meets=False,
        **usable,
        **unsure,
    )
    cut = {"split": "fc1", "ssim_mean": 0.2}
    fake_runs.partition(
        folder,
        [row, fake_runs.choice("edge-only")],
        folder="study",
        reason="r",
        reason_split="r",
        threat_models=["queryfree"],
        profile={**fake_runs.PROFILE, "edge_times": {"relu2": 0.01}},
        certain=[{"split": "relu2", "sigma": 2.0, "accuracy": 0.9}],
        advice={
            **{"before": cut, "after": cut, "holds": False, "verdict": "undecided"},
            "threats": [{"threat_model": "queryfree", "verdict": "holds", "num_images": 9}],
        },
        **told,
    )
    standings = [
        fake_runs.standing(name, 0.3, 0.7, strongest=fake_runs.reconstructed(20.0, 0.7, way="w"))
        for name in ("cloak", "vib")
    ]
    fake_runs.leaderboard(folder, standings, **told)
    common = json.loads((folder / "partition" / "study" / "record.json").read_text("utf-8"))
    common = {key: common[key] for key in (*_COMMON, "cuts", *told)}
    others = {
        "convergence": {"cut": "relu2", "curves": {"map": {"steps": [0], "psnr_mean": [0.0]}}},
        "train_target": {
            **{"test_accuracy": 0.0, "num_test_images": 0, "fingerprint": "f", "fit_s": 0.0}
        },
        "something": {},
    }
    for name, fields in others.items():
        kind = {"train_target": "target"}.get(name, name)
        path = folder / name / "run" / "record.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({**common, "kind": kind, "experiment": name, **fields}))
    return sorted(folder.glob("*/*/record.json"))


_COMMON = (
    *("schema", "dataset", "data_source", "data_fingerprint", "target", "seed", "device"),
    *("versions", "config", "config_hash"),
)


class Scripts(HTMLParser):
    """Counts elements that a page should not have, and what is no text."""

    def __init__(self, text):
        super().__init__()
        self.scripts, self.handlers = 0, 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.scripts += tag == "script"
        self.handlers += tag != "script" and any(name.startswith("on") for name, _ in attrs)


def test_every_text_of_a_typed_record_is_tried(tmp_path):
    given = set()

    def look(value):
        if isinstance(value, dict):
            for key, each in value.items():
                given.add(key)
                look(each)
        elif isinstance(value, list):
            for each in value:
                look(each)

    for path in records_of_every_kind(tmp_path):
        look(json.loads(path.read_text("utf-8")))
    kinds = (AttackRecord, PartitionRecord, ConvergenceRecord, LeaderboardRecord, TargetRecord)
    for struct in kinds:
        assert texts_of(struct) <= given


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_any_text_in_any_place_gives_a_page_and_figures(tmp_path, name):
    for path in records_of_every_kind(tmp_path):
        record = spoilt(json.loads(path.read_text("utf-8")), HOSTILE[name])
        path.write_text(json.dumps(record))
    found = report.read(tmp_path)
    assert len(found) == 8
    written = report.write(found, tmp_path / "page.html", formats=("png",))
    check(written[0].read_text("utf-8"))
    assert len(written) > 2
    assert all(path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" for path in written[1:])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["control", "half a pair", "direction", "html"])
def test_records_that_no_file_held_give_a_page_too(tmp_path, name):
    records_of_every_kind(tmp_path)
    found = report.read(tmp_path)
    for record in found:
        record.dataset = record.device = HOSTILE[name]
        record.path = f"/tmp/{HOSTILE[name]}/run/record.json"
        if isinstance(record, AttackRecord):
            record.split = record.method = record.attacker_knowledge = HOSTILE[name]
    check(page.render(results.sort(found))[0])


def check(text):
    """A page is text, and has no script of a record."""
    text.encode()
    expected = text.count('<script type="application/json"') + 2
    seen = Scripts(text)
    assert (seen.scripts, seen.handlers) == (expected, 0)
    shown = re.sub(r"<script>.*?</script>", "", text, flags=re.S)  # and not of Vega's own
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufffe]", shown)
    for spec in re.findall(r'<script type="application/json" id="[^"]*">(.*?)</script>', text):
        json.loads(spec)
