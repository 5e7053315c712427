"""Devices as users name them, and times that were measured elsewhere."""

import pytest

from jaxinv.errors import UsageError
from jaxinv.measures import profiles
from jaxinv.measures.profiles import device

CUTS = ("conv", "relu", "fc")
NAME = "times.csv"
NEEDED = (
    *("edge_flops_per_s", "edge_joules_per_flop", "uplink_bits_per_s", "uplink_joules_per_bit"),
    *("round_trip_s", "cloud_flops_per_s"),
)
GOOD = "# a phone, 50 runs\nlayer,seconds\nconv,0.5\n\nReLU, 0.25\nfc,1e-3\n"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / NAME
    path.write_text(GOOD)
    return path


def test_a_device_is_a_profile():
    assert device.named("phone-lte") == device.Device(profiles.load("phone-lte"))
    plain = device.named("microcontroller")
    assert plain.with_cuts(CUTS) == plain


def test_a_file_has_one_name_however_its_path_is_written(file, monkeypatch):
    monkeypatch.chdir(file.parent)
    one, other = (device.named(text).with_cuts(CUTS).profile for text in (NAME, f"./{NAME}"))
    assert one == other and one.name == f"{NAME}@phone-wifi"


def test_home_is_known_on_both_sides_of_the_at(file, monkeypatch):
    monkeypatch.setenv("HOME", str(file.parent))
    (file.parent / "own.toml").write_text(
        "\n".join(f'{name} = "x"' for name in ("description", "source"))
        + "".join(f"\n{name} = 1" for name in NEEDED)
    )
    assert device.named("this@~/own.toml").profile.name == "own"
    assert device.named("~/times.csv@~/own.toml").times.kind == "layer"


def test_this_machine_has_the_radio_of_a_profile():
    assert device.named("this") == device.Device(profiles.load("phone-wifi"), is_this=True)
    assert device.named("this@phone-lte").profile == profiles.load("phone-lte")


def test_times_of_layers_add_up_and_those_of_cuts_are_taken_as_they_are(file):
    profile = device.named(str(file)).with_cuts(CUTS).profile
    assert profile.edge_times == pytest.approx({"conv": 0.5, "relu": 0.75, "fc": 0.751})
    assert profile.name == "times.csv@phone-wifi" and "a phone, 50 runs" in profile.source
    file.write_text(GOOD.replace("layer,seconds", "Cut, seconds"))
    profile = device.named(f"{file}@modern-phone").with_cuts(CUTS).profile
    assert profile.edge_times == pytest.approx({"conv": 0.5, "relu": 0.25, "fc": 1e-3})
    assert profile.tail_s == profiles.load("modern-phone").tail_s


@pytest.mark.parametrize(
    "change, told",
    [
        (("layer,seconds", "name,ms"), "begins with 'name,ms': expected layer,seconds or cut,sec"),
        ((GOOD, ""), "begins with '': expected layer,seconds or cut,seconds"),
        (("conv,0.5", "conv"), "line 3: 'conv': expected a name and seconds"),
        (("conv,0.5", "conv,1,2"), "line 3: 'conv,1,2': expected a name and seconds"),
        *(
            (("fc,1e-3", f"fc,{bad}"), f"line 6: seconds={bad!r}: expected a positive number")
            for bad in ("-1", "0", "nan", "inf", "1e400", "soon", "")
        ),
        (("fc,", "conv,"), "line 6: 'conv' was given before"),
        (("fc,", "pool,"), "layer 'pool' is unknown; expected conv, relu, fc"),
        (("fc,1e-3\n", ""), "layer fc is missing"),
        (("ReLU, 0.25\n", '"re\0lu\n'), "line 5: "),
    ],
)
def test_times_that_are_none(file, change, told):
    file.write_text(GOOD.replace(*change))
    with pytest.raises(UsageError) as error:
        device.named(str(file)).with_cuts(CUTS)
    assert str(error.value).startswith(f"profile={file}: {told}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text, told",
    [
        ("toaster", "phone-wifi, this, or name a file, .toml or .csv"),
        ("this@toaster", "profile=toaster: no such profile"),
        ("this@this", "profile=this: no such profile"),
        ("none.csv", "profile=none.csv: cannot be read: No such file"),
        ("none.toml", "profile=none.toml: cannot be read: No such file"),
        ("phone-wifi@phone-lte", "no such profile"),
    ],
)
def test_a_device_that_is_not_there(text, told):
    with pytest.raises(UsageError) as error:
        device.named(text)
    assert told in str(error.value)
