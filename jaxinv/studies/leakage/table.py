"""Tables of predictions, and of how they compare with attacks. NumPy."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxinv.look.terminal import heading
from jaxinv.measures.leakage import STATISTICS
from jaxinv.store.record import LeakageRecord, typed
from jaxinv.studies.lines import width

BEST = STATISTICS[0]
"""The statistic that predictions are sorted by."""

_WIDTH = 9


def predictions(finished: Sequence[Mapping[str, Any]]) -> str:
    """Returns the table of releases, the one that should leak most first."""
    rows = [record for each in finished if isinstance(record := typed(each), LeakageRecord)]
    rows.sort(key=lambda row: -_number(row.statistics[BEST.name]))
    lines = ["Predicted leakage, without an attack, the most first:"]
    lines += [f"  {each.title}: {each.text}." for each in STATISTICS]
    titles = "".join(f"{each.title:>{_WIDTH}}" for each in STATISTICS)
    first = width([row.split for row in rows], least=12)
    second = width([row.defense.words for row in rows], least=32)
    lines.append(heading(f"{'split':<{first}}{'defence':<{second}}{titles}"))
    for row in rows:
        values = "".join(
            f"{_short(row.statistics.get(each.name)):>{_WIDTH}}" for each in STATISTICS
        )
        lines.append(f"{row.split:<{first}}{row.defense.words:<{second}}{values}")
    return "\n".join(lines)


def comparison(record: Mapping[str, Any]) -> str:
    """Returns rank correlations of statistics with the strongest attacks, for each network."""
    triples, found = record["triples"], record["correlations"]
    networks = list(dict.fromkeys(each["network"] for each in triples))
    lines = [
        f"{len(triples)} releases of {len(networks)} network{'s' * (len(networks) != 1)} were "
        "attacked. Spearman's rank "
        "correlation of each statistic with what the strongest attack found; over networks with "
        "95% intervals of the bootstrap, which draws networks and releases of each:"
    ]
    titles = "".join(f"{each.title:>{_WIDTH}}" for each in STATISTICS)
    for leak in next(iter(found.values())):
        lines.append(heading(f"{leak:<44}{titles}"))
        for network in networks:
            own = [found[each.name][leak]["networks"].get(network) for each in STATISTICS]
            if any(own):
                count = max(each["count"] for each in own if each)
                lines.append(_line(f"{network} ({count})", own, "value"))
        every = [found[each.name][leak] for each in STATISTICS]
        lines.append(_line("mean of networks", every, "within"))
        lines.append(_line("over networks", every, "value"))
        for name, end in (("  lower end", 0), ("  upper end", 1)):
            ends = [{"end": each["ci"][end]} for each in every]
            lines.append(_line(name, ends, "end"))
    return "\n".join(lines)


def _line(name: str, values: Sequence[Mapping[str, Any] | None], key: str) -> str:
    told = "".join(f"{_rank(each[key] if each else None):>{_WIDTH}}" for each in values)
    return f"  {name[:41]:<42}{told}"


def _rank(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def _number(value: float | None) -> float:
    return float("-inf") if value is None else value
