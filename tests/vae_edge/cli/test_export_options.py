"""What is refused before anything is loaded, and what the options mean otherwise."""

from __future__ import annotations

import pytest

from vae_edge.cli.export_options import parse_batch, parse_budget, parse_precisions
from vae_edge.errors import UsageError
from vae_edge.manifest import QualityBudget
from vae_edge.terms import Precision


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (
            ("--precision", "auto", "--precision", "int8"),
            (
                "--precision auto chooses among all default precisions; received int8 beside it. "
                "Leave one or the other out."
            ),
        ),
        (
            ("--precision", "auto", "--no-benchmark"),
            (
                "--precision auto cannot go with --no-benchmark, because it chooses by what it "
                "measures. Leave one of the two out."
            ),
        ),
        (
            ("--precision", "auto", "--keep-failing"),
            (
                "--precision auto cannot go with --keep-failing, because it leaves out what fails "
                "parity. Leave one of the two out."
            ),
        ),
        (
            ("--precision", "auto", "--io", "int8"),
            (
                "--precision auto cannot go with --io int8, because it makes other precisions than "
                "int8 too. Leave one of the two out."
            ),
        ),
        (
            ("--io", "int8", "--precision", "int8", "--precision", "float32"),
            (
                "--io int8 goes with --precision int8 only; received int8, float32. Export other "
                "precisions to a bundle of their own."
            ),
        ),
        (
            ("--io", "int8"),
            (
                "--io int8 goes with --precision int8 only; received none, which means the default "
                "ones. Export other precisions to a bundle of their own."
            ),
        ),
        (
            ("--io", "int8", "--precision", "int8", "--no-lowering"),
            "--io int8 needs the rewritten graph. Leave --no-lowering out.",
        ),
        (
            ("--min-psnr", "30"),
            (
                "--min-psnr is the budget of --precision auto. Add that, or hold the precisions "
                "that you name to a limit of your own with --tolerance."
            ),
        ),
        (
            ("--max-error", "0.1", "--precision", "int8"),
            (
                "--max-error is the budget of --precision auto. Add that, or hold the precisions "
                "that you name to a limit of your own with --tolerance."
            ),
        ),
        (
            ("--precision", "auto", "--max-error", "-1"),
            "--max-error -1.0: expected a share of the span, e.g. 0.01.",
        ),
        (
            ("--precision", "int9"),
            "--precision int9: expected float32, float16, dynamic, int8, int16x8, int4 or auto.",
        ),
        (("--batch", "0"), "--batch 0: expected a number of 1 or more, or dynamic."),
    ],
)
def test_options_that_do_not_go_together_are_refused_at_once(run_cli, options, error):
    assert run_cli("export", *options).error == error


def test_unknown_target_names_the_known_ones(run_cli):
    ran = run_cli("export", "--target", "mips")

    assert ran.code == 2
    assert all(target in ran.err for target in ("any", "x86", "arm64"))


def test_precisions_keep_their_order_and_stand_once():
    assert parse_precisions(["int8", "float32", "int8"]) == (Precision.INT8, Precision.FLOAT32)
    assert parse_precisions([]) == ()
    assert parse_precisions(["auto", "auto"]) is None


def test_budget_belongs_to_auto():
    assert parse_budget(True, None, 0.5) == QualityBudget(min_psnr_db=40.0, max_error=0.5)
    assert parse_budget(False, None, None) is None


@pytest.mark.parametrize(("text", "batch"), [("1", 1), ("16", 16), ("dynamic", None)])
def test_batch_is_a_number_or_dynamic(text, batch):
    assert parse_batch(text) == batch


@pytest.mark.parametrize("text", ["", "-1", "1.5", "²", "any"])
def test_other_batches_are_refused(text):
    with pytest.raises(UsageError, match="--batch"):
        parse_batch(text)
