import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import jaxinv
from jaxinv.look import figures


def random_images(*shape):
    return np.random.default_rng(0).random(shape)


def decoded(path):
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def corners(page, image):
    """(row, column) of every place where the page shows `image`, each pixel a whole square."""
    pixels = np.round(255 * np.broadcast_to(image, (*image.shape[:2], 3))).astype(np.uint8)
    scale = max(1, round(112 / max(image.shape[:2])))
    block = pixels.repeat(scale, axis=0).repeat(scale, axis=1)
    height, width = block.shape[:2]
    candidates = np.argwhere((page == block[0, 0]).all(axis=2))
    return [
        (row, column)
        for row, column in candidates.tolist()
        if np.array_equal(page[row : row + height, column : column + width], block)
    ]


@pytest.mark.parametrize(
    "history",
    [
        {"train_loss": [2.0, 0.5], "train_accuracy": [0.4, 0.9], "test_accuracy": [0.5, 0.8]},
        {"train_loss": [2.0], "test_accuracy": [0.5]},
        {"train_loss": [2.0, np.nan], "train_accuracy": [np.nan, np.nan]},
        {},
    ],
)
def test_learning_curve_draws_what_there_is(tmp_path, history):
    figures.learning_curve(tmp_path / "curve.png", history, title="lenet5 on mnist")
    assert decoded(tmp_path / "curve.png").shape == (480, 1200, 3)


def test_learning_curve_shows_both_accuracies(tmp_path):
    history = {"train_loss": [2, 1], "train_accuracy": [0.2, 0.9], "test_accuracy": [0.3, 0.7]}
    figures.learning_curve(tmp_path / "both.png", history)
    page = decoded(tmp_path / "both.png")
    blue, orange = (0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)
    for half, colour, present in [
        (page[:, :600], blue, True),
        (page[:, :600], orange, False),
        (page[:, 600:], blue, True),
        (page[:, 600:], orange, True),
    ]:
        assert (half == colour).all(axis=2).any() == present


def way(number, *, last=30.0, **more):
    """What `convergence_curves` draws of an attack, seen `number` times."""
    steps, psnr = np.arange(1, number + 1), np.linspace(10, last, number)
    misfit = 10.0 ** -np.arange(number)
    return {
        "steps": steps,
        "seconds": steps * 0.01,
        **{"psnr_mean": psnr, "psnr_low": psnr - 1, "psnr_high": psnr + 1},
        **{"misfit_median": misfit, "misfit_low": misfit / 2, "misfit_high": misfit * 2},
        **more,
    }


NO_NUMBERS = dict.fromkeys(
    (f"{name}_{what}" for name in ("psnr", "misfit") for what in ("low", "high")), [None] * 3
) | {"psnr_mean": [None] * 3, "misfit_median": [None] * 3}


@pytest.mark.parametrize(
    "curves",
    [
        {"paper": way(50), "tv": way(20), "map": way(3, stage_steps=[2], stage_seconds=[0.02])},
        {"one step": way(1)},
        {r"$\no such formula$": way(3)},
        {"an exact match": way(3, misfit_median=[0, 0, 0])},
        {"all diverged": way(3, **NO_NUMBERS)},
    ],
)
def test_convergence_draws_what_there_is(tmp_path, curves):
    path = tmp_path / "convergence.png"
    figures.convergence_curves(path, curves, title=r"$\no such formula$")
    page = decoded(path)
    assert page.shape == (900, 1200, 3)
    border = np.concatenate([page[:6], page[-6:]]), np.concatenate([page[:, :6], page[:, -6:]])
    assert all((edge == 255).all() for edge in border)


def count_of(page, colour):
    return int((page == colour).all(axis=2).sum())


def test_convergence_draws_each_attack_in_every_panel(tmp_path):
    path = tmp_path / "convergence.png"
    figures.convergence_curves(path, {"paper": way(9), "tv": way(5, last=20)})
    page = decoded(path)[120:]  # below the legend
    orange, blue = (0xD5, 0x5E, 0x00), (0x00, 0x72, 0xB2)
    for rows in (slice(0, 390), slice(390, None)):
        for columns in (slice(0, 600), slice(600, None)):
            for colour in (orange, blue):
                assert count_of(page[rows, columns], colour) > 100


def test_convergence_marks_where_a_stage_begins(tmp_path):
    def oranges(**stages):
        path = tmp_path / "convergence.png"
        figures.convergence_curves(path, {"hybrid": way(9, **stages)})
        return count_of(decoded(path)[120:], (0xD5, 0x5E, 0x00))

    assert oranges(stage_steps=[4], stage_seconds=[0.04]) > oranges() + 4 * 15


@pytest.mark.parametrize("number", [0, 8])
def test_convergence_of_too_few_or_too_many_attacks_is_refused(tmp_path, number):
    with pytest.raises(ValueError, match="Expected 1 to 7"):
        figures.convergence_curves(tmp_path / "c.png", {str(i): way(3) for i in range(number)})
    assert not list(tmp_path.iterdir())


def quality(count, *, scale=1.0):
    """A split's curve, as `query_curves` takes it."""
    mean = scale * np.linspace(10, 20, count)
    curve = {"queries": [100 * 3**i for i in range(count)]}
    for name, values in (("psnr", mean), ("ssim", mean / 25)):
        curve |= {f"{name}_mean": values, f"{name}_low": 0.9 * values, f"{name}_high": 1.1 * values}
    return curve


@pytest.mark.parametrize("number", [1, 3, 11])
def test_query_curves_have_both_measures_and_a_line_a_split(tmp_path, number):
    path = tmp_path / "queries.png"
    curves = {f"layer{i}": quality(5, scale=1 - 0.05 * i) for i in range(number)}
    figures.query_curves(path, curves, title="title")
    page = decoded(path)
    assert page.shape[:2] == (570, 1200)
    orange = figures._PALETTE[0]
    if number <= len(figures._PALETTE):
        colour = tuple(int(orange[i : i + 2], 16) for i in (1, 3, 5))
        for columns in (slice(0, 600), slice(600, None)):
            assert count_of(page[120:, columns], colour) > 100


def test_query_curves_leave_out_what_diverged(tmp_path):
    curve = quality(3)
    for name in ("psnr", "ssim"):
        for what in ("mean", "low", "high"):
            curve[f"{name}_{what}"] = [None, *curve[f"{name}_{what}"][1:]]
    figures.query_curves(tmp_path / "queries.png", {"relu2": curve})
    assert decoded(tmp_path / "queries.png").size


def test_query_curves_of_nothing_are_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one"):
        figures.query_curves(tmp_path / "queries.png", {})


def test_split_curves_have_both_measures_and_a_line_an_attacker(tmp_path):
    path = tmp_path / "splits.png"
    curves = {"alone": quality(4), "joint": quality(4, scale=1.2)}
    figures.split_curves(path, ["conv1", "relu1", "relu2", "fc1"], curves, title="title")
    page = decoded(path)
    for colour in figures._PALETTE[:2]:
        rgb = tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))
        for columns in (slice(0, 600), slice(600, None)):
            assert count_of(page[120:, columns], rgb) > 100
    with pytest.raises(ValueError, match="at least one"):
        figures.split_curves(path, ["conv1"], {})


def tradeoff(count, *, scale=1.0, **more):
    """A defence's curve, as `tradeoff_curves` takes it."""
    accuracy, ssim = np.linspace(0.99, 0.5, count), scale * np.linspace(0.9, 0.2, count)
    curve = {"level": np.arange(count) / 10, "accuracy": accuracy}
    curve |= {"accuracy_low": accuracy - 0.01, "accuracy_high": accuracy + 0.01}
    for name, values in (("ssim", ssim), ("psnr", 30 * ssim)):
        curve |= {f"{name}_mean": values, f"{name}_low": 0.9 * values, f"{name}_high": 1.1 * values}
    return {**curve, **more}


BLUE, ORANGE, CLAIM = (0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00), (0x99, 0x99, 0x99)


def test_tradeoffs_have_both_measures_and_a_column_an_attacker(tmp_path):
    path = tmp_path / "tradeoff.png"
    two = {"dropout, feature": tradeoff(10), "noise, input": tradeoff(5, scale=0.7)}
    panels = {"paper": two, "adaptive": {"dropout, feature": tradeoff(10)}}
    figures.tradeoff_curves(path, panels, title=r"$\no such formula$")
    page = decoded(path)
    assert page.shape == (1200, 1500, 3)
    border = np.concatenate([page[:6], page[-6:]]), np.concatenate([page[:, :6], page[:, -6:]])
    assert all((edge == 255).all() for edge in border)
    for rows in (slice(60, 550), slice(600, 1050)):
        for columns, present in ((slice(0, 750), True), (slice(750, None), False)):
            assert count_of(page[rows, columns], ORANGE) > 100
            assert (count_of(page[rows, columns], BLUE) > 100) == present


@pytest.mark.parametrize(
    "panels",
    [
        {"adaptive": {"dropout, feature": tradeoff(1)}},
        {"adaptive": {"dropout, input": tradeoff(0)}},
        {"adaptive": {r"$\no such formula$, input": tradeoff(3)}, r"$\neither$": {}},
        {"adaptive": {"noise, input": tradeoff(3, psnr_mean=[None] * 3, ssim_mean=[np.nan] * 3)}},
        {"adaptive": {"noise, input": tradeoff(2, accuracy_low=[None] * 2, ssim_low=[None] * 2)}},
        {str(a): {f"kind {i}, input": tradeoff(9) for i in range(9)} for a in range(3)},
        {"paper": {f"relu{i}2: dropout, feature": tradeoff(6) for i in range(5)}},
    ],
)
def test_tradeoffs_draw_what_there_is(tmp_path, panels):
    path = tmp_path / "tradeoff.png"
    figures.tradeoff_curves(path, panels)
    page = decoded(path)
    border = np.concatenate([page[:6], page[-6:]]), np.concatenate([page[:, :6], page[:, -6:]])
    assert all((edge == 255).all() for edge in border)


def test_a_defence_of_the_input_is_dashed(tmp_path):
    def oranges(site):
        path = tmp_path / "tradeoff.png"
        figures.tradeoff_curves(path, {"paper": {f"dropout, {site}": tradeoff(3)}})
        return count_of(decoded(path), ORANGE)

    assert oranges("input") < 0.9 * oranges("feature")


def test_the_papers_claims_are_lines_across_the_panels(tmp_path):
    def lines(claims):
        """How many rows and columns are grey, mostly."""
        path = tmp_path / "tradeoff.png"
        curves = {"dropout, feature": tradeoff(3)}
        figures.tradeoff_curves(path, {"paper": curves}, claims=claims)
        grey = (np.abs(decoded(path).astype(int) - CLAIM) < 40).all(axis=2)
        return [
            int((grey.mean(axis=axis) > share).sum()) > 0 for axis, share in ((1, 0.6), (0, 0.3))
        ]

    assert lines((0.25, None)) == [False, True]
    assert lines((None, 0.95)) == [True, False]


@pytest.mark.parametrize("panels", [{}, {"paper": {}}])
def test_tradeoffs_of_nothing_are_refused(tmp_path, panels):
    with pytest.raises(ValueError, match="at least one"):
        figures.tradeoff_curves(tmp_path / "tradeoff.png", panels)


@pytest.mark.parametrize("name", ["dropout", "dropout, cloud", ", input"])
def test_a_defence_must_tell_its_site(tmp_path, name):
    with pytest.raises(ValueError, match="<kind>, feature"):
        figures.tradeoff_curves(tmp_path / "tradeoff.png", {"paper": {name: tradeoff(3)}})


def test_labels_cover_neither_each_other_nor_what_is_drawn():
    frame, half = np.array([[0.0, 0], [100, 100]]), np.array([8.0, 5])
    taken, covered = np.zeros((0, 2, 2)), figures._along(np.array([[50.0, 0], [50, 100]]))
    point = np.array([50.0, 50])
    for _ in range(20):
        middle = figures._room(point, half, frame, taken, covered, most_covered=0)
        if middle is None:
            break
        assert not (np.abs(covered - middle) <= half).all(axis=1).any()
        assert not (np.abs(taken[:, 0] - middle) < half + taken[:, 1]).all(axis=1).any()
        taken = np.concatenate([taken, [[middle, half]]])
    assert 2 <= len(taken) < 20
    corner = figures._room(np.array([100.0, 100]), half, frame, taken[:0], covered, most_covered=0)
    assert (corner + half <= 100).all()


def test_an_end_of_a_line_is_labelled_even_where_that_hides_something():
    frame, half = np.array([[0.0, 0], [100, 100]]), np.array([8.0, 5])
    taken, covered = np.zeros((0, 2, 2)), np.stack(np.meshgrid(*[np.arange(101.0)] * 2), -1)
    place = (np.array([50.0, 50]), half, frame, taken, covered.reshape(-1, 2))
    assert figures._room(*place, most_covered=0) is None
    assert figures._room(*place, most_covered=10**6) is not None


def test_ends_of_lines_are_labelled_first():
    assert [place[:2] for place in figures._label_order([3, 1])] == [(0, 0), (0, 2), (1, 0), (0, 1)]


def test_matplotlib_waits_for_the_first_picture():
    code = "import sys, jaxinv.look.figures; assert 'matplotlib' not in sys.modules"
    root = jaxinv.__path__[0] + "/.."
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)


def size_of(path):
    with Image.open(path) as image:
        return image.size


def cost_row(split="conv1", **changes):
    values = {"edge_s": 0.001, "uplink_s": 0.02, "cloud_s": 0.0, "edge_j": 1e-3, "uplink_j": 2e-3}
    return {"split": split, **values, **changes}


def test_costs_are_stacked_and_name_their_splits(tmp_path):
    rows = [cost_row("cloud-only"), cost_row("$x^2_"), cost_row("edge-only", uplink_s=0.0)]
    figures.cost_bars(tmp_path / "costs.png", rows, title="$a_b")
    few = size_of(tmp_path / "costs.png")
    figures.cost_bars(tmp_path / "costs.png", rows * 5)
    assert size_of(tmp_path / "costs.png")[1] > few[1]  # a bar each
    with pytest.raises(ValueError, match="at least one split"):
        figures.cost_bars(tmp_path / "none.png", [])


def test_choices_are_drawn_with_what_is_not_known_left_out(tmp_path, monkeypatch):
    none = {"kind": "none", "site": "feature", "level": 0.0}
    both = {"kind": "dropout+gaussian", "site": "input", "level": [0.2, 0.3]}
    rows = [
        {
            "split": split,
            "defense": defense,
            "accuracy": 0.9,
            "energy_j": 0.002,
            "ssim_mean": ssim,
            "ssim_ci": [ssim, ssim],
            "pareto": pareto,
        }
        for split, defense, ssim, pareto in (
            ("conv1", none, 0.9, True),
            ("$x^2_", both, 0.5, False),
            ("edge-only", none, float("nan"), True),
        )
    ]
    written = []
    monkeypatch.setattr(figures, "_save", lambda figure, path: written.append(figure))
    figures.choice_points(tmp_path / "choices.png", rows, title="$a_b")
    monkeypatch.undo()
    # Cuts are told apart without colour: numbers beside the points, and in the legend.
    (figure,) = written
    assert [[text.get_text() for text in axes.texts] for axes in figure.axes] == [["1", "2"]] * 2
    (legend,) = figure.legends
    labels = {text.get_text().replace("\\", "") for text in legend.get_texts()}
    assert labels >= {"1 conv1", "2 $x^2_", "3 edge-only", "hollow: not in Pareto set"}
    figures.choice_points(tmp_path / "choices.png", rows, title="$a_b")
    assert size_of(tmp_path / "choices.png")[0] > 1000
    with pytest.raises(ValueError, match="at least one choice"):
        figures.choice_points(tmp_path / "none.png", [])
