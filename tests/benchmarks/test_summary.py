from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from benchmarks.protocol import GroupTask, LoadedWorkload, Memory
from benchmarks.report import CandidateReport, Part
from benchmarks.summary import Measured, candidate_reports
from vae_edge.bundle import Bundle
from vae_edge.keras_vae import KerasCall
from vae_edge.manifest import ArtifactRecord
from vae_edge.terms import Format, Precision

MakeRecord = Callable[..., ArtifactRecord]
MakeBundle = Callable[..., Bundle]


def measured(
    what: str,
    *samples_ns: float | None,
    part: Part = Part.ENCODER,
    batch: int = 1,
    threads: int = 1,
) -> Measured:
    """`what` is `int8 tflite` or one of Keras's calls."""
    precision, _, format = what.partition(" ")
    keras = not format
    return Measured(
        task=GroupTask(
            name="keras" if keras else what,
            source="s",
            format=None if keras else Format(format),
            precision=Precision.FLOAT32 if keras else Precision(precision),
            parts=(part,),
            threads=threads,
            batches=(batch,),
            alone=False,
            seed=0,
        ),
        loaded=LoadedWorkload(
            part=part,
            keras_call=KerasCall(what) if keras else None,
            batch=batch,
            runtime="some runtime 1.0",
            load_ms=1.5,
            first_inference_ms=2.5,
        ),
        alone=True,
        loops=8,
        warmup_ns=(9.0,),
        samples_ns=samples_ns,
        memory=Memory(peak_rss_bytes=5000, base_rss_bytes=3000),
    )


@pytest.fixture
def bundle(make_bundle: MakeBundle, make_record: MakeRecord) -> Bundle:
    return make_bundle(
        make_record("encoder", "tflite", "float32", size_bytes=400),
        make_record("decoder", "tflite", "float32", size_bytes=500),
        make_record("encoder", "tflite", "int8", size_bytes=100),
        make_record("decoder", "tflite", "int8", size_bytes=130),
        make_record("encoder", "onnx", "int8"),
    )


def reports(bundle: Bundle, *items: Measured) -> dict[str, CandidateReport]:
    return {report.name: report for report in candidate_reports(items, bundle, seed=0)}


def test_milliseconds_and_throughput_from_nanoseconds(bundle: Bundle) -> None:
    found = reports(bundle, measured("int8 tflite", 1e6, 2e6, None, 6e6))["encoder int8 tflite"]
    assert found.latency.median_ms == 2.0
    assert found.latency.mad_ms == 1.0
    assert found.latency.p95_ms == pytest.approx(5.6)  # index 1.9 of 1, 2, 6
    assert found.throughput_per_s == 500.0
    assert found.samples_ns == (1e6, 2e6, None, 6e6)


def test_a_batch_counts_as_many_images(bundle: Bundle) -> None:
    (found,) = reports(bundle, measured("int8 tflite", 4e6, 4e6, batch=8)).values()
    assert found.latency.median_ms == 4.0
    assert found.throughput_per_s == 2000.0


def test_sizes_and_files(bundle: Bundle) -> None:
    found = reports(
        bundle,
        measured("int8 tflite", 1.0),
        measured("int8 tflite", 1.0, part=Part.BOTH),
        measured("predict", 1.0),
    )
    assert found["encoder int8 tflite"].files == ("encoder.int8.tflite",)
    assert found["encoder int8 tflite"].size_bytes == 100
    assert found["both int8 tflite"].files == ("encoder.int8.tflite", "decoder.int8.tflite")
    assert found["both int8 tflite"].size_bytes == 230
    assert found["encoder keras predict"].files == ()
    assert found["encoder keras predict"].size_bytes is None


def test_keras_is_its_fastest_call_for_the_same_part(bundle: Bundle) -> None:
    found = reports(
        bundle,
        measured("predict", 9000.0, 9000.0),
        measured("tf.function", 600.0, 600.0),
        measured("call", 800.0, 800.0),
        measured("call", 100.0, 100.0, part=Part.DECODER),
        measured("int8 tflite", 200.0, 200.0),
    )
    speedup = found["encoder int8 tflite"].times_faster_than_keras
    assert speedup is not None
    assert (speedup.against, speedup.interval.value) == ("encoder keras tf.function", 3.0)
    assert found["encoder keras predict"].times_faster_than_keras is None


def test_keras_of_another_batch_is_no_reference(bundle: Bundle) -> None:
    found = reports(bundle, measured("call", 900.0), measured("int8 tflite", 200.0, batch=8))
    assert found["encoder int8 tflite batch 8"].times_faster_than_keras is None


def test_float32_is_that_of_the_same_format_and_part(bundle: Bundle) -> None:
    found = reports(
        bundle,
        measured("float32 tflite", 400.0, 400.0),
        measured("float32 tflite", 9000.0, 9000.0, part=Part.DECODER),
        measured("int8 tflite", 100.0, 100.0),
        measured("int8 onnx", 50.0, 50.0),
        measured("call", 800.0, 800.0),
    )
    speedup = found["encoder int8 tflite"].times_faster_than_float32
    assert speedup is not None
    assert (speedup.against, speedup.interval.value) == ("encoder float32 tflite", 4.0)
    assert found["encoder int8 onnx"].times_faster_than_float32 is None
    assert found["encoder float32 tflite"].times_faster_than_float32 is None
    assert found["encoder keras call"].times_faster_than_float32 is None


def test_a_slow_reference_is_compared_over_the_rounds_it_took_part_in(bundle: Bundle) -> None:
    found = reports(
        bundle,
        measured("call", 900.0, None, None, 900.0),
        measured("int8 tflite", 100.0, 1.0, 1.0, 100.0),
    )
    speedup = found["encoder int8 tflite"].times_faster_than_keras
    assert speedup is not None
    assert speedup.interval.value == 9.0


def test_ratios_are_those_of_the_same_setting(bundle: Bundle) -> None:
    two = [
        measured("call", 600.0, 600.0, threads=2),
        measured("float32 tflite", 300.0, 300.0, threads=2),
        measured("int8 tflite", 100.0, 100.0, threads=2),
    ]
    found = reports(
        bundle, measured("call", 900.0, 900.0), measured("int8 tflite", 200.0, 200.0), *two
    )
    one, other = found["encoder int8 tflite"], found["encoder int8 tflite 2 threads"]
    assert (one.threads, other.threads) == (1, 2)
    assert one.times_faster_than_keras is not None
    assert one.times_faster_than_keras.interval.value == 4.5
    assert one.times_faster_than_float32 is None
    assert other.times_faster_than_keras is not None
    assert other.times_faster_than_keras.against == "encoder keras call 2 threads"
    assert other.times_faster_than_keras.interval.value == 6.0
    assert other.times_faster_than_float32 is not None
    assert other.times_faster_than_float32.interval.value == 3.0


def test_memory_and_hashes_are_kept(bundle: Bundle) -> None:
    found = reports(bundle, measured("int8 tflite", 1.0, part=Part.BOTH))["both int8 tflite"]
    assert (found.peak_rss_bytes, found.base_rss_bytes, found.own_rss_bytes) == (5000, 3000, 2000)
    assert found.sha256 == ("a" * 64, "a" * 64)
    assert found.alone


def test_a_pair_of_two_precisions(make_bundle: MakeBundle, make_record: MakeRecord) -> None:
    bundle = make_bundle(
        make_record("encoder", "tflite", "int8", size_bytes=100),
        make_record("decoder", "tflite", "float16", size_bytes=130),
    )
    item = measured("float16 tflite", 1.0, part=Part.BOTH)
    task = replace(item.task, name="int8+float16 tflite", encoder_precision=Precision.INT8)
    (found,) = candidate_reports([replace(item, task=task)], bundle, seed=0)
    assert found.name == "both int8+float16 tflite"
    assert found.precisions == "int8+float16"
    assert found.files == ("encoder.int8.tflite", "decoder.float16.tflite")
    assert found.size_bytes == 230
