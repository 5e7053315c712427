"""Tables of attacks and of choices, as rows of text. Standard library, pure functions."""

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import NamedTuple

from jaxinv.constants import kinds
from jaxinv.constants.halves import REPORT
from jaxinv.constants.threats import THREATS
from jaxinv.constants.verdicts import SAFE_REID
from jaxinv.look.text import rounded_up
from jaxinv.report import advice, findings
from jaxinv.report.results import Choice, Partition, ShownAttack
from jaxinv.report.values import (
    Measure,
    fixed,
    interval,
    listed,
    percent,
    percents,
    points,
    signed,
    unit,
)


class Column(NamedTuple):
    """Column of a table; numbers are set flush right, extra columns are not printed."""

    label: str
    numeric: bool = False
    extra: bool = False

    @property
    def classes(self) -> str:
        """Classes of its cells in HTML."""
        return " ".join(["number"] * self.numeric + ["extra"] * self.extra)


class Cell(NamedTuple):
    """Text, a value to sort by, the number of a run whose card it links to, and an aside."""

    text: str
    value: float | None = None
    run: int | None = None
    note: str = ""


class Row(NamedTuple):
    """Cells, the first of which names the row; `mark` is how it is set off."""

    cells: Sequence[Cell]
    mark: str = ""


class Table(NamedTuple):
    """`name` is unique on the page."""

    name: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Row]


def columns_of(*labels: str) -> list[Column]:
    """A label that ends in `#` is of a column of numbers, one that begins with `+` of an extra."""
    return [
        Column(label.removeprefix("+").removesuffix("#"), label.endswith("#"), label[0] == "+")
        for label in labels
    ]


def _psnr(attack: ShownAttack) -> Cell:
    if attack.psnr.mean is None and attack.diverged:
        return Cell("diverged")
    found = attack.psnr
    dead = f"dead start: {attack.record.dead} of {attack.num_images}" * bool(attack.record.dead)
    note = "; ".join(filter(None, [interval(found, 2), dead]))
    return Cell(fixed(found.mean, 2), found.mean, note=note)


def _ssim(attack: ShownAttack) -> Cell:
    return Cell(fixed(attack.ssim.mean, 3), attack.ssim.mean, note=interval(attack.ssim, 3))


def _exact(attack: ShownAttack) -> Cell:
    """The share of images that are exact, or the error of series and rows."""
    record = attack.record
    if record.inputs is None:
        return share(record.exact_fraction)
    error = Measure(record.rmse_mean, *record.rmse_ci)
    return Cell(fixed(error.mean, 4), error.mean, note=interval(error, 4))


def _reid(attack: ShownAttack) -> Cell:
    return share(attack.reid.mean)._replace(note=percents(attack.reid))


def share(value: float | None, digits: int = 1) -> Cell:
    return Cell(percent(value, digits), value)


# --- Attacks ------------------------------------------------------------------------------------


def reaches(found: Sequence[findings.Reach], dataset: str, name: str) -> Table:
    """The strongest result of each threat model."""
    rows = []
    for reach in found:
        cells = [Cell(THREATS.get(reach.threat, reach.threat))]
        for each in (reach.best, reach.deepest):
            words = findings.quality_words(each)
            cells.append(Cell(f"{each.split}, {each.method}", each.ssim.mean, each.number, words))
        rows.append(Row(cells))
    columns = columns_of("attacker", "reconstructs best at", "deepest cut tried")
    return Table(name, f"{dataset}, undefended: what each attacker reconstructs", columns, rows)


def undefended(attacks: Sequence[ShownAttack], name: str, caption: str) -> Table:
    """Quality at each cut."""
    rows = [
        Row(
            [
                Cell(each.split, place, each.number),
                Cell(each.attacker, note=_queries(each)),
                _psnr(each),
                _ssim(each),
                _exact(each),
                _reid(each),
                Cell(each.images, each.num_images),
            ]
        )
        for place, each in enumerate(attacks)
    ]
    exact = "exact#" if any(each.kind == kinds.IMAGE for each in attacks) else "RMSE, of the range#"
    labels = ("split", "attacker", "PSNR dB#", "SSIM#", exact, "re-identified#", "images#")
    return Table(name, caption, columns_of(*labels), rows)


def defended(attacks: Sequence[ShownAttack], name: str, caption: str) -> Table:
    """Table of the cost of defences, and of what attackers still get."""
    rows = []
    for each in attacks:
        extras = f"{each.retrain} retrained" if each.retrain != "none" else ""
        if each.releases > 1:
            extras = listed([*filter(None, [extras]), f"{each.releases} releases"])
        rows.append(
            Row(
                [
                    Cell(each.defense.name, None, each.number, extras),
                    Cell(each.defense.level_text, each.defense.levels[0]),
                    Cell(each.method),
                    share(each.usability.mean, 2),
                    Cell(points(each.loss).removesuffix(" points"), each.loss),
                    _psnr(each),
                    _ssim(each),
                    _reid(each),
                    share(each.record.judge_accuracy),
                ]
            )
        )
    usability = f"{_usability(attacks)}#"
    labels = ("defence", "level#", "attacker", usability, "loss, points#", "PSNR dB#", "SSIM#")
    return Table(name, caption, columns_of(*labels, "re-identified#", "still classified#"), rows)


def _usability(shown: Sequence[ShownAttack] | Sequence[Choice]) -> str:
    """Names the measure of usability, the same for all of a network."""
    return next((each.usability_kind for each in shown), "accuracy")


def against_paper(attacks: Sequence[ShownAttack], name: str) -> Table:
    """Ours, theirs and the difference."""
    rows = []
    for each in attacks:
        assert each.printed is not None
        psnr, ssim = each.printed
        gain = None if each.psnr.mean is None else each.psnr.mean - psnr
        more = None if each.ssim.mean is None else each.ssim.mean - ssim
        rows.append(
            Row(
                [
                    Cell(each.split, None, each.number),
                    Cell(each.attacker, note=_queries(each)),
                    Cell(fixed(psnr, 2), psnr),
                    Cell(fixed(each.psnr.mean, 2), each.psnr.mean),
                    Cell(signed(gain, 2), gain),
                    Cell(fixed(ssim, 2), ssim),
                    Cell(fixed(each.ssim.mean, 3), each.ssim.mean),
                    Cell(signed(more, 3), more),
                    Cell(each.images, each.num_images),
                ]
            )
        )
    labels = ("split", "attacker", "PSNR, paper#", "ours#", "difference#")
    columns = columns_of(*labels, "SSIM, paper#", "ours#", "difference#", "images#")
    return Table(name, _PAPER, columns, rows)


_PAPER = (
    "PSNR in dB and SSIM, undefended; the attacker called paper is theirs, made again. "
    "mnist_5k is compared with MNIST"
)


def _queries(attack: ShownAttack) -> str:
    found = attack.record.queries
    return "" if found is None else f"{found:,} queries"


# --- Partitions ---------------------------------------------------------------------------------


_EXACT, _ALL = 100.0, 0.9995  # dB, at which PSNRs are capped; a share that is shown as 100.0%
_MORE = (
    *("strongest attacker", "effort", "constraints", "worth having", "+PSNR dB#", "+sent#"),
    *("+on the device#", "+on the way#", "+in the cloud#"),
)


def choices(
    partition: Partition,
    chosen: Sequence[Choice],
    places: Mapping[str, int],
    name: str,
    caption: str,
) -> Table:
    """Costs of choices and what they leave; `places` are numbers of cards by names of runs."""
    rows = []
    for each in chosen:
        mark = each in (partition.recommended, partition.recommended_split)
        rows.append(
            Row(
                [
                    Cell(each.name, each.index, note=_place(partition, each)),
                    share(each.usability.mean, 2),
                    Cell(unit(each.latency_s, "s"), each.latency_s, note=_slowest(each)),
                    Cell(unit(each.energy_j, "J"), each.energy_j),
                    Cell(unit(each.memory_bytes, "B"), each.memory_bytes),
                    Cell(fixed(each.ssim.mean, 3), each.ssim.mean, note=interval(each.ssim, 3)),
                    _linked(each),
                    _attacker(each, places),
                    Cell(advice.effort(each)),
                    Cell(advice.verdict(each)),
                    Cell("yes" if each.pareto else "no"),
                    Cell(fixed(each.psnr.mean, 1), each.psnr.mean),
                    Cell(unit(each.record.sent_bytes, "B"), each.record.sent_bytes),
                    *(Cell(unit(part, "s"), part) for part in _parts(each)),
                ],
                "recommended" if mark else "",
            )
        )
    usability = f"{_usability(chosen)}#"
    labels = ("choice", usability, "latency#", "energy#", "memory#", "SSIM#", "re-identified#")
    columns = columns_of(*labels, *_MORE)
    return Table(name, caption, columns, rows)


def _place(partition: Partition, choice: Choice) -> str:
    """Tells whether a choice is recommended, and whether its figures are of report images."""
    told = ["recommended"] * (choice is partition.recommended)
    told += ["best that splits"] * (not told and choice is partition.recommended_split)
    return "; ".join([*told, *["on report images"] * (choice.record.test_images == REPORT)])


def _linked(choice: Choice) -> Cell:
    notes, certain = [percents(choice.reid)], choice.record.certified_reid
    if certain is not None:
        notes.append(f"certified: at most {percent(rounded_up(certain))} on average")
    return share(choice.reid.mean)._replace(note="; ".join(filter(None, notes)))


def _slowest(choice: Choice) -> str:
    """Returns the latency that 5% of the images exceed; older studies have none."""
    slowest = choice.record.latency_p95_s
    return "" if slowest is None else f"95%: {unit(slowest, 's')}"


def _parts(choice: Choice) -> tuple[float | None, ...]:
    row = choice.record
    return (row.edge_s, row.uplink_s, row.cloud_s)


def _attacker(choice: Choice, places: Mapping[str, int]) -> Cell:
    attacks = choice.record.attacks
    best = max(attacks, key=lambda each: Measure(each.ssim_mean).or_nothing, default=None)
    if not choice.attacker or best is None:
        return Cell(choice.attacker or "none")
    notes = [f"of {len(attacks)} attacks"] if len(attacks) > 1 else []
    if count := choice.record.surrogate_images:
        notes.append(f"{count:,} images to learn from")
    note = ", ".join(notes)
    run = "/".join(PurePath(best.path).parts[-3:-1])
    return Cell(choice.attacker, None, places.get(run), note)


def bounds(partition: Partition, name: str, title: str) -> Table:
    """Table of the bounds that exclude anything."""
    rows = []
    for each in partition.choices:
        for bound in each.record.bounds:
            psnr = bound.quantity == "psnr"
            if bound.value is None or bound.value >= (_EXACT if psnr else _ALL):
                continue
            limit = f"{bound.value:.1f} dB" if psnr else f"{percent(bound.value)} re-identified"
            # About test images as they are, and about attackers of any kind.
            binds = not bound.dithered and bound.name != "Cramer-Rao"
            met = (each.record.psnr_of_mean if psnr else each.reid.mean) if binds else None
            reached = fixed(met, 1) + " dB" if psnr and met is not None else percent(met)
            reached = reached if binds else "not comparable"
            rows.append(
                Row(
                    [
                        Cell(each.name, each.index),
                        Cell(f"at most {limit}", bound.value),
                        Cell(reached, met),
                        Cell(bound.name),
                        Cell(bound.kind),
                        Cell(bound.assumptions),
                    ]
                )
            )
    columns = columns_of("choice", "bound#", "strongest attack#", "theorem", "kind", "assumes")
    caption = (
        f"{title}: bounds of PSNR and re-identification, under what each assumes; Cramer-Rao is "
        "about attackers without bias alone. Beside those that are about any attacker on test "
        "images as they are is the strongest attack that was run. Both PSNRs are that of the mean "
        "squared error, and not the mean of PSNRs that is shown elsewhere, which may be higher. "
        "Bounds that are about test images as they are, but for Cramer-Rao, are averages over more "
        "images than were attacked; all are measured on images that choices are made on"
    )
    return Table(name, caption, columns, rows)


def certain(partition: Partition, name: str, title: str) -> Table:
    """The noise that surely holds re-identification down, and what is left of usability."""
    rows = []
    for found in partition.record.certain:
        cells = [Cell(found.split)]
        for sigma, accuracy in (
            (found.sigma, found.accuracy),
            (found.bayes_sigma, found.bayes_accuracy),
        ):
            cells += [Cell(fixed(sigma, 2), sigma), share(accuracy, 2)]
        rows.append(Row(cells))
    kind = _usability(partition.choices)
    caption = (
        f"{title}: standard deviation of Gaussian noise at the features behind which nobody, "
        f"certainly, re-identifies more than {SAFE_REID:.0%}, and the {kind} behind it; and that "
        "at which the best attacker re-identifies as many of simulated releases, estimated; all on "
        "images that choices are made on"
    )
    bits = {found.code_bits for found in partition.record.certain if found.code_bits}
    if bits:
        caption += f". A codebook of {min(bits)} bits does so for certain at any cut, without noise"
    labels = ("split", "certain#", f"{kind}#", "estimated#", f"{kind} then#")
    return Table(name, caption, columns_of(*labels), rows)
