"""Verdicts, with sizes and ratios that can be divided in the head."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vae_edge.manifest import MetricRecord, ParityRecord
from vae_edge.terms import Format, Precision
from vae_edge.verdict import Ratio, Speed, counted, judge, times, verdicts


@pytest.fixture
def make(make_manifest):
    """`make(precision, size, format=..., psnr=..., ...)` gives the record of a decoder."""

    def record(precision, size_bytes, *, format="tflite", psnr=44.3, passed=True, **changes):
        manifest = make_manifest({f"decoder.{precision}.{format}": b""}, b"golden")
        metrics = tuple(
            MetricRecord(output="reconstruction", metric=name, value=value, limit=1.0, passed=True)
            for name, value in (("psnr_db", psnr), ("max_abs_error", 0.125))
        )
        parity = ParityRecord(passed=passed, samples=5, runtime="r", metrics=metrics)
        bare = {"operators": {}, "float_operators": {}, "parity": parity}
        return replace(manifest.artifacts[0], size_bytes=size_bytes, **{**bare, **changes})

    return record


@pytest.mark.parametrize(
    ("ratio", "speed"),
    [
        # 3 % either way is the same.
        (Ratio(value=1.029), Speed.AS_FAST),
        (Ratio(value=0.971), Speed.AS_FAST),
        (Ratio(value=1.031), Speed.FASTER),
        (Ratio(value=0.969), Speed.SLOWER),
        # More is not, unless the measurement is not sure of it.
        (Ratio(value=1.2, low=1.1, high=1.3), Speed.FASTER),
        (Ratio(value=1.2, low=0.9, high=1.4), Speed.AS_FAST),
        (Ratio(value=0.8, low=0.7, high=0.9), Speed.SLOWER),
        (Ratio(value=0.8, low=0.7, high=1.0), Speed.AS_FAST),
        # However sure it is of less.
        (Ratio(value=1.02, low=1.01, high=1.03), Speed.AS_FAST),
        (Ratio(value=0.98, low=0.97, high=0.99), Speed.AS_FAST),
    ],
)
def test_speed_is_what_the_measurement_can_tell(ratio, speed):
    assert ratio.speed is speed


def test_half_an_interval_is_none():
    with pytest.raises(ValueError, match="belong together"):
        Ratio(value=1.0, low=0.9)


def test_faster_and_smaller_pays(make):
    verdict = judge(
        make("int8", 50_000), make("float32", 120_000), Ratio(value=2.3, low=2.2, high=2.4)
    )

    assert verdict.paid is True
    assert (verdict.speed, verdict.times_faster, verdict.low, verdict.high) == (
        Speed.FASTER,
        2.3,
        2.2,
        2.4,
    )
    assert verdict.times_smaller == 2.4
    assert (verdict.psnr_db, verdict.max_abs_error) == (44.3, 0.125)
    assert verdict.reasons == ()
    assert verdict.sentence == (
        "decoder.int8.tflite: 2.3x faster than float32 and 2.4x smaller, 44.3 dB: pays."
    )


def test_smaller_at_the_same_speed_pays_in_size(make):
    verdict = judge(make("float16", 100), make("float32", 190), Ratio(value=1.01))

    assert verdict.paid is True
    assert verdict.sentence == (
        "decoder.float16.tflite: as fast as float32 and 1.90x smaller, 44.3 dB: pays in size."
    )


def test_slower_float16_says_that_it_computes_in_float32(make):
    verdict = judge(make("float16", 100), make("float32", 190), Ratio(value=0.9))

    assert verdict.reasons == (
        "float16 weights are widened when it loads, so it computes as float32 does",
    )


def test_slower_does_not_pay_and_says_what_computes_in_float(make):
    record = make(
        "int8", 100, format="onnx", psnr=53.14, float_operators={"Gemm": 2}, operators={"Gemm": 2}
    )
    verdict = judge(record, make("float32", 340, format="onnx"), Ratio(value=0.9))

    assert verdict.paid is False
    assert verdict.speed is Speed.SLOWER
    assert verdict.reasons == ("Gemm x2 compute in float",)
    assert verdict.sentence == (
        "decoder.int8.onnx: slower than float32 (0.90x) but 3.4x smaller, 53.1 dB: does not pay in "
        "speed (Gemm x2 compute in float)."
    )


def test_single_operator_in_float_is_singular(make):
    record = make("int8", 100, float_operators={"LOGISTIC": 1})

    assert judge(record, make("float32", 200), Ratio(value=0.5)).reasons == (
        "LOGISTIC computes in float",
    )


@pytest.mark.parametrize(
    ("format", "precision", "operator", "reason"),
    [
        ("onnx", "int8", "ConvTranspose", "ONNX Runtime has no integer ConvTranspose"),
        ("onnx", "dynamic", "ConvTranspose", "ONNX Runtime has no integer ConvTranspose"),
        ("tflite", "dynamic", "TRANSPOSE_CONV", "LiteRT widens the int8 weights of TRANSPOSE_CONV"),
        ("tflite", "int16x8", "ADD", "XNNPACK, LiteRT's fast path, has no int16 kernels"),
        ("onnx", "dynamic", "Add", "ranges are searched for in every inference"),
    ],
)
def test_what_is_known_to_be_off_the_fast_path_is_named(make, format, precision, operator, reason):
    record = make(precision, 100, format=format, operators={operator: 3})
    verdict = judge(record, make("float32", 200, format=format), Ratio(value=0.5))

    assert reason in verdict.reasons
    assert verdict.sentence.endswith(f" ({'; '.join(verdict.reasons)}).")


def test_integer_transposed_convolutions_of_tflite_are_not_blamed(make):
    """XNNPACK has them, so a slow one has another cause."""
    record = make("int8", 100, operators={"TRANSPOSE_CONV": 3})

    assert judge(record, make("float32", 200), Ratio(value=0.5)).reasons == ()


def test_reasons_are_not_given_where_it_is_faster(make):
    record = make("int8", 100, float_operators={"Gemm": 2})

    assert judge(record, make("float32", 200), Ratio(value=2.0)).reasons == ()


@pytest.mark.parametrize(
    ("size", "ratio", "paid", "words"),
    [
        (200, 1.5, True, "1.50x faster than float32 but no smaller, 44.3 dB: pays."),
        (300, 1.5, True, "1.50x faster than float32 but 1.50x larger, 44.3 dB: pays."),
        (200, 1.0, False, "as fast as float32 and no smaller, 44.3 dB: does not pay."),
        (195, 1.0, False, "as fast as float32 and no smaller, 44.3 dB: does not pay."),
        (200, 0.5, False, "slower than float32 (0.50x) and no smaller, 44.3 dB: does not pay."),
        (
            50,
            None,
            None,
            "4.0x smaller than float32, 44.3 dB: its speed beside float32 was not measured.",
        ),
    ],
)
def test_size_and_speed_decide_together(make, size, ratio, paid, words):
    verdict = judge(
        make("int8", size), make("float32", 200), None if ratio is None else Ratio(value=ratio)
    )

    assert verdict.paid is paid
    assert verdict.sentence == f"decoder.int8.tflite: {words}"


def test_without_float32_it_says_so(make):
    verdict = judge(make("int8", 100), None, None)

    assert verdict.paid is None
    assert (verdict.speed, verdict.times_faster, verdict.times_smaller) == (None, None, None)
    assert verdict.sentence == (
        "decoder.int8.tflite: 44.3 dB: there is no float32 tflite to compare it with."
    )


def test_recorded_ratio_is_enough_to_be_faster(make):
    """A bundle may have left float32 out after measuring it."""
    verdict = judge(make("int8", 100), None, Ratio(value=2.0))

    assert verdict.paid is True
    assert verdict.sentence == "decoder.int8.tflite: 2.0x faster than float32, 44.3 dB: pays."


def test_what_fails_parity_never_pays(make):
    verdict = judge(make("int8", 100, passed=False), make("float32", 400), Ratio(value=4.0))

    assert verdict.paid is False
    assert verdict.sentence == (
        "decoder.int8.tflite: 4.0x faster than float32 and 4.0x smaller, 44.3 dB: fails parity, "
        "so it does not pay."
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"psnr": None}, "identical to the Keras model: pays"),
        ({"parity": None}, "not compared with the Keras model: pays"),
    ],
)
def test_quality_without_a_figure_is_put_in_words(make, changes, words):
    verdict = judge(make("int8", 100, **changes), make("float32", 400), Ratio(value=4.0))

    assert verdict.psnr_db is None
    assert words in verdict.sentence


@pytest.mark.parametrize(
    ("ratio", "text"), [(0.904, "0.90x"), (1.39, "1.39x"), (2.34, "2.3x"), (15.4, "15x")]
)
def test_ratios_have_as_many_digits_as_anyone_reads(ratio, text):
    assert times(ratio) == text


def test_operators_are_counted():
    assert counted({"CONV_2D": 2, "LOGISTIC": 1}) == "CONV_2D x2, LOGISTIC"
    assert counted({}) == ""


def test_verdict_names_format_and_precision_by_its_file(make):
    record = make("int8", 100, format="onnx")

    assert (record.format, record.precision) == (Format.ONNX, Precision.INT8)
    assert judge(record, None, None).file == "decoder.int8.onnx"


FILES = (
    "encoder.float32.onnx",
    "encoder.int8.onnx",
    "decoder.float32.onnx",
    "decoder.int8.tflite",
)


def test_every_artifact_but_float32_is_judged_beside_that_of_its_own_format(make_manifest):
    manifest = make_manifest(dict.fromkeys(FILES, b"12"), b"golden")

    found = verdicts(manifest, {"encoder.int8.onnx": Ratio(value=2.0)})

    assert [(v.file, v.times_faster, v.times_smaller) for v in found] == [
        ("encoder.int8.onnx", 2.0, 1.0),
        ("decoder.int8.tflite", None, None),
    ]


def test_by_default_what_was_recorded_at_export_counts(make_manifest):
    manifest = make_manifest(dict.fromkeys(FILES, b"12"), b"golden")
    first, second, *others = manifest.artifacts
    second = replace(second, latency=replace(second.latency, times_faster_than_float32=0.5))

    found = verdicts(replace(manifest, artifacts=(first, second, *others)))

    assert [(v.file, v.times_faster, v.low) for v in found] == [
        ("encoder.int8.onnx", 0.5, None),
        ("decoder.int8.tflite", None, None),
    ]
