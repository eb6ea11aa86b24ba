from __future__ import annotations

import pytest

from vae_edge.errors import UsageError
from vae_edge.metrics import METRICS
from vae_edge.terms import Precision
from vae_edge.tolerances import OUTPUTS, TOLERANCES, Override, limits_for, parse_override


def test_every_precision_has_limits_for_every_output_and_metric():
    assert set(TOLERANCES) == set(Precision)
    for precision in Precision:
        for output in OUTPUTS:
            assert set(limits_for(precision, output)) == set(METRICS)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("coarse", [Precision.DYNAMIC, Precision.INT8, Precision.INT16X8])
def test_integers_never_have_stricter_limits_than_floats(output, coarse):
    """Between integer precisions there is no order: each leaves other layers in float."""
    for lower, higher in (
        (Precision.FLOAT16, Precision.FLOAT32),
        (coarse, Precision.FLOAT16),
    ):
        loose, strict = limits_for(lower, output), limits_for(higher, output)
        assert loose["max_abs_error"] > strict["max_abs_error"]
        assert loose["rmse"] > strict["rmse"]
        assert loose["cosine_similarity"] < strict["cosine_similarity"]
        assert loose["psnr_db"] < strict["psnr_db"]


@pytest.mark.parametrize("precision", Precision)
@pytest.mark.parametrize("output", OUTPUTS)
def test_broken_export_is_outside_every_limit(precision, output):
    """Typical errors of a tenth of the span; a flipped kernel or a lost bias makes 0.3 and more."""
    limits = limits_for(precision, output)

    assert not METRICS["rmse"].passes(0.1, limits["rmse"])
    assert not METRICS["psnr_db"].passes(20.0, limits["psnr_db"])
    assert not METRICS["max_abs_error"].passes(0.5, limits["max_abs_error"])


def test_override_for_every_precision():
    assert parse_override("z_mean.max_abs_error=0.1") == Override(
        precision=None, output="z_mean", metric="max_abs_error", limit=0.1
    )


def test_override_for_one_precision():
    assert parse_override("int8:reconstruction.psnr_db=-3e1") == Override(
        precision=Precision.INT8, output="reconstruction", metric="psnr_db", limit=-30.0
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "z_mean.rmse",
        "z_mean=0.1",
        "z_mean.rmse=",
        "z_mean.rmse=small",
        "z_mean.rmse=nan",
        "z_mean.rmse=inf",
        "z_mean.rmse=-inf",
        "z_mean.rmse=1=2",
    ],
)
def test_override_of_another_form_is_refused(text):
    with pytest.raises(UsageError, match=r"tolerance '.*': expected \[PRECISION:\]OUTPUT\.METRIC"):
        parse_override(text)


@pytest.mark.parametrize("text", ["z.rmse=1", "z_mean.mse=1", ".rmse=1", "z_mean.rmse.x=1"])
def test_override_of_an_unknown_output_or_metric_lists_the_known(text):
    with pytest.raises(
        UsageError, match=r"unknown output or metric\. Outputs: z_mean, .*\. Metrics: max_abs_error"
    ):
        parse_override(text)


@pytest.mark.parametrize("text", ["int3:z_mean.rmse=1", "a:int8:z_mean.rmse=1"])
def test_override_for_an_unknown_precision_lists_the_known(text):
    with pytest.raises(UsageError, match=r"unknown precision '.*'\. Precisions: float32, float16"):
        parse_override(text)


def limit(*overrides, precision=Precision.INT8, output="z_mean", metric="rmse"):
    return limits_for(precision, output, map(parse_override, overrides))[metric]


def test_override_replaces_one_limit_only():
    before = limits_for(Precision.INT8, "z_mean")
    after = limits_for(Precision.INT8, "z_mean", [parse_override("z_mean.rmse=9")])

    assert after == {**before, "rmse": 9.0}


def test_override_holds_for_its_output_and_precision_only():
    ours = TOLERANCES[Precision.INT8]["z_mean"].rmse

    assert limit("z_log_var.rmse=9") == ours
    assert limit("float32:z_mean.rmse=9") == ours
    assert limit("int8:z_mean.rmse=9") == 9


def test_later_override_wins_whatever_its_scope():
    assert limit("z_mean.rmse=8", "int8:z_mean.rmse=9") == 9
    assert limit("int8:z_mean.rmse=9", "z_mean.rmse=8") == 8
