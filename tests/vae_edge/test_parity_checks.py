from __future__ import annotations

import pytest

from vae_edge.manifest import MetricRecord
from vae_edge.parity import SubjectParity
from vae_edge.parity_checks import checks_of, subject_name
from vae_edge.terms import Format, Precision

WITHIN = MetricRecord(
    output="z_mean", metric="rmse", value=0.5, limit=1.0, passed=True, margin=2.0, tightest=0.5
)
BEYOND = MetricRecord(
    output="z_mean",
    metric="max_abs_error",
    value=0.0712345678,
    limit=0.06,
    passed=False,
    margin=0.84,
    tightest=0.072,
)
REPORTED = MetricRecord(
    output="elbo",
    metric="loss_change_nats",
    value=3.0,
    limit=None,
    passed=True,
    margin=None,
    tightest=3.0,
)


def subject(*metrics, passed=True, failure=None, **options):
    given = {
        "subject": "encoder",
        "format": Format.TFLITE,
        "precision": Precision.INT8,
        "file": "encoder.int8.tflite",
        "samples": 5,
        "runtime": "r 1",
    }
    return SubjectParity(**{**given, **options}, passed=passed, metrics=metrics, failure=failure)


def test_every_judged_metric_is_a_check_under_its_name():
    checks = checks_of(subject(WITHIN, REPORTED, BEYOND, passed=False))

    assert [(c.subject, c.name, c.passed, c.compared) for c in checks] == [
        ("encoder.int8.tflite", "z_mean.rmse", True, True),
        ("encoder.int8.tflite", "z_mean.max_abs_error", False, True),
    ]


def test_message_says_value_limit_and_what_would_have_passed():
    within, beyond = checks_of(subject(WITHIN, BEYOND, passed=False))

    assert within.message == "z_mean rmse is 0.5, the limit 1.0"
    assert beyond.message == (
        "z_mean max_abs_error is 0.0712346, the limit 0.06; "
        "the tightest limit that would have passed is 0.072"
    )


def test_infinite_value_has_no_limit_that_would_have_passed():
    infinite = MetricRecord(
        output="posterior",
        metric="mean_kl_nats",
        value=None,
        limit=2.0,
        passed=False,
        margin=0.0,
        tightest=None,
    )

    (check,) = checks_of(subject(infinite, passed=False))

    assert check.message == "posterior mean_kl_nats is infinite, the limit 2.0"


def test_pair_of_two_precisions_is_named_by_both():
    pair = subject(
        WITHIN,
        subject="encoder+decoder",
        file=None,
        format=Format.ONNX,
        encoder_precision=Precision.FLOAT16,
    )

    assert subject_name(pair) == "encoder+decoder.float16+int8.onnx"


@pytest.mark.parametrize("metrics", [(), (WITHIN,), (REPORTED,)])
def test_failure_is_a_check_that_failed(metrics):
    *_, last = checks_of(subject(*metrics, passed=False, failure="it does not load"))

    assert (last.name, last.passed, last.compared) == ("comparison", False, False)
    assert last.message == "it does not load"


@pytest.mark.parametrize(
    ("metrics", "passed"),
    [((), False), ((WITHIN,), False), ((REPORTED,), False), ((REPORTED,), True)],
)
def test_verdict_that_no_metric_explains_is_a_check_of_its_own(metrics, passed):
    """Else a subject that failed could look as if it had passed."""
    *_, last = checks_of(subject(*metrics, passed=passed))

    assert (last.name, last.passed, last.message) == ("comparison", passed, "no metric was judged")


@pytest.mark.parametrize(
    "given",
    [
        subject(WITHIN),
        subject(WITHIN, BEYOND, passed=False),
        subject(WITHIN, passed=False, failure="x"),
        subject(passed=False, failure="x"),
        subject(REPORTED),
    ],
)
def test_checks_pass_exactly_where_the_subject_did(given):
    checks = checks_of(given)

    assert checks
    assert all(check.passed for check in checks) == given.passed
