from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from vae_edge.bundle import Bundle
from vae_edge.junit import write_junit
from vae_edge.manifest import MetricRecord
from vae_edge.parity import NotRun, ParityReport, SubjectParity, check_parity, golden_reference
from vae_edge.terms import Format, Precision


def record(name, value, limit, passed=True, tightest=None):
    output, metric = name.split(".")
    return MetricRecord(
        output=output,
        metric=metric,
        value=value,
        limit=limit,
        passed=passed,
        margin=None,
        tightest=tightest,
    )


ENCODER = SubjectParity(
    subject="encoder",
    format=Format.TFLITE,
    precision=Precision.INT8,
    file="encoder.int8.tflite",
    passed=False,
    samples=256,
    runtime="ai-edge-litert 2.1",
    metrics=(
        record("z_mean.rmse", 0.07, 0.06, passed=False, tightest=0.071),
        record("z_mean.psnr_db", None, 24.0),
        record("elbo.loss_change_nats", 1.25, None),
    ),
    failure=None,
)
DECODER = replace(
    ENCODER,
    subject="decoder",
    file="decoder.int8.tflite",
    metrics=(),
    runtime="none",
    failure="decoder.int8.tflite: cannot be loaded",
)
PAIR = replace(
    ENCODER,
    subject="encoder+decoder",
    file=None,
    encoder_precision=Precision.DYNAMIC,
    passed=True,
    metrics=(record("reconstruction.rmse", 0.01, 0.03, tightest=0.01),),
)
REPORT = ParityReport(
    schema_version=3,
    model="mine",
    source_sha256="ab" * 32,
    reference="golden vectors (noise)",
    passed=False,
    subjects=(ENCODER, DECODER, PAIR),
)


def parsed(report):
    # As bytes, as a file would be: else the declared encoding is not looked at.
    root = ET.fromstring(write_junit(report).encode("utf-8"))
    assert root.tag == "testsuites"
    suites = root.findall("testsuite")
    for element in (root, *suites):
        for counted, tag in (("tests", "testcase"), ("failures", "failure"), ("errors", "error")):
            assert element.get(counted) == str(len(list(element.iter(tag)))), (element.attrib, tag)
    return suites


def test_one_suite_per_subject_and_one_case_per_judged_check():
    cases = {
        suite.get("name"): [(c.get("classname"), c.get("name")) for c in suite.iter("testcase")]
        for suite in parsed(REPORT)
    }

    assert cases == {
        "encoder.int8.tflite": [
            ("encoder.int8.tflite", "z_mean.rmse"),
            ("encoder.int8.tflite", "z_mean.psnr_db"),
        ],
        "decoder.int8.tflite": [("decoder.int8.tflite", "comparison")],
        "encoder+decoder.dynamic+int8.tflite": [
            ("encoder+decoder.dynamic+int8.tflite", "reconstruction.rmse")
        ],
    }


def test_counts_are_those_of_what_failed():
    root = ET.fromstring(write_junit(REPORT).encode())

    assert [root.get(name) for name in ("tests", "failures", "errors", "skipped")] == list("4110")


def test_failure_says_value_limit_and_what_would_have_passed():
    (failure,) = parsed(REPORT)[0].iter("failure")

    found = (
        "z_mean rmse is 0.07, the limit 0.06; the tightest limit that would have passed is 0.071"
    )
    assert failure.get("message") == found
    assert failure.text == f"encoder.int8.tflite: {found}"


def test_subject_that_could_not_be_compared_is_an_error():
    decoder = parsed(REPORT)[1]

    (error,) = decoder.iter("error")
    assert error.get("message") == "decoder.int8.tflite: cannot be loaded"
    assert not list(decoder.iter("failure"))


def test_artifact_that_was_not_run_is_skipped_with_what_would_run_it():
    left = NotRun(
        subject="decoder",
        format=Format.ONNX,
        precision=Precision.INT8,
        file="decoder.int8.onnx",
        reason="needs ONNX Runtime: pip install onnxruntime",
    )

    *_, last = parsed(replace(REPORT, not_run=(left,)))

    assert last.get("name") == "decoder.int8.onnx"
    assert [last.get(name) for name in ("tests", "failures", "errors", "skipped")] == list("1001")
    (skipped,) = last.iter("skipped")
    assert skipped.get("message") == "not run: needs ONNX Runtime: pip install onnxruntime"
    assert {p.get("name") for p in last.iter("property")} >= {"model", "file"}


def test_what_passed_says_by_how_much():
    (out,) = parsed(REPORT)[2].iter("system-out")

    assert out.text == "reconstruction rmse is 0.01, the limit 0.03"


def test_suite_says_what_was_compared_and_what_was_not_judged():
    encoder, _, pair = (
        {p.get("name"): p.get("value") for p in suite.iter("property")} for suite in parsed(REPORT)
    )

    assert encoder == {
        "model": "mine",
        "source_sha256": "ab" * 32,
        "reference": "golden vectors (noise)",
        "file": "encoder.int8.tflite",
        "samples": "256",
        "runtime": "ai-edge-litert 2.1",
        "elbo.loss_change_nats": "1.25",
    }
    assert "file" not in pair


@pytest.mark.parametrize("character", ["\0", "\x0b", "\x1b", "\ud800", "\ufffe", "\uffff"])
def test_characters_that_xml_forbids_are_dropped(character):
    hostile = replace(DECODER, failure=f"a{character}b", runtime=f"r{character}1")
    report = replace(REPORT, subjects=(hostile,), model=f"m{character}n")

    (suite,) = parsed(report)

    (error,) = suite.iter("error")
    assert error.get("message") == "ab"
    values = {p.get("name"): p.get("value") for p in suite.iter("property")}
    assert (values["runtime"], values["model"]) == ("r1", "mn")


def test_markup_and_other_scripts_survive():
    text = "]]> <error message='\"'/> &amp; \t\u00e9\u4e2d\U0001f600"
    (suite,) = parsed(replace(REPORT, subjects=(replace(DECODER, failure=text),)))

    (error,) = suite.iter("error")
    assert error.get("message") == text
    assert error.text == f"decoder.int8.tflite: {text}"


def test_report_of_a_real_bundle(tiny_bundle):
    bundle = Bundle.open(tiny_bundle)
    report = check_parity(bundle, golden_reference(bundle))

    suites = parsed(report)

    assert [suite.get("name") for suite in suites] == [
        "encoder.float32.onnx",
        "decoder.float32.onnx",
        "encoder+decoder.float32.onnx",
    ]
    judged = sum(m.limit is not None for subject in report.subjects for m in subject.metrics)
    assert sum(int(suite.get("tests", "0")) for suite in suites) == judged > 0
    assert [suite.get("failures") for suite in suites] == ["0", "0", "0"]
