from __future__ import annotations

import pytest

from vae_edge.comparison import ALL_METRICS, METRICS_OF
from vae_edge.errors import UsageError
from vae_edge.metrics import METRICS
from vae_edge.terms import Precision
from vae_edge.tolerances import (
    TOLERANCES,
    Override,
    limits_for,
    parse_override,
    read_overrides,
)

JUDGED = [output for output in METRICS_OF if output != "repeatability"]


def test_every_precision_judges_every_output():
    assert set(TOLERANCES) == set(Precision)
    for precision in Precision:
        assert set(TOLERANCES[precision]) == set(METRICS_OF)
        for output, metrics in METRICS_OF.items():
            limits = limits_for(precision, output)
            assert limits
            assert set(limits) <= set(metrics)


@pytest.mark.parametrize("output", JUDGED)
@pytest.mark.parametrize("coarse", [Precision.DYNAMIC, Precision.INT8, Precision.INT16X8])
def test_coarser_precisions_have_looser_limits(output, coarse):
    """Between integer precisions there is no order: each leaves other layers in float."""
    for lower, higher in ((Precision.FLOAT16, Precision.FLOAT32), (coarse, Precision.FLOAT16)):
        loose, strict = limits_for(lower, output), limits_for(higher, output)
        common = set(loose) & set(strict)
        assert common
        for metric in common:
            if ALL_METRICS[metric].higher_is_better:
                assert loose[metric] < strict[metric]
            else:
                assert loose[metric] > strict[metric]


@pytest.mark.parametrize("precision", Precision)
@pytest.mark.parametrize("output", ["z_mean", "z_log_var", "reconstruction", "generation"])
def test_broken_export_is_outside_every_limit(precision, output):
    """Typical errors of a tenth of the span; a flipped kernel or a lost bias makes 0.3 and more."""
    limits = limits_for(precision, output)

    assert not METRICS["rmse"].passes(0.1, limits["rmse"])
    assert not METRICS["psnr_db"].passes(20.0, limits["psnr_db"])
    assert not METRICS["max_abs_error"].passes(0.51, limits["max_abs_error"])


@pytest.mark.parametrize("precision", Precision)
def test_two_runs_of_one_artifact_must_agree_bit_for_bit(precision):
    assert limits_for(precision, "repeatability")["again_error"] == 0


def test_a_file_of_limits_is_read_in_its_order(tmp_path):
    path = tmp_path / "limits.toml"
    path.write_text(
        "# looser, because our camera is noisy\n"
        "[any.reconstruction]\npsnr_db = 40\n[int8.z_mean]\nrmse = 0.25\n"
    )

    assert read_overrides(path) == (
        Override(precision=None, output="reconstruction", metric="psnr_db", limit=40.0),
        Override(precision=Precision.INT8, output="z_mean", metric="rmse", limit=0.25),
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("int8 = [", "not a TOML file"),
        ("int8 = 3", r"limits.toml: \[int8\]: expected a table such as \[int8.z_mean\]"),
        ("[int8]\nz_mean = 3", r"\[int8.z_mean\]: expected a table"),
        ("[int9.z_mean]\nrmse = 1", "unknown precision 'int9'. Precisions: float32, float16"),
        ("[int8.z]\nrmse = 1", "unknown output 'z'. Outputs: z_mean, z_log_var, posterior"),
        ("[int8.elbo]\nrmse = 1", "'elbo' has no metric 'rmse'. Its metrics: loss_change_nats"),
        ("[int8.z_mean]\nrmse = 'x'", "int8.z_mean.rmse: expected a number; received 'x'"),
        ("[int8.z_mean]\nrmse = nan", "expected a number; received nan"),
        ("[int8.z_mean]\nrmse = true", "expected a number; received True"),
    ],
)
def test_a_file_that_is_not_of_that_form_is_refused(tmp_path, text, says):
    path = tmp_path / "limits.toml"
    path.write_text(text)

    with pytest.raises(UsageError, match=says):
        read_overrides(path)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"none\.toml: cannot be read: No such file"):
        read_overrides(tmp_path / "none.toml")


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


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("z.rmse=1", "unknown output 'z'. Outputs: z_mean, z_log_var"),
        (".rmse=1", "unknown output ''. Outputs: z_mean"),
        ("z_mean.mse=1", "'z_mean' has no metric 'mse'. Its metrics: max_abs_error"),
        ("z_mean.rmse.x=1", "'z_mean' has no metric 'rmse.x'"),
        ("posterior.rmse=1", "'posterior' has no metric 'rmse'. Its metrics: mean_shift_sigmas"),
    ],
)
def test_override_of_an_unknown_output_or_metric_lists_the_known(text, says):
    with pytest.raises(UsageError, match=says):
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
    ours = TOLERANCES[Precision.INT8]["z_mean"]["rmse"]

    assert limit("z_log_var.rmse=9") == ours
    assert limit("float32:z_mean.rmse=9") == ours
    assert limit("int8:z_mean.rmse=9") == 9


def test_later_override_wins_whatever_its_scope():
    assert limit("z_mean.rmse=8", "int8:z_mean.rmse=9") == 9
    assert limit("int8:z_mean.rmse=9", "z_mean.rmse=8") == 8


@pytest.mark.parametrize("output", METRICS_OF)
def test_integer_inputs_and_outputs_are_allowed_more(output):
    floats = limits_for(Precision.INT8, output)
    integers = limits_for(Precision.INT8, output, integer_io=True)

    assert integers
    for metric in set(floats) & set(integers):
        if ALL_METRICS[metric].higher_is_better:
            assert integers[metric] <= floats[metric]
        else:
            assert integers[metric] >= floats[metric]
