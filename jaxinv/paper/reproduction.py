"""The paper's tables and figures, made again: which runs, which pictures, and how it compares.

Source: He, Zhang & Lee 2021, Figs. 2 to 15. Every run is one of the experiment scripts, so that
whatever is finished is not done again; pictures and the table are made of their records alone.
"""

import datetime
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxinv import sweeps
from jaxinv.constants import paper
from jaxinv.constants.verdicts import SAFE_SSIM
from jaxinv.errors import UserError
from jaxinv.inputs import data
from jaxinv.look.charts import costs as costs_chart
from jaxinv.look.charts import splits, style, tradeoff
from jaxinv.measures import costs, latency, profiles
from jaxinv.networks import for_images
from jaxinv.store import files, records
from jaxinv.studies import evaluation
from jaxinv.studies.defended import verdict

Record = Mapping[str, Any]

DATASETS = ("mnist", "cifar10")
BEGIN, END = "<!-- paper: begin -->", "<!-- paper: end -->"
"""Between these lines of a Markdown file `publish` writes the table."""

_QUICK = {"fit_steps": "300", "draws": "1"}
_DEFENDED = {"defense": "gaussian,laplace,dropout", "site": "feature,input"}


class Part(NamedTuple):
    """Some runs of one script that belong together.

    Attributes:
      figures: of the paper, by number.
      name: of its picture.
      script: name of a file in experiments/, without .py.
      flags: of it, as text; those with several values make as many runs (`sweeps.expand`).
    """

    figures: tuple[int, ...]
    name: str
    script: str
    flags: Mapping[str, str]

    @property
    def dataset(self) -> str:
        return self.flags["dataset"]


def parts(datasets: Sequence[str], *, num_images: int | None = None) -> list[Part]:
    """All that the paper shows of these datasets, the longest runs of each first.

    Args:
      datasets: some of "mnist" and "cifar10"; "mnist_5k" stands in for the former.
      num_images: to attack in every run; by default as many as make a figure worth printing.
    """
    found: list[Part] = []
    for dataset in datasets:
        rows = _CIFAR if dataset == "cifar10" else _MNIST
        for part in rows:
            flags = {"dataset": dataset, **part.flags}
            if num_images is not None:
                flags["num_images"] = str(num_images)
            found.append(part._replace(flags=flags))
    return found


def _both(
    figure: tuple[int, ...], script: str, paper_flags: dict[str, str], flags: dict[str, str]
) -> list[Part]:
    """The authors' attack and the strongest of ours."""
    ours = "map" if script == "whitebox" else "strong"
    return [
        Part(figure, f"{script}-paper", script, {"method": "paper", **paper_flags}),
        Part(figure, f"{script}-{ours}", script, {"method": ours, **flags}),
    ]


_MNIST = [
    Part(
        (6, 7, 8, 9),
        "defenses",
        "defenses",
        {"split": "relu2", **_DEFENDED, "num_images": "50", **_QUICK},
    ),
    *_both(
        (5, 14, 15),
        "queryfree",
        {"split": "conv1,relu2,fc1", "num_images": "50"},
        {
            "split": "conv1,relu2,fc1",
            "shadow_steps": "200",
            "fit_steps": "300",
            "num_images": "200",
        },
    ),
    *_both(
        (4,),
        "blackbox",
        {"split": "conv1,relu2", "fit_steps": "18750", "num_images": "200"},
        {"split": "conv1,relu2", "num_images": "200"},
    ),
    Part(
        (11, 13),
        "dropout",
        "defenses",
        {
            "split": "relu1,pool1,conv2,relu2,pool2",
            "defense": "dropout",
            "level": "0,.3,.6,.9",
            "num_images": "50",
            **_QUICK,
            "correction": "false",
        },
    ),
    *_both(
        (3,),
        "whitebox",
        {"split": "conv1,pool1,relu2,pool2,fc1,fc2", "num_images": "100"},
        {"split": "conv1,pool1,relu2,pool2,fc1,fc2", "num_images": "100"},
    ),
]
_CIFAR = [
    Part(
        (6, 7, 8, 10),
        "defenses",
        "defenses",
        {
            "split": "relu22",
            **_DEFENDED,
            "num_images": "10",
            **_QUICK,
            "correction": "false",
        },
    ),
    *_both(
        (4,),
        "blackbox",
        {"split": "relu22", "fit_steps": "5000", "num_images": "100"},
        {"split": "relu22", "num_images": "100"},
    ),
    *_both(
        (5,),
        "queryfree",
        {"split": "relu22", "shadow_steps": "1000", "num_images": "10"},
        {"split": "relu22", "shadow_steps": "60", "fit_steps": "300", "num_images": "100"},
    ),
    Part(
        (12, 13),
        "dropout",
        "defenses",
        {
            "split": "relu12,pool1,conv22,relu22,pool2",
            "defense": "dropout",
            "attacker": "paper",
            "num_images": "10",
            **_QUICK,
        },
    ),
    *_both(
        (3,),
        "whitebox",
        {"split": "conv11,conv12,pool1,relu22", "num_images": "10"},
        {"split": "conv11,conv12,pool1,relu22", "num_images": "10"},
    ),
]


class Done(NamedTuple):
    """A part and its records, each with its `path`."""

    part: Part
    records: list[dict[str, Any]]


def run(
    chosen: Sequence[Part], workdir: str, *, extra: Mapping[str, str] | None = None
) -> tuple[list[Done], list[sweeps.Outcome]]:
    """Runs what is not finished yet.

    Args:
      chosen: what to run.
      workdir: where.
      extra: flags of every run, such as `data_dir`.

    Returns:
      The parts with the records that there are now, and what became of every run.

    Raises:
      UserError: data cannot be had, the folder cannot be written, or a record vanishes meanwhile.
    """
    grids = [sweeps.expand(part.script, {**part.flags, **(extra or {})}) for part in chosen]
    outcomes = sweeps.run(_longest_first(chosen, grids), workdir)
    ended = {outcome.run.name: outcome for outcome in outcomes}
    done = []
    for part, grid in zip(chosen, grids, strict=True):
        paths = [path for one in grid for path in ended[one.name].records]
        done.append(Done(part, [_read(path) for path in dict.fromkeys(paths)]))
    return done, outcomes


def _longest_first(chosen: Sequence[Part], grids: Sequence[list[sweeps.Run]]) -> list[sweeps.Run]:
    """The runs of several datasets in turn, so that none's longest are what all wait for."""
    queues: dict[str, list[list[sweeps.Run]]] = {}
    for part, grid in zip(chosen, grids, strict=True):
        queues.setdefault(part.dataset, []).append(grid)
    turns = itertools.zip_longest(*queues.values(), fillvalue=[])
    return [run for turn in turns for grid in turn for run in grid]


def _read(path: Path) -> dict[str, Any]:
    record = records.read(path.parent)
    if record is None:
        raise UserError(f"{path} is gone: the same command makes it again.")
    return {**record, "path": str(path)}


# --- Pictures -------------------------------------------------------------------------------------


def draw(done: Iterable[Done], folder: Path) -> list[Path]:
    """Draws every part that has records, and Fig. 2 of every dataset; returns the pictures.

    Raises:
      UserError: a run's images are damaged, or the folder cannot be written.
    """
    drawn: list[Path] = []
    seen: set[str] = set()
    for part, found in done:
        if part.dataset not in seen:
            seen.add(part.dataset)
            drawn.append(_draw_costs(part.dataset, folder))
        if found:
            drawer = _draw_defenses if part.script == "defenses" else _draw_attacks
            drawn += drawer(part, found, folder)
    return drawn


def _draw_costs(dataset: str, folder: Path) -> Path:
    loaded = data.load(dataset, announce=lambda line: None)
    network = for_images(loaded.image_shape, loaded.num_classes)
    profile = profiles.load("phone-wifi")
    rows = [
        {"split": cut.split, **latency.cost(cut, profile)._asdict()}
        for cut in costs.split_costs(network)
    ]
    path = folder / f"fig02-{dataset}.png"
    style.save(path, costs_chart.figure(rows, title=f"Fig. 2, {dataset} on {profile.name}"))
    return path


def _draw_attacks(part: Part, found: list[dict[str, Any]], folder: Path) -> list[Path]:
    path = folder / f"fig{part.figures[0]:02}-{part.dataset}-{part.name}.png"
    evaluation.write_joint_grid(path, found, title=f"{_title(part)}: {_of(found[0])}")
    if 15 not in part.figures or len(found) < 2:
        return [path]
    line = folder / f"fig15-{part.dataset}-{part.name}.png"
    rows, cuts = evaluation.points_of_seeds(found), [row["split"] for row in found]
    style.save(line, splits.figure(rows, cuts, title=f"Fig. 15: {_of(found[0])}"))
    return [path, line]


def _draw_defenses(part: Part, found: list[dict[str, Any]], folder: Path) -> list[Path]:
    drawn = []
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for record in found:
        defense = record["defense"]
        groups.setdefault((record["split"], defense["kind"], defense["site"]), []).append(record)
    for (split, kind, site), own in groups.items():
        own.sort(key=lambda record: (record["defense"]["level"], record["method"] != "paper"))
        numbers = {"gaussian": 6, "laplace": 7, "dropout": 8}
        number = numbers[kind] if part.name == "defenses" else part.figures[0]
        path = folder / f"fig{number:02}-{part.dataset}-{split}-{kind}-{site}.png"
        title = f"Fig. {number}: {kind} at the {site}, {split}, {_of(own[0])}"
        evaluation.write_joint_grid(path, own, title=title)
        drawn.append(path)
    number = {9, 10, 13}.intersection(part.figures).pop()
    path = folder / f"fig{number:02}-{part.dataset}-{part.name}.png"
    rows = [
        verdict.point(record, kind if part.name == "defenses" else f"{split}: {kind}")
        for (split, kind, _), own in groups.items()
        for record in own
    ]
    high = found[0]["accuracy_undefended"] > 0.95
    claims = (SAFE_SSIM, 0.95 if high else None)
    title = f"Fig. {number}: {_of(found[0])}"
    style.save(path, tradeoff.figure(rows, title=title, claims=claims))
    return [*drawn, path]


def _title(part: Part) -> str:
    return f"Fig{'s' if len(part.figures) > 1 else ''}. {', '.join(map(str, part.figures))}"


def _of(record: Record) -> str:
    return f"{record['dataset']}, mean PSNR / SSIM of {record['num_images']:,} images"


# --- The table ------------------------------------------------------------------------------------


def table(done: Sequence[Done], command: str) -> str:
    """Ours against the paper, as Markdown, with where it comes from.

    Args:
      done: what was run.
      command: that did it.

    Raises:
      UserError: there is no record at all.
    """
    found = [record for each in done for record in each.records]
    if not found:
        raise UserError("There is no record to make a table of.")
    lines = [
        "| Fig. | dataset | split | attack | the paper prints | `--method=paper` | ours | images |",
        "|------|---------|-------|--------|------------------|------------------|------|--------|",
    ]
    notes: dict[str, None] = {}
    for part, own in done:
        if part.script != "defenses" and part.flags.get("method") == "paper":
            others = [
                record
                for other, records_ in done
                if other.script == part.script and other.dataset == part.dataset and other != part
                for record in records_
            ]
            for record in own:
                lines.append(_attack_row(part, record, others, notes))
    lines += ["", *(f"{number}. {note}" for number, note in enumerate(notes, 1)), ""]
    lines += _claims(done)
    newest = max(Path(record["path"]).stat().st_mtime for record in found)
    day = datetime.datetime.fromtimestamp(newest, datetime.UTC).date().isoformat()
    devices = ", ".join(dict.fromkeys(record["device"] for record in found))
    seeds = sorted({record["seed"] for record in found})
    version = found[0]["versions"]["jax"]
    lines += [
        "",
        f"`{command}` on {devices}; {day}; seed {', '.join(map(str, seeds))}; jax {version}. "
        "PSNR in dB / SSIM, means with the half width of their 95% interval over images; "
        "query-free ones are means over three shadows with their standard deviation over seeds.",
    ]
    return "\n".join(lines)


def _attack_row(
    part: Part, record: Record, others: Sequence[Record], notes: dict[str, None]
) -> str:
    ours = next((other for other in others if other["split"] == record["split"]), None)
    printed = record["paper"]
    said = f"{printed['psnr']:.2f} / {printed['ssim']:.2f}" if printed else ""
    marks = ""
    reason = paper.why(record)
    if reason:
        notes.setdefault(reason)
        marks = f" ({list(notes).index(reason) + 1})"
    cells = [
        ", ".join(map(str, part.figures)),
        part.dataset,
        record["split"],
        {"whitebox": "white-box", "blackbox": "black-box", "queryfree": "query-free"}[part.script],
        said,
        f"{_quality(record)}{marks}",
        f"{_quality(ours)}, {ours['method']}" if ours else "",
        " and ".join(
            dict.fromkeys(f"{row['num_images']:,}" for row in (record, ours) if row is not None)
        ),
    ]
    return f"| {' | '.join(cells)} |"


def _quality(record: Record) -> str:
    if record["psnr_mean"] is None:
        return "diverged"
    return f"{record['psnr_mean']:.2f} ± {paper.spread(record):.2f} / {record['ssim_mean']:.3f}"


class _Claim(NamedTuple):
    """A sentence of the paper about a defence, and what decides it."""

    dataset: str
    split: str
    kind: str
    site: str
    level: float
    says: str
    holds: Callable[[Record], bool]


_CLAIMS = [
    _Claim(
        "mnist",
        "relu2",
        "gaussian",
        "feature",
        0.8,
        "up to a deviation of 0.8 the attacker has SSIM > 0.4 and PSNR > 8.5 dB",
        lambda record: record["ssim_mean"] > 0.4 and record["psnr_mean"] > 8.5,
    ),
    _Claim(
        "mnist",
        "relu2",
        "dropout",
        "feature",
        0.6,
        "dropout of 0.6 leaves SSIM < 0.25, at an accuracy above 95%",
        lambda record: record["ssim_mean"] < 0.25 and record["accuracy"] > 0.95,
    ),
    _Claim(
        "cifar10",
        "relu22",
        "dropout",
        "feature",
        0.6,
        "dropout of 0.6 leaves SSIM < 0.25, for less than 0.8 points of accuracy",
        lambda record: (
            record["ssim_mean"] < 0.25
            and record["accuracy_undefended"] - record["accuracy"] < 0.008
        ),
    ),
]


def _claims(done: Sequence[Done]) -> list[str]:
    """What the paper says of defences, against whoever attacked them."""
    rows = []
    for claim in _CLAIMS:
        wanted = (claim.split, claim.kind, claim.site, claim.level)
        for part, own in done:
            if part.name != "defenses" or part.dataset.removesuffix("_5k") != claim.dataset:
                continue
            for record in own:
                defense = record["defense"]
                has = (record["split"], defense["kind"], defense["site"], defense["level"])
                if has == wanted:
                    verdict = "holds" if claim.holds(record) else "does not hold"
                    rows.append(
                        f"| {part.dataset} {claim.split}: {claim.says} | {record['method']} | "
                        f"{record['accuracy']:.4f} | {_quality(record)} | {verdict} |"
                    )
    if not rows:
        return []
    return [
        "| the paper says of defences (Figs. 6 to 10) | attacker | accuracy | reconstructions |  |",
        "|---|---|---|---|---|",
        *rows,
    ]


def publish(text: str, readme: Path) -> None:
    """Puts a table where a Markdown file has the lines `BEGIN` and `END`.

    Raises:
      UserError: the file has no such lines, or cannot be written.
    """
    try:
        old = readme.read_text()
    except OSError as error:
        raise UserError(f"{readme} cannot be read: {error.strerror}.") from error
    before, begin, rest = old.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UserError(f"{readme} has no lines {BEGIN} and {END} to put the table between.")
    new = f"{before}{begin}\n{text}\n{end}{after}"
    files.atomic_write(readme, lambda file: file.write(new.encode()))
