import subprocess
import sys

import fake_runs
import msgspec
import numpy as np
import pytest
import vl_convert
from PIL import Image

import jaxinv
from jaxinv.errors import UserError
from jaxinv.look.charts import (
    choices,
    convergence,
    costs,
    equal,
    learning,
    queries,
    splits,
    style,
    tradeoff,
)
from jaxinv.store.standing import Standing

EVIL = "$\\no such formula$ \x00\x1b\ud800 <b> datum.x {'expr': '1'}"


def layers(figure, panel=0):
    """The specification of a panel's layers, each with its rows."""
    spec = figure.panels[panel].chart.to_dict()
    rows = spec.get("datasets", {})
    own = spec.get("data")
    return [
        {**layer, "rows": rows[layer.get("data", own)["name"]] if rows else []}
        for layer in spec["layer"]
    ]


def drawn(figure, kind, panel=0):
    """The rows that a panel draws with marks of a kind."""
    return [row for each in layers(figure, panel) if kind == mark_of(each) for row in each["rows"]]


def mark_of(layer):
    return layer["mark"]["type"]


def series_of(rows, *keys):
    """Series -> what its rows hold."""
    found = {}
    for row in rows:
        found.setdefault(row["series"], []).append(tuple(row[key] for key in keys))
    return found


def decoded(tmp_path, figure):
    """The page of pixels that a figure is saved as."""
    path = tmp_path / "chart.png"
    style.save(path, figure)
    with Image.open(path) as image:
        assert image.format == "PNG"
        page = np.asarray(image.convert("RGB"))
    border = np.concatenate([page[:6], page[-6:]]), np.concatenate([page[:, :6], page[:, -6:]])
    assert all((edge == 255).all() for edge in border)
    return page


def colour_count(page, colour):
    rgb = tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return int((page == rgb).all(axis=2).sum())


# --- What charts share ----------------------------------------------------------------------------


def test_altair_waits_for_the_first_chart():
    modules = (
        "choices, convergence, costs, equal, learning, queries, splits, style, throughput, tradeoff"
    )
    code = f"import sys; from jaxinv.look.charts import {modules}; import jaxinv.look.grids\n"
    code += "assert not {'altair', 'vl_convert', 'matplotlib'} & set(sys.modules)"
    root = jaxinv.__path__[0] + "/.."
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)


def test_looks_are_told_apart_by_more_than_colour():
    looks = list(style.looks_of(f"cut{number}" for number in range(30)).values())
    assert len({(look.colour, look.shape, tuple(look.dash)) for look in looks}) == 30
    assert len({look.colour for look in looks[:10]}) == 10
    assert len({look.shape for look in looks[:8]}) == 8


def test_a_legend_shows_every_key_within_the_picture(tmp_path):
    keys = [style.Key(f"a rather long name of a series, {n}", style.COLOURS[1]) for n in range(9)]
    keys += [style.Key("s", style.COLOURS[0], "circle", style.DASHED)]
    chart = learning.figure({"train_loss": [1.0, 0.5]}).panels[0]
    figure = style.Figure("title", [chart, chart], keys)
    spec = style.picture(figure)["vconcat"][1]
    written = next(layer for layer in spec["layer"] if mark_of(layer) == "text")
    rows = style.picture(figure)["datasets"][written["data"]["name"]]
    assert [row["label"] for row in rows] == [key.label for key in keys]
    assert len({(row["x"], row["y"]) for row in rows}) == 10
    assert max(row["y"] for row in rows) < spec["height"]
    assert all(row["x"] + 40 + 5 * len(row["label"]) < 2 * (style.WIDTH + 70) for row in rows)
    svg = vl_convert.vegalite_to_svg(style.picture(figure))
    assert all(key.label in svg for key in keys)
    decoded(tmp_path, figure)


def test_keys_are_characters_on_the_page():
    assert style.Key("a", shape="square").glyph == "■"
    assert style.Key("a", shape="diamond", filled=False).glyph == "◇"
    assert [style.Key("a", dash=dash).dashed for dash in ((), style.SOLID, style.DASHED)] == [
        *(False, False, True)
    ]


@pytest.mark.parametrize("kind", ["png", "pdf"])
def test_any_text_and_any_number_is_drawn(tmp_path, kind):
    rows = [choice(EVIL, ssim=0.5, defense=EVIL), choice("conv1", ssim=float("nan"))]
    path = tmp_path / f"chart.{kind}"
    style.save(path, choices.figure(rows, title=EVIL))
    assert path.read_bytes()[:4] in (b"\x89PNG", b"%PDF")
    svg = vl_convert.vegalite_to_svg(style.picture(choices.figure(rows, title=EVIL)))
    assert "no such formula" in svg and "\x1b" not in svg


def test_numbers_of_numpy_are_drawn():
    rows = [{"split": "a", "num_queries": np.int64(9), **quality(np.float32(20.0))}]
    assert "<path" in vl_convert.vegalite_to_svg(style.picture(queries.figure(rows)))


def test_a_file_that_cannot_be_written_is_a_users_mistake_and_leaves_nothing(tmp_path, monkeypatch):
    figure = learning.figure({})
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="Not a directory"):
        style.save(tmp_path / "file" / "chart.png", figure)

    def fail(*args, **options):
        raise RuntimeError

    (tmp_path / "chart.png").write_bytes(b"old")
    monkeypatch.setattr(vl_convert, "vegalite_to_png", fail)
    with pytest.raises(RuntimeError):
        style.save(tmp_path / "chart.png", figure)
    assert (tmp_path / "chart.png").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_panel_of_the_page_is_as_wide_as_its_box_and_fades_the_others():
    panel = splits.figure(attacked({"alone": 1.0}), SPLITS).panels[0]
    for _ in range(2):  # the panel itself does not change
        spec = style.page(panel)
        assert spec["width"] == "container" and "hover" in {each["name"] for each in spec["params"]}
    assert "params" not in panel.chart.to_dict()
    assert "legend" not in str(spec).replace("'legend': None", "")


# --- Learning -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("history", "ends"),
    [
        (
            {"train_loss": [2.0, 0.5], "train_accuracy": [0.4, 0.9], "test_accuracy": [0.5, 0.8]},
            ("train 0.5", "train 90.00%, test 80.00%"),
        ),
        ({"train_loss": [2.0], "test_accuracy": [0.5]}, ("train 2", "test 50.00%")),
        ({"train_loss": [2.0, np.nan], "train_accuracy": [None, np.nan]}, ("train 2", "not known")),
        ({}, ("not known", "not known")),
    ],
)
def test_learning_draws_what_there_is(history, ends):
    figure = learning.figure(history, title="lenet5 on mnist")
    for number, (quantity, end) in enumerate(zip(("loss", "accuracy"), ends, strict=True)):
        assert figure.panels[number].title.endswith(f": {end}")
        found = {
            name: [(epoch, value) for epoch, value in enumerate(values, 1) if style.finite(value)]
            for name in ("train", "test")
            if (values := history.get(f"{name}_{quantity}"))
        }
        rows = series_of(drawn(figure, "point", number), "x", "y")
        assert rows == {name: points for name, points in found.items() if points}


def test_learning_shows_both_accuracies(tmp_path):
    history = {"train_loss": [2, 1], "train_accuracy": [0.2, 0.9], "test_accuracy": [0.3, 0.7]}
    figure = learning.figure(history, title="lenet5 on mnist")
    scales = [layers(figure, panel)[-1]["encoding"]["y"]["scale"] for panel in (0, 1)]
    assert [scale["zero"] for scale in scales] == [True, False]
    page = decoded(tmp_path, figure)
    half, (blue, orange) = page.shape[1] // 2, style.COLOURS[:2]
    panels = page[: 2 * style.HEIGHT]  # above the legend
    for columns, colour, present in [
        (slice(0, half), blue, True),
        (slice(0, half), orange, False),
        (slice(half, None), blue, True),
        (slice(half, None), orange, True),
    ]:
        assert (colour_count(panels[:, columns], colour) > 100) == present


# --- Convergence ----------------------------------------------------------------------------------


def way(number, *, last=30.0, **more):
    """The curve of an attack, seen `number` times."""
    steps, psnr = np.arange(1, number + 1), np.linspace(10, last, number)
    misfit = 10.0 ** -np.arange(number)
    return {
        "steps": steps.tolist(),
        "seconds": (steps * 0.01).tolist(),
        **{"psnr_mean": psnr, "psnr_low": psnr - 1, "psnr_high": psnr + 1},
        **{"misfit_median": misfit, "misfit_low": misfit / 2, "misfit_high": misfit * 2},
        **more,
    }


NO_NUMBERS = dict.fromkeys(
    (f"{name}_{end}" for name in ("psnr", "misfit") for end in ("low", "high")), [None] * 3
) | {"psnr_mean": [None] * 3, "misfit_median": [None] * 3}


@pytest.mark.parametrize(
    ("curves", "counts"),
    [
        ({"paper": way(5), "tv": way(2)}, [7, 7, 7, 7]),
        ({"one step": way(1)}, [1, 1, 1, 1]),
        ({"an exact match": way(3, misfit_median=[0, 0, 0])}, [3, 3, 0, 0]),
        ({"all diverged": way(3, **NO_NUMBERS)}, [0, 0, 0, 0]),
    ],
)
def test_convergence_draws_what_there_is(curves, counts):
    figure = convergence.figure(curves)
    assert [len(drawn(figure, "line", panel)) for panel in range(4)] == counts
    assert [len(drawn(figure, "area", panel)) for panel in range(4)] == counts
    assert vl_convert.vegalite_to_svg(style.picture(figure))


def test_convergence_draws_each_attack_in_every_panel(tmp_path):
    curves = {"paper": way(9), "tv": way(5, last=20)}
    figure = convergence.figure(curves, title="title")
    assert [key.label for key in figure.legend] == ["paper: 30.0 dB", "tv: 20.0 dB"]
    for panel, (along, name, middle) in enumerate(
        (along, name, middle)
        for name, middle in (("psnr", "mean"), ("misfit", "median"))
        for along in ("steps", "seconds")
    ):
        rows = series_of(drawn(figure, "line", panel), "x", "y", "y_low", "y_high")
        for attack, curve in curves.items():
            columns = [curve[along], *(curve[f"{name}_{end}"] for end in (middle, "low", "high"))]
            assert rows[attack] == list(zip(*columns, strict=True))
    page = decoded(tmp_path, figure)[: -2 * 40]
    middle, half = page.shape[0] // 2, page.shape[1] // 2
    for rows in (slice(0, middle), slice(middle, None)):
        for columns in (slice(0, half), slice(half, None)):
            for colour in style.COLOURS[:2]:
                assert colour_count(page[rows, columns], colour) > 100


def test_convergence_marks_ends_and_where_a_stage_begins():
    stages = {"stage_steps": [4.5], "stage_seconds": [0.045]}
    figure = convergence.figure({"hybrid": way(9, **stages), "tv": way(5)})
    rows = drawn(figure, "point")
    assert [(row["series"], row["x"]) for row in rows] == [
        ("hybrid", 9),
        ("tv", 5),
        ("hybrid", 4.5),
    ]
    assert rows[-1]["y"] == pytest.approx(10 + 3.5 * 20 / 8)
    assert figure.legend[-1].label == "a later stage begins"
    assert len(convergence.figure({"hybrid": way(9)}).legend) == 1


def test_convergence_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one attack"):
        convergence.figure({})


# --- Queries and splits ---------------------------------------------------------------------------


def quality(mean, ssim=None):
    """Means and intervals as a record has them."""
    ssim = None if mean is None else mean / 25 if ssim is None else ssim
    return {
        f"{name}_{end}": None
        if value is None
        else value
        if end == "mean"
        else [value - 1, value + 1]
        for name, value in (("psnr", mean), ("ssim", ssim))
        for end in ("mean", "ci")
    }


def asked(split, count, *, scale=1.0):
    return [
        {"split": split, "num_queries": 100 * 3**place, **quality(scale * (10 + place))}
        for place in reversed(range(count))
    ]


@pytest.mark.parametrize("number", [1, 3, 11])
def test_queries_have_both_measures_and_a_line_a_split(number):
    rows = [row for i in range(number) for row in asked(f"layer{i}", 5, scale=1 - 0.05 * i)]
    figure = queries.figure(rows, title="title")
    assert [key.label for key in figure.legend] == [f"layer{i}" for i in range(number)]
    for panel, name in enumerate(("ssim", "psnr")):
        found = series_of(drawn(figure, "line", panel), "x", "y", "y_low", "y_high")
        assert list(found) == [f"layer{i}" for i in range(number)]
        assert found["layer0"] == [
            (row["num_queries"], row[f"{name}_mean"], *row[f"{name}_ci"])
            for row in reversed(rows[:5])
        ]


def test_queries_leave_out_what_diverged_and_refuse_nothing(tmp_path):
    rows = [{"split": "relu2", "num_queries": 100, **quality(None)}, *asked("relu2", 3)]
    assert len(drawn(queries.figure(rows), "point")) == 3
    assert colour_count(decoded(tmp_path, queries.figure(rows)), style.COLOURS[0]) > 100
    with pytest.raises(ValueError, match="at least one"):
        queries.figure([])


SPLITS = ["conv1", "relu1", "relu2", "fc1"]


def attacked(attackers, **more):
    return [
        {"split": split, "attacker": name, **quality(scale * (20 - 3 * place)), **more}
        for place, split in reversed(list(enumerate(SPLITS)))
        for name, scale in attackers.items()
    ]


def test_splits_have_both_measures_and_a_line_an_attacker(tmp_path):
    rows = attacked({"alone": 1.0, "joint": 1.2})
    figure = splits.figure(rows, SPLITS, title="title")
    assert [panel.title for panel in figure.panels] == ["SSIM", "PSNR (dB)"]
    found = series_of(drawn(figure, "line", 1), "x", "y")
    assert found["alone"] == [("conv1", 20), ("relu1", 17), ("relu2", 14), ("fc1", 11)]
    assert len(found["joint"]) == 4
    page = decoded(tmp_path, figure)[: 2 * style.HEIGHT]
    half = page.shape[1] // 2
    for colour in style.COLOURS[:2]:
        for columns in (slice(0, half), slice(half, None)):
            assert colour_count(page[:, columns], colour) > 100
    with pytest.raises(ValueError, match="at least one"):
        splits.figure([], SPLITS)


def test_attackers_of_splits_stand_side_by_side_so_that_none_hides_another():
    figure = splits.figure(attacked({"alone": 1.0, "joint": 1.0}), SPLITS)
    for layer in layers(figure):
        assert layer["encoding"]["xOffset"]["field"] == "series"


def test_splits_show_what_the_paper_prints_and_who_attacks():
    printed = {"ssim_printed": 0.6, "psnr_printed": 15.1}
    rows = attacked({"a": 1.0}, threat="white-box", method="paper", **printed)
    rows += attacked({"b": 1.0}, threat="white-box", method="strong")
    rows += attacked({"c": 1.0}, threat="black-box", method="strong")
    figure = splits.figure(rows, SPLITS)
    a, b, c, last = figure.legend
    assert a.colour == b.colour != c.colour and a.shape != b.shape == c.shape
    assert a.dashed and not b.dashed and last.label == "the paper prints"
    assert [row["y"] for row in layers(figure)[0]["rows"]] == [0.6] * 4
    assert [row["y"] for row in layers(figure, 1)[0]["rows"]] == [15.1] * 4


# --- Trade-offs -----------------------------------------------------------------------------------


def levels(kind, site, count, *, attacker="paper", scale=1.0, **more):
    """The rows of a defence at `count` levels."""
    rows = []
    for level, accuracy, ssim in zip(
        range(count),
        np.linspace(0.99, 0.5, count),
        scale * np.linspace(0.9, 0.2, count),
        strict=True,
    ):
        row = {"attacker": attacker, "kind": kind, "site": site, "level": f"{level / 10:g}"}
        row |= {"usability_mean": accuracy, "usability_ci": [accuracy - 0.01, accuracy + 0.01]}
        rows.append({**row, **quality(30 * ssim, ssim), **more})
    return rows


def test_tradeoffs_have_both_measures_and_a_column_an_attacker(tmp_path):
    rows = levels("dropout", "feature", 10) + levels("noise", "input", 5, scale=0.7)
    rows += levels("dropout", "feature", 10, attacker="adaptive")
    figure = tradeoff.figure(rows, title="title")
    assert figure.columns == 2
    assert [panel.title for panel in figure.panels] == [
        *("SSIM, paper", "SSIM, adaptive", "PSNR (dB), paper", "PSNR (dB), adaptive")
    ]
    for panel, (name, attacker) in enumerate(
        (name, attacker) for name in ("ssim", "psnr") for attacker in ("paper", "adaptive")
    ):
        own = [row for row in rows if row["attacker"] == attacker]
        keys = ("x", "x_low", "x_high", "y", "y_low", "y_high")
        assert [tuple(row[key] for key in keys) for row in drawn(figure, "line", panel)] == [
            (row[f"{name}_mean"], *row[f"{name}_ci"], row["usability_mean"], *row["usability_ci"])
            for row in own
        ]
    page = decoded(tmp_path, figure)[:-120]  # above the legend
    middle, half = page.shape[0] // 2, page.shape[1] // 2
    for part in (slice(0, middle), slice(middle, None)):
        for columns, present in ((slice(0, half), True), (slice(half, None), False)):
            assert colour_count(page[part, columns], style.COLOURS[0]) > 100
            assert (colour_count(page[part, columns], style.COLOURS[1]) > 100) == present


@pytest.mark.parametrize(
    ("rows", "count"),
    [
        (levels("dropout", "feature", 1), 1),
        (levels(EVIL, "input", 3), 3),
        (levels("noise", "input", 3, psnr_mean=None, ssim_mean=np.nan), 0),
        (levels("noise", "input", 2, usability_ci=[None, None], ssim_ci=[None, None]), 2),
        (levels("noise", "input+feature", 2, usability_ci=None), 2),
        ([row for i in range(9) for row in levels(f"kind {i}", "input", 9)], 81),
    ],
)
def test_tradeoffs_draw_what_there_is(rows, count):
    figure = tradeoff.figure(rows)
    assert len(drawn(figure, "point")) == count
    assert len(figure.legend) == len({row["kind"] for row in rows}) + 1 + 2
    assert vl_convert.vegalite_to_svg(style.picture(figure))


def test_wide_intervals_stay_within_their_panel():
    wide = {"usability_ci": [0.0, 1.0], "ssim_ci": [-1, 2], "psnr_ci": [0, 90]}

    def size(**more):
        figure = tradeoff.figure(levels("dropout", "feature", 5, **more))
        return vl_convert.vegalite_to_svg(style.picture(figure)).split("viewBox")[1].split(">")[0]

    assert size().split()[3] == size(**wide).split()[3]


def test_lines_of_one_kind_and_site_can_be_several():
    rows = levels("dropout", "input", 3, line="1") + levels("dropout", "input", 3, line="2")
    assert len(series_of(drawn(tradeoff.figure(rows), "line"))) == 2


def test_a_defence_of_the_input_is_dashed():
    figure = tradeoff.figure(levels("dropout", "input", 3) + levels("dropout", "feature", 3))
    line = next(layer for layer in layers(figure) if mark_of(layer) == "line")
    scale = line["encoding"]["strokeDash"]["scale"]
    assert dict(zip(scale["domain"], scale["range"], strict=True)) == {
        **{"dropout, input": style.DASHED, "dropout, feature": style.SOLID}
    }


@pytest.mark.parametrize(
    ("claims", "axes"), [((0.25, None), "x"), ((None, 0.95), "y"), ((0.25, 0.95), "yx")]
)
def test_the_papers_claims_are_lines_across_the_panels(claims, axes):
    figure = tradeoff.figure(levels("dropout", "feature", 3), claims=claims)
    dotted = [layer for layer in layers(figure) if layer["mark"].get("strokeDash")]
    found = [(axis, layer["rows"][0][axis]) for layer in dotted for axis in layer["encoding"]]
    assert found == [(axis, claims["xy".index(axis)]) for axis in axes]
    assert len(figure.legend) == 2 + len(axes)
    dotted = [layer for layer in layers(figure, 1) if layer["mark"].get("strokeDash")]
    assert [list(layer["encoding"]) for layer in dotted] == [["y"]] * ("y" in axes)


def test_tradeoffs_of_nothing_and_of_unknown_sites_are_refused():
    with pytest.raises(ValueError, match="at least one"):
        tradeoff.figure([])
    for site in ("", "cloud"):
        with pytest.raises(ValueError, match="Expected a site of feature, input"):
            tradeoff.figure(levels("dropout", site, 3))


def boxes(figure, panel=0):
    """Middle and half size of each level that is written, in pixels."""
    text = next(layer for layer in layers(figure, panel) if mark_of(layer) == "text")
    x, y = (text["encoding"][axis]["scale"]["domain"] for axis in "xy")
    found = []
    for row in text["rows"]:
        at = np.array(
            [
                (row["x"] - x[0]) / (x[1] - x[0]) * style.WIDTH,
                (y[1] - row["y"]) / (y[1] - y[0]) * style.HEIGHT,
            ]
        )
        half = np.array([3.0 * len(row["level"]), 5])
        found.append((at + np.array([row["dx"], row["dy"]]), half, row))
    return found


def test_levels_cover_neither_each_other_nor_leave_the_panel():
    rows = [row for i in range(5) for row in levels(f"k{i}", "input", 9, scale=1 - 0.02 * i)]
    found = boxes(tradeoff.figure(rows))
    for number, (middle, half, _) in enumerate(found):
        assert (middle - half >= 0).all()
        assert (middle + half <= (style.WIDTH, style.HEIGHT)).all()
        for other, size, _ in found[:number]:
            assert (np.abs(middle - other) >= half + size).any()
    assert 10 <= len(found) < 45


def test_ends_of_lines_have_their_level_and_lines_that_begin_together_share_one():
    rows = levels("dropout", "input", 6) + levels("noise", "input", 6, scale=0.999)
    written = [(row["series"], row["level"]) for *_, row in boxes(tradeoff.figure(rows))]
    assert ("dropout, input", "0") in written and ("dropout, input", "0.5") in written
    assert len(written) == len({level for _, level in written})


def test_a_label_is_where_it_hides_least():
    point, half = np.array([50.0, 50]), np.array([8.0, 5])
    taken = np.zeros((0, 2, 2))
    line = np.stack([np.full(101, 50.0), np.arange(101.0)], axis=1)
    middle = tradeoff.room(point, half, taken, line, most_hidden=0)
    assert not (np.abs(line - middle) <= half).all(axis=1).any()
    everywhere = np.stack(np.meshgrid(*[np.arange(101.0)] * 2), -1).reshape(-1, 2)
    assert tradeoff.room(point, half, taken, everywhere, most_hidden=0) is None
    assert tradeoff.room(point, half, taken, everywhere, most_hidden=10**6) is not None
    for corner in ((0, 0), (style.WIDTH, 0), (0, style.HEIGHT), (style.WIDTH, style.HEIGHT)):
        middle = tradeoff.room(np.array(corner), half, taken, taken[:, 0], most_hidden=0)
        assert (middle >= half).all() and (middle + half <= (style.WIDTH, style.HEIGHT)).all()


# --- Costs and choices ----------------------------------------------------------------------------


def cost_row(split="conv1", **changes):
    values = {"edge_s": 0.001, "uplink_s": 0.02, "cloud_s": 0.0, "edge_j": 1e-3, "uplink_j": 2e-3}
    return {"split": split, **values, "wait_j": 3e-3, "tail_j": 4e-3, **changes}


def test_costs_are_stacked_and_name_their_splits(tmp_path):
    rows = [cost_row("cloud-only"), cost_row("$x^2_"), cost_row("edge-only", uplink_s=0.0)]
    figure = costs.figure(rows, title="$a_b")
    assert [(row["y"], row["text"]) for row in drawn(figure, "text")] == [
        *(("cloud-only", "21"), ("$x^2_", "21"), ("edge-only", "1"))
    ]
    found = series_of(drawn(figure, "bar"), "y", "x")
    assert list(found) == ["edge", "uplink", "cloud"]
    assert [x for _, x in found["uplink"]] == pytest.approx([20, 20, 0])  # ms
    energy = series_of(drawn(figure, "bar", 1), "x")
    mj = {"edge": 1.0, "uplink": 2.0, "wait": 3.0, "tail": 4.0}
    assert energy == {part: [(value,)] * 3 for part, value in mj.items()}
    assert [row["text"] for row in drawn(figure, "text", 1)] == ["10"] * 3
    page = decoded(tmp_path, figure)
    assert colour_count(page, style.COLOURS[0]) > 1000 < colour_count(page, style.COLOURS[1])
    many = costs.figure([cost_row(f"layer{i}") for i in range(15)])
    assert layers(many) and many.panels[0].chart.height > figure.panels[0].chart.height
    with pytest.raises(ValueError, match="at least one split"):
        costs.figure([])


@pytest.mark.parametrize(
    ("largest", "expected"),
    [(2.0, (1, "")), (0.02, (1e3, "m")), (3e-5, (1e6, "µ")), (0, (1e6, "µ"))],
)
def test_units_have_a_prefix_that_suits_the_largest(largest, expected):
    assert costs.prefix_of([0.0, largest]) == expected


def choice(split, *, ssim, defense="none", **changes):
    row = {"split": split, "defense": defense, "kind": defense.split()[0], "ssim_mean": ssim}
    row |= {"ssim_ci": [ssim, ssim], "reid": 0.1, "reid_ci": [0.05, 0.2], "usability_mean": 0.9}
    row |= {"energy_j": 0.002, "latency_s": 0.02}
    return {**row, "pareto": True, "meets": True, "recommended": False, **changes}


def test_choices_are_drawn_with_what_is_not_known_left_out(tmp_path):
    rows = [
        choice("conv1", ssim=0.9),
        choice("$x^2_", ssim=0.5, defense="dropout+gaussian 0.2+0.3 at the input", pareto=False),
        choice("edge-only", ssim=float("nan"), recommended=True),
    ]
    figure = choices.figure(rows, title="$a_b")
    assert [panel.title for panel in figure.panels] == [
        "SSIM left to the strongest attacker",
        "share that an attacker re-identifies",
        "accuracy",
        "energy of the edge for one image (mJ)",
        "latency of one image (ms)",
    ]
    points = [drawn(figure, "point", panel) for panel in range(5)]
    symbols = [{(row["y"], row["x"]) for row in own} for own in points]
    assert symbols[0] == {("conv1", 0.9), ("$x^2_", 0.5)}
    assert symbols[1] == {("conv1", 0.1), ("$x^2_", 0.1), ("edge-only", 0.1)}
    assert symbols[2] == {("conv1", 0.9), ("$x^2_", 0.9), ("edge-only", 0.9)}
    assert symbols[3] == {("conv1", 2.0), ("$x^2_", 2.0), ("edge-only", 2.0)}
    labels = [key.label for key in figure.legend]
    assert labels == [
        *("none", "dropout+gaussian 0.2+0.3 at the input"),
        *("in a ring: recommended", "hollow: not in the Pareto set"),
    ]
    page = decoded(tmp_path, figure)
    assert page.shape[1] > 1000 and colour_count(page, style.COLOURS[1]) > 50
    with pytest.raises(ValueError, match="at least one choice"):
        choices.figure([])


def test_choices_of_a_cut_stand_below_each_other_and_cuts_keep_their_order():
    names = ("none", "gaussian 0.5", "gaussian 2")
    rows = [choice(cut, ssim=1.0, defense=name) for cut in ("fc1", "conv1") for name in names]
    figure = choices.figure(rows)
    for layer in layers(figure):
        assert layer["encoding"]["yOffset"]["scale"]["domain"] == list(names)
        assert layer["encoding"]["y"]["sort"] == ["fc1", "conv1"]
    many = [choice("conv1", ssim=0.5, defense=f"gaussian {level}") for level in range(9)]
    assert choices.figure(many).legend[0].label == "gaussian"


def marks_of(spec, layer):
    """The marks of a layer as they are drawn, in SVG."""
    svg = vl_convert.vegalite_to_svg({**spec, "width": 300})
    return svg.split(f"layer_{layer}_marks")[1].split("</g>")[0]


def test_the_pareto_set_is_filled_and_what_is_recommended_is_in_a_ring():
    rows = [
        choice(f"cut{place}", ssim=0.5, pareto=place < 3, recommended=place == 1)
        for place in range(5)
    ]
    spec = style.page(choices.figure(rows).panels[0])
    assert marks_of(spec, 2).count('fill-opacity="0"') == 2
    assert (marks_of(spec, 2).count("<path"), marks_of(spec, 1).count("<path")) == (5, 1)


@pytest.mark.parametrize(
    ("chosen", "count"),
    [({}, 4), ({"kind": "gaussian"}, 2), ({"meets": True}, 3), ({"split": "fc1"}, 2)],
)
def test_the_page_chooses_which_choices_are_shown(chosen, count):
    rows = [
        choice(cut, ssim=0.5, defense=name, meets=(cut, name) != ("fc1", "gaussian 1"))
        for cut in ("conv1", "fc1")
        for name in ("none", "gaussian 1")
    ]
    spec = style.page(choices.figure(rows).panels[0])
    for param in spec["params"]:
        param["value"] = chosen.get(param["name"], param["value"])
    assert marks_of(spec, 2).count("<path") == count


# --- Defences at equal accuracy -------------------------------------------------------------------


def entered(defense, claim, most, **values):
    return msgspec.convert(fake_runs.standing(defense, claim, most, **values), Standing)


def test_the_least_leaking_defence_is_first_and_its_two_attackers_are_joined():
    figure = equal.figure(
        [
            entered("vib", 0.2, 0.9),
            entered("cem", 0.4, 0.6),
            entered("vib", 0.3, 0.5, loss=5.0, claimed=None),
        ]
    )
    assert [panel.title for panel in figure.panels] == [
        "SSIM at 1 point of accuracy",
        "SSIM at 5 points of accuracy",
    ]
    joined, bars, symbols = layers(figure)
    assert symbols["encoding"]["y"]["sort"] == ["cem", "vib"]
    assert sorted((row["y"], row["x"], row["x2"]) for row in joined["rows"]) == [
        ("cem", 0.4, 0.6),
        ("vib", 0.2, 0.9),
    ]
    ends = [(row["x_low"], row["x_high"]) for row in bars["rows"]]
    assert ends[3] == pytest.approx((0.55, 0.65))
    found = series_of(symbols["rows"], "y", "x")
    assert found["claimed"] == [("vib", 0.2), ("cem", 0.4)]
    told = series_of(symbols["rows"], "Defence", "Level", "Attacker", "SSIM")
    assert told["strongest"][0] == ("vib", "0.3", "white-box, adaptive", "0.900 [0.850, 0.950]")
    assert len(layers(figure, 1)[0]["rows"]) == 0  # one attacker is joined to nobody


def test_equal_accuracy_is_drawn_in_two_colours(tmp_path):
    figure = equal.figure([entered("vib", 0.2, 0.9)], title="title")
    page = decoded(tmp_path, figure)
    assert all(colour_count(page, key.colour) > 50 for key in figure.legend)


def test_without_a_finite_score_there_is_no_chart_of_equal_accuracy():
    assert equal.figure([]) is None
    assert equal.figure([entered("vib", 0.2, 0.9, claimed=None, strongest=None)]) is None
