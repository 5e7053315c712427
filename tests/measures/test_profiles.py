"""Profiles: those of the package, and files of the user."""

import pytest

from jaxinv.errors import UsageError
from jaxinv.measures import profiles

GOOD = """
description = "a device"
source = "measured"
edge_flops_per_s = 1e9
edge_joules_per_flop = 1e-9
uplink_bits_per_s = 8e6
uplink_joules_per_bit = 1e-7
round_trip_s = 0
cloud_flops_per_s = 1e12
"""


def test_the_profiles_that_come_with_it_say_where_they_are_from():
    assert set(profiles.names()) == {
        *("phone-wifi", "phone-lte", "modern-phone", "microcontroller")
    }
    for name in profiles.names():
        profile = profiles.load(name)
        assert profile.name == name and profile.description
        assert "20" in profile.source and "\n" not in profile.source


def test_a_profile_of_ones_own(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    profile = profiles.load(str(path))
    assert (profile.name, profile.uplink_bits_per_s, profile.memory_bytes) == ("mine", 8e6, None)


@pytest.mark.parametrize(
    "change, told",
    [
        (("round_trip_s = 0", ""), "round_trip_s is missing"),
        (("round_trip_s = 0", "round_trip_s = -1"), "round_trip_s=-1: expected a positive number"),
        (("edge_flops_per_s = 1e9", "edge_flops_per_s = 0"), "edge_flops_per_s=0: expected"),
        (("edge_flops_per_s = 1e9", "edge_flops_per_s = nan"), "edge_flops_per_s=nan"),
        (("edge_flops_per_s = 1e9", "edge_flops_per_s = true"), "edge_flops_per_s=True"),
        (("edge_flops_per_s = 1e9", 'edge_flops_per_s = "much"'), "edge_flops_per_s='much'"),
        (('source = "measured"', "source = 3"), "source=3: expected a text"),
        (('source = "measured"', 'colour = "red"\nsource = ""'), "colour is unknown"),
        (("cloud_flops_per_s = 1e12", "cloud_flops_per_s ="), "not TOML"),
    ],
)
def test_a_profile_that_is_none(tmp_path, change, told):
    path = tmp_path / "mine.toml"
    path.write_text(GOOD.replace(*change))
    with pytest.raises(UsageError) as error:
        profiles.load(str(path))
    assert told in str(error.value) and str(error.value).startswith("profile=")
    assert "\n" not in str(error.value)


def test_a_profile_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match="no such profile; choose from microcontroller"):
        profiles.load("toaster")
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        profiles.load(str(tmp_path / "none.toml"))
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="cannot be read: not a text file"):
        profiles.load(str(tmp_path / "bytes.toml"))


# --- Time and energy ------------------------------------------------------------------------------
