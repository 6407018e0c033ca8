import dataclasses
import io
import math

import pytest
from rich.console import Console

from r1jax.config.training import MeshSettings
from r1jax.parallel.mesh import make_mesh
from r1jax.planning.estimate import Estimate
from r1jax.planning.plan import Plan, StagePlan
from r1jax.planning.slices import CHIPS
from r1jax.planning.tables import _number, bill, show, show_sweep

GIB = 2.0**30
SENT = {("all-gather", ("fsdp", "tensor")): (240.0, 3e9), ("all-reduce", ("tensor",)): (7.0, 1.0)}
ROLLOUT = Estimate(arguments=1 * GIB, beside=2 * GIB, temporaries=6 * GIB, computing=8.0, flops=10e12)
UPDATE = Estimate(
    arguments=4 * GIB, beside=0.0, temporaries=3 * GIB, computing=1.0, sending=1.5, flops=100e12, collectives=SENT
)
STAGE = StagePlan(
    name="rl",
    steps=100,
    state={"weights": 1.25 * GIB, "optimizer": 2.5 * GIB},
    cache=4 * GIB,
    calls={"rollout": (1, ROLLOUT), "update": (4, UPDATE), "evaluate": (1, ROLLOUT)},
    evaluations=10,
    tokens=90_000.0,
    model_flops=197e12,
    chip=CHIPS["v5e"],
)


def text_of(stage, dollars=1.2):
    mesh = make_mesh(MeshSettings(data=1, fsdp=4, tensor=2))
    console = Console(record=True, width=150, file=io.StringIO())
    show(Plan("v5e:2x4", CHIPS["v5e"], mesh, 1_234_567, [stage], dollars), console)
    return console.export_text()


def row(text, name, *, table):
    """The cells of a row of the table that has this column."""
    table = next(part for part in text.split("└") if table in part and name in part)
    return [cell.strip() for cell in next(line for line in table.splitlines() if f" {name} " in line).split("│")[1:-1]]


def test_the_numbers_of_a_plan():
    text = text_of(STAGE)
    assert "1,234,567 parameters on v5e:2x4: 8 chips, fsdp=4 tensor=2" in text
    assert row(text, "rollout", table="beside") == ["rollout", "1.00", "2.00", "6.00", "4.00", "9.00"]
    assert row(text, "update", table="beside") == ["update", "4.00", "0.00", "3.00", "", "7.00"]
    assert "weights 1.25, optimizer 2.50" in text
    assert row(text, "update", table="computing")[:7] == ["update", "4", "100", "1", "1.5", "2.5", "sending"]
    assert row(text, "rollout", table="computing")[6] == "memory"
    assert row(text, "evaluate", table="computing")[1] == "10 in all"
    assert "18 s a step, 5,000 tokens/s" in text
    assert "10% of the chips' FLOPs" in text  # 197 in 4 × 2.5 s
    assert row(text, "all-gather", table="axes") == ["rl", "update", "all-gather", "fsdp tensor", "240", "3"]
    assert "all-reduce" not in text  # it sends too little to be shown
    hours = (100 * 18 + 10 * 8) / 3600
    assert row(text, "rl", table="chip-hours") == ["rl", f"{hours:.2f}", f"{8 * hours:.1f}", f"{8 * hours * 1.2:.0f}"]
    assert "it fits: 9.00 of 15.75 GiB a chip at most, in rl: rollout" in text or "in rl: evaluate" in text


def test_numbers_have_no_exponent_that_a_narrow_table_would_cut_off():
    long = dataclasses.replace(UPDATE, computing=26_123.0, sending=2e-5, flops=3.1e18)
    text = text_of(dataclasses.replace(STAGE, calls={"update": (1, long)}))
    assert row(text, "update", table="computing")[2:5] == ["3,100,000", "26,123", "<0.001"]
    assert "26,123 s a step" in text


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (9e-4, "<0.001"), (1e-3, "0.001"), (19.03, "19"), (99.96, "100"), (999.6, "1,000")]
)
def test_numbers(number, text):
    assert _number(number) == text


def test_products_that_take_most_of_the_time_bound_it():
    busy = dataclasses.replace(UPDATE, sending=0.1, computing=0.8)
    text = text_of(dataclasses.replace(STAGE, calls={"update": (4, busy)}))
    assert row(text, "update", table="computing")[6] == "products"


def test_evaluations_of_unknown_number_and_prices_that_are_not_set_are_said():
    text = text_of(dataclasses.replace(STAGE, evaluations=0), math.nan)
    assert "evaluations of all" in text and "no price is set" in text and "nan" not in text


@pytest.mark.parametrize(
    ("name", "estimate", "settings"),
    [
        ("rollout", dataclasses.replace(ROLLOUT, temporaries=20 * GIB), ["decode_batch", "mesh.fsdp"]),
        ("update", dataclasses.replace(UPDATE, temporaries=20 * GIB, fits=False), ["microbatch", "mesh.fsdp"]),
        ("evaluate", dataclasses.replace(ROLLOUT, temporaries=20 * GIB), ["evaluate.decode_batch", "mesh.tensor"]),
    ],
)
def test_what_does_not_fit_names_its_largest_terms_and_their_settings(name, estimate, settings):
    text = text_of(dataclasses.replace(STAGE, calls=STAGE.calls | {name: (1, estimate)}))
    line = next(line for line in text.splitlines() if line.startswith("does not fit"))
    assert line.startswith(f"does not fit: rl: {name} needs {estimate.peak / GIB:.2f} of 15.75 GiB")
    assert all(setting in line for setting in settings) and line.index(settings[0]) < line.index(settings[1])
    assert "too much" in text and "chip-hours" not in text and "it fits" not in text


def test_a_sweep_has_a_line_for_each_layout():
    mesh, console = make_mesh(MeshSettings(data=1, fsdp=8)), Console(record=True, width=150, file=io.StringIO())
    fits = Plan("v5e:2x4", CHIPS["v5e"], mesh, 1, [STAGE], 1.2)
    large = dataclasses.replace(UPDATE, temporaries=20 * GIB)
    mesh = make_mesh(MeshSettings(data=1, fsdp=4, tensor=2))
    not_fits = Plan("v5e:2x4", CHIPS["v5e"], mesh, 1, [dataclasses.replace(STAGE, calls={"update": (4, large)})], 1.2)
    show_sweep([fits, not_fits], ["fsdp=2 tensor=4: mesh: tensor=4 does not divide"], console)
    text = console.export_text()
    assert row(text, "fsdp=8", table="dollars")[1:4] == ["0.52", "5", "9.00"]
    assert row(text, "fsdp=4 tensor=2", table="dollars")[1:] == ["does not fit", "", "24.00", "15.75", "rl: update"]
    assert "fsdp=2 tensor=4: mesh: tensor=4 does not divide" in text


def test_a_bill_in_the_form_of_r1s_own():
    """DeepSeek-R1's: 198 hours on 512 chips for Zero, 5K chip-hours for data, 80 hours for R1, at $2: $294K."""
    rows = bill({"zero": 198, "data": 5000 / 512, "r1": 80}, 512, 2.0)
    chip_hours, dollars = ([row[column] for row in rows] for column in (2, 3))
    assert [round(number, -3) for number in chip_hours] == [101_000, 5000, 41_000, 147_000]
    assert [round(number, -3) for number in dollars] == [203_000, 10_000, 82_000, 295_000]
