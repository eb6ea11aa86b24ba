from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.plan import Selection, plan
from benchmarks.protocol import GroupTask
from benchmarks.report import Part
from vae_edge.bundle import Bundle
from vae_edge.errors import UsageError
from vae_edge.manifest import ArtifactRecord
from vae_edge.terms import Format, Precision

MakeRecord = Callable[..., ArtifactRecord]
MakeBundle = Callable[..., Bundle]
ALL = (Part.ENCODER, Part.DECODER, Part.BOTH)


def planned(
    bundle: Bundle, reference: Path | None = None, selection: Selection | None = None
) -> list[tuple[str, int, tuple[Part, ...]]]:
    tasks = plan(bundle, reference, selection or Selection(), threads=2, seed=7)
    return [(task.name, task.batch, task.parts) for task in tasks]


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
    task = plan(bundle, None, Selection(), threads=2, seed=7)[1]
    assert task == GroupTask(
        name="int8 tflite",
        source="somewhere/tiny",
        format=Format.TFLITE,
        precision=Precision.INT8,
        parts=ALL,
        threads=2,
        batch=1,
        seed=7,
    )


def test_keras_comes_first_and_measures_what_some_artifact_does(bundle: Bundle) -> None:
    selection = Selection(formats=(Format.ONNX,))
    assert planned(bundle, Path("m.keras"), selection) == [
        ("keras", 1, (Part.DECODER,)),
        ("float32 onnx", 1, (Part.DECODER,)),
    ]
    (task, *_) = plan(bundle, Path("m.keras"), selection, threads=2, seed=7)
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
