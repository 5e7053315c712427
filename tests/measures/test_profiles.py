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
NEW = """
tail_s = 4
uplink_p5_bits_per_s = 4
edge_bytes_per_s = 4
packet_bytes = 4
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
    # It need not say what older profiles did not.
    assert (profile.uplink_p5_bits_per_s, profile.edge_bytes_per_s) == (None, None)
    assert (profile.header_bytes, profile.wait_watts, profile.tail_s) == (0, 0, 0)
    path.write_text(GOOD + NEW)
    assert profiles.load(str(path)).tail_s == 4


@pytest.mark.parametrize(
    "change, told",
    [
        (("round_trip_s = 0", ""), "round_trip_s is missing"),
        (
            ("round_trip_s = 0", "round_trip_s = -1"),
            "round_trip_s=-1: expected 0, or a positive number",
        ),
        (("edge_flops_per_s = 1e9", "edge_flops_per_s = 0"), "edge_flops_per_s=0: expected"),
        (("edge_flops_per_s = 1e9", "edge_flops_per_s = nan"), "edge_flops_per_s=nan"),
        (("edge_flops_per_s = 1e9", "edge_flops_per_s = true"), "edge_flops_per_s=True"),
        (("edge_flops_per_s = 1e9", 'edge_flops_per_s = "much"'), "edge_flops_per_s='much'"),
        (('source = "measured"', "source = 3"), "source=3: expected a text"),
        (('source = "measured"', 'colour = "red"\nsource = ""'), "colour is unknown"),
        (("cloud_flops_per_s = 1e12", "cloud_flops_per_s ="), "not TOML"),
        (("cloud_flops_per_s = 1e12", f"cloud_flops_per_s = 1{'0' * 5000}"), "not TOML"),
        (("edge_flops_per_s = 1e9", f"edge_flops_per_s = 1{'0' * 400}"), "expected a positive"),
        (("edge_flops_per_s = 1e9", "edge_flops_per_s = 1e-300"), "from 1e-21 to 1e+21"),
        *(
            ((f"{key} = 4", f"{key} = {bad}"), f"{key}={told}: expected")
            for key in ("tail_s", "uplink_p5_bits_per_s", "edge_bytes_per_s", "packet_bytes")
            for bad, told in (("-1", "-1"), ("nan", "nan"), ('"4"', "'4'"))
        ),
        (("packet_bytes = 4", "packet_bytes = 0"), "packet_bytes=0: expected a positive number"),
        (("uplink_p5_bits_per_s = 4", "uplink_p5_bits_per_s = 9e6"), "expected at most the median"),
    ],
)
def test_a_profile_that_is_none(tmp_path, change, told):
    path = tmp_path / "mine.toml"
    path.write_text((GOOD + NEW).replace(*change))
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
