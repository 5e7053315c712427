"""Tables of leaderboards: defences at equal accuracy. Standard library."""

from jaxinv.look.text import rounded_up
from jaxinv.report.results import Board
from jaxinv.report.tables import Cell, Row, Table, columns_of, share
from jaxinv.report.values import MISSING, Measure, fixed, interval, unit
from jaxinv.store.standing import Reconstructed, Standing, points


def table(board: Board, loss: float, name: str, title: str) -> Table:
    """Returns the defences at one loss of accuracy, the one that leaks least first."""
    rows = [_row(place, each) for place, each in enumerate(board.at(loss))]
    found = board.record.accuracy_undefended
    undefended = "" if found is None else f" of {100 * found:.2f}% undefended"
    caption = (
        f"{title}, {points(loss)}{undefended}. Beside the strongest is who it is; the share is the "
        "greatest that an attacker re-identifies. Certified is an upper "
        "limit on the share of equally likely candidates that any attacker finds on average, where "
        "few releases differ"
    )
    labels = ("defence", "level", "accuracy#", "claimed SSIM#", "strongest SSIM#", "PSNR dB#")
    more = (
        "error ratio#",
        "re-identified#",
        "certified#",
        "verdict",
        "+sent#",
        "+edge arithmetic#",
    )
    return Table(name, caption, columns_of(*labels, *more), rows)


def _row(place: int, each: Standing) -> Row:
    best = each.strongest_psnr
    ratio = Measure(each.error_ratio, *each.error_ratio_ci)
    flops = each.edge_flops_ratio
    spread, certified = each.usability.std, each.certified_reid
    around = "" if spread is None else f"± {100 * spread:.2f} over trainings"
    cells = [
        Cell(each.defense, place),
        Cell(each.level),
        share(each.usability.mean, 2)._replace(note=around),
        _ssim(each.claimed),
        _ssim(each.strongest, tells_who=True),
        Cell(MISSING) if best is None else Cell(fixed(best.psnr_mean, 2), best.psnr_mean),
        Cell(fixed(ratio.mean, 2), ratio.mean, note=interval(ratio, 2)),
        share(each.reid),
        share(None if certified is None else rounded_up(certified)),
        Cell(each.verdict),
        Cell(unit(each.sent_bytes, "B"), each.sent_bytes),
        Cell(MISSING if flops is None else f"{flops:.2f}x", flops),
    ]
    return Row(cells)


def _ssim(found: Reconstructed | None, *, tells_who: bool = False) -> Cell:
    if found is None:
        return Cell(MISSING)
    own = Measure(found.ssim_mean, *found.ssim_ci)
    note = "; ".join(filter(None, [interval(own, 3), found.attacker * tells_who]))
    return Cell(fixed(own.mean, 3), own.mean, note=note)
