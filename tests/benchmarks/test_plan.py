from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.plan import Plan, Selection, plan, probes
from benchmarks.protocol import GroupTask
from benchmarks.report import Part
from vae_edge.bundle import Bundle
from vae_edge.errors import UsageError
from vae_edge.manifest import ArtifactRecord
from vae_edge.terms import Component, Format, Precision

MakeRecord = Callable[..., ArtifactRecord]
MakeBundle = Callable[..., Bundle]
ALL = (Part.ENCODER, Part.DECODER, Part.BOTH)


def planned(
    bundle: Bundle, reference: Path | None = None, selection: Selection | None = None
) -> list[tuple[str, int, tuple[Part, ...]]]:
    found = plan(bundle, reference, selection or Selection(), threads=(1,), seed=7)
    return [(task.name, task.batches[0], task.parts) for task in found.tasks]


@pytest.fixture
def bundle(make_bundle: MakeBundle, make_record: MakeRecord) -> Bundle:
    return make_bundle(
        make_record("encoder", "tflite", "float32"),
        make_record("decoder", "tflite", "float32"),
        make_record("encoder", "tflite", "int8"),
        make_record("decoder", "tflite", "int8"),
        make_record("decoder", "onnx", "float32"),
    )


def test_one_process_per_format_and_precision(bundle: Bundle) -> None:
    assert planned(bundle) == [
        ("float32 tflite", 1, ALL),
        ("int8 tflite", 1, ALL),
        ("float32 onnx", 1, (Part.DECODER,)),
    ]


def test_what_a_worker_is_told(bundle: Bundle) -> None:
    task = plan(bundle, None, Selection(), threads=(1,), seed=7).tasks[1]
    assert task == GroupTask(
        name="int8 tflite",
        source="somewhere/tiny",
        format=Format.TFLITE,
        precision=Precision.INT8,
        parts=ALL,
        threads=1,
        batches=(1,),
        alone=False,
        seed=7,
    )


def test_keras_comes_first_and_measures_what_some_artifact_does(bundle: Bundle) -> None:
    selection = Selection(formats=(Format.ONNX,))
    assert planned(bundle, Path("m.keras"), selection) == [
        ("keras", 1, (Part.DECODER,)),
        ("float32 onnx", 1, (Part.DECODER,)),
    ]
    (task, *_) = plan(bundle, Path("m.keras"), selection, threads=(2,), seed=7).tasks
    assert (task.format, task.source, task.threads) == (None, "m.keras", 2)


def test_selection_of_precision_and_part(bundle: Bundle) -> None:
    selection = Selection(precisions=(Precision.INT8,), parts=(Part.BOTH,))
    assert planned(bundle, None, selection) == [("int8 tflite", 1, (Part.BOTH,))]


def test_components_of_different_batch_are_not_run_in_a_row(
    make_bundle: MakeBundle, make_record: MakeRecord
) -> None:
    bundle = make_bundle(
        make_record("encoder", "tflite", "int8", batch=1),
        make_record("decoder", "tflite", "int8", batch=8),
    )
    assert planned(bundle, Path("m.keras")) == [
        ("keras", 1, (Part.ENCODER,)),
        ("keras", 8, (Part.DECODER,)),
        ("int8 tflite", 1, (Part.ENCODER,)),
        ("int8 tflite", 8, (Part.DECODER,)),
    ]


def test_any_batch_is_measured_with_one_image(
    make_bundle: MakeBundle, make_record: MakeRecord
) -> None:
    bundle = make_bundle(make_record("encoder", "onnx", "float32", batch=None))
    assert planned(bundle) == [("float32 onnx", 1, (Part.ENCODER,))]


@pytest.mark.parametrize(
    "selection",
    [
        Selection(precisions=(Precision.FLOAT16,)),
        Selection(formats=(Format.ONNX,), parts=(Part.ENCODER,)),
    ],
)
def test_a_selection_of_nothing_says_what_there_is(bundle: Bundle, selection: Selection) -> None:
    with pytest.raises(UsageError, match=r"tiny: holds nothing of what .* decoder float32 onnx"):
        planned(bundle, None, selection)


def swept(bundle: Bundle, reference: Path | None = None, **options: Any) -> Plan:
    return plan(bundle, reference, options.pop("only", Selection()), seed=7, **options)


def test_more_threads_than_one_take_a_process_for_every_artifact(bundle: Bundle) -> None:
    only = Selection(precisions=(Precision.INT8,))
    tasks = swept(bundle, Path("m.keras"), threads=(1, 4), only=only).tasks
    assert [(task.name, task.threads, task.parts, task.alone) for task in tasks] == [
        ("keras", 1, ALL, False),
        ("int8 tflite", 1, ALL, False),
        ("keras", 4, ALL, False),
        ("int8 tflite", 4, (Part.ENCODER,), True),
        ("int8 tflite", 4, (Part.DECODER,), True),
        ("int8 tflite", 4, (Part.BOTH,), True),
    ]


def test_every_part_that_shares_a_process_is_opened_alone_as_well(bundle: Bundle) -> None:
    keras, shared, lone = swept(
        bundle, Path("m.keras"), threads=(1,), only=Selection(precisions=(Precision.FLOAT32,))
    ).tasks
    assert [(task.parts, task.alone) for task in probes(shared)] == [
        ((Part.ENCODER,), True),
        ((Part.DECODER,), True),
        ((Part.BOTH,), True),
    ]
    assert (lone.parts, lone.alone) == ((Part.DECODER,), True)
    assert probes(lone) == probes(keras) == ()


@pytest.fixture
def sizes(make_bundle: MakeBundle, make_record: MakeRecord) -> Bundle:
    return make_bundle(
        make_record("decoder", "tflite", "int8", batch=8),
        make_record("decoder", "onnx", "int8", batch=None),
    )


def test_batches_go_to_the_artifacts_that_take_them_and_all_to_keras(sizes: Bundle) -> None:
    found = swept(sizes, Path("m.keras"), threads=(1,), batches=(1, 8))
    assert [(task.name, task.batches) for task in found.tasks] == [
        ("keras", (1, 8)),
        ("int8 tflite", (8,)),
        ("int8 onnx", (1,)),
        ("int8 onnx", (8,)),
    ]
    (skipped,) = found.skipped
    assert skipped.name == "decoder.int8.tflite at batch 1"
    assert "Its batch is fixed at 8" in skipped.reason
    assert "export --batch dynamic" in skipped.reason


def test_a_batch_that_nothing_takes_is_refused(sizes: Bundle) -> None:
    only = Selection(formats=(Format.TFLITE,))
    with pytest.raises(UsageError, match=r"takes a batch of 2 or 4\. Its batch is fixed"):
        swept(sizes, threads=(1,), batches=(2, 4), only=only)


def test_halves_of_unlike_precision_are_run_in_a_row_where_no_precision_has_both(
    make_bundle: MakeBundle, make_record: MakeRecord
) -> None:
    mixed = make_bundle(
        make_record("encoder", "tflite", "int8"), make_record("decoder", "tflite", "float16")
    )
    *_, both = swept(mixed, threads=(1,)).tasks
    assert planned(mixed) == [
        ("int8 tflite", 1, (Part.ENCODER,)),
        ("float16 tflite", 1, (Part.DECODER,)),
        ("int8+float16 tflite", 1, (Part.BOTH,)),
    ]
    assert both.precision_of(Component.ENCODER) is Precision.INT8
    assert both.precision_of(Component.DECODER) is Precision.FLOAT16


def test_a_whole_precision_is_not_mixed_with_others(bundle: Bundle) -> None:
    assert not [name for name, _, _ in planned(bundle) if "+" in name]
