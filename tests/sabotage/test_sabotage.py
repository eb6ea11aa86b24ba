"""Every gross damage to every artifact is caught, and a sound artifact is not."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from benchmarks.sabotage import (
    CONTROL,
    NOISE,
    Outcome,
    exceeded,
    export_shipped,
    main,
    noise_calibrated,
    sabotage,
    summary,
    table,
)
from benchmarks.sabotage_damage import DAMAGES, open_file
from vae_edge.bundle import Bundle
from vae_edge.manifest import MetricRecord
from vae_edge.terms import Component, Format, Precision

pytestmark = pytest.mark.host

MADE = (Precision.FLOAT32, Precision.FLOAT16, Precision.DYNAMIC, Precision.INT8)
PHASES = (
    "two phases of a transposed convolution exchanged",
    "two output channels of one phase exchanged",
)
# Stored in the file as integers with a scale of their own.
WEIGHTS_IN_8_BITS = {"a layer's weight scales doubled"}
ACTIVATIONS_IN_8_BITS = {
    "activation scale 1 % off",
    "activation scale doubled",
    "zero point off by 1",
    "zero point off by 10",
}
QUANTIZES = {"QUANTIZE", "QuantizeLinear"}


@pytest.fixture(scope="module")
def outcomes(sensitive_bundle: Path) -> tuple[Outcome, ...]:
    return sabotage(Bundle.open(sensitive_bundle))


def test_sound_artifacts_pass(outcomes):
    undamaged = [each for each in outcomes if each.damage == CONTROL]
    assert len(undamaged) == 16
    assert [each for each in undamaged if each.caught] == []


@pytest.mark.parametrize("damage", [d for d in DAMAGES if d.gross], ids=lambda d: d.name)
def test_gross_damage_is_caught_wherever_it_can_be_done(outcomes, damage):
    done = [each for each in outcomes if each.damage == damage.name]
    assert done
    assert [each for each in done if not each.caught] == []


@pytest.mark.parametrize("damage", [d for d in DAMAGES if d.gross], ids=lambda d: d.name)
def test_gross_damage_is_caught_by_its_numbers(outcomes, damage):
    """A file that no longer runs would prove nothing of the limits."""
    done = [each for each in outcomes if each.damage == damage.name]
    assert [each.check for each in done if each.factor is None] == []


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda d: d.name)
def test_damage_applies_wherever_its_kind_of_artifact_has_what_it_damages(
    outcomes, sensitive_bundle, damage
):
    precisions = {*MADE}
    if damage.name in WEIGHTS_IN_8_BITS:
        precisions = {Precision.DYNAMIC, Precision.INT8}
    elif damage.name in ACTIVATIONS_IN_8_BITS:
        precisions = {Precision.INT8}
    expected = {
        (record.component, record.format, record.precision)
        for record in Bundle.open(sensitive_bundle).manifest.artifacts
        if record.component in damage.components
        and record.precision in precisions
        # Layers that 8 bits would cost too much are left in float, which may be all of them.
        and not (damage.name in ACTIVATIONS_IN_8_BITS and not QUANTIZES & record.operators.keys())
        # Not lowered, so that there are no phases.
        and not (damage.name in PHASES and "ConvTranspose" in record.operators)
    }
    done = {(o.component, o.format, o.precision) for o in outcomes if o.damage == damage.name}
    assert done == expected


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda d: d.name)
def test_damage_changes_the_file(sensitive_bundle, damage):
    bundle = Bundle.open(sensitive_bundle)
    for record in bundle.manifest.artifacts:
        content = bundle.read(record)
        damaged = damage.of(content, record)
        # Written anew without a damage, so that a mere change of layout is no change.
        assert damaged != open_file(content, record.format).content(), record.label


def test_a_file_that_is_taken_apart_and_written_again_is_the_same_model(sensitive_bundle):
    bundle = Bundle.open(sensitive_bundle)
    for record in bundle.manifest.artifacts:
        file = open_file(bundle.read(record), record.format)
        before = file.content()
        for layer in file.layers():
            file.write(layer, file.read(layer))
        assert file.content() == before, record.label


def test_one_weight_less_is_less_than_all_of_it(outcomes):
    """Damages of growing size do growing harm, or the numbers mean nothing."""
    names = ["one weight 1 % smaller", "one weight 10 % smaller", "one weight lost"]
    for component in Component:
        factors = [
            next(
                each.factor
                for each in outcomes
                if each.damage == name
                and each.component is component
                and each.precision is Precision.FLOAT32
                and each.format is Format.ONNX
            )
            for name in names
        ]
        assert factors == sorted(factors)
        assert factors[0] > 1


def test_the_bundle_itself_is_not_touched(outcomes, sensitive_bundle):
    assert outcomes
    Bundle.open(sensitive_bundle)


def test_table_and_summary_say_what_was_missed():
    outcome = {
        "gross": True,
        "component": Component.DECODER,
        "format": Format.ONNX,
        "precision": Precision.INT8,
    }
    outcomes = [
        Outcome(damage="last sigmoid missing", caught=False, check="x rmse", factor=0.5, **outcome),
        Outcome(
            damage="a layer's bias dropped", caught=True, check="y rmse", factor=123, **outcome
        ),
        Outcome(damage="a kernel rotated by 180°", caught=True, check="no", factor=None, **outcome),
    ]
    lines = table(outcomes).splitlines()
    assert lines[0] == "| damage to the decoder | gross | onnx int8 |"
    assert lines[2:] == [
        "| a layer's bias dropped | yes | caught 123 (y rmse) |",
        "| a kernel rotated by 180° | yes | caught: does not run |",
        "| last sigmoid missing | yes | **missed** 0.5 (x rmse) |",
    ]
    assert "Gross damages caught: 2 of 3." in summary(outcomes)
    assert "decoder int8 onnx: MISSED last sigmoid missing; nearest: x rmse." in summary(outcomes)


@pytest.mark.parametrize(
    ("margin", "factor"), [(0.5, 2.0), (4.0, 0.25), (0.0, math.inf), (None, 0)]
)
def test_factor_is_an_error_over_its_limit(margin, factor):
    record = MetricRecord(
        output="z_mean", metric="rmse", value=1, limit=1, passed=False, margin=margin
    )
    assert exceeded(record) == factor


@pytest.mark.study
@pytest.mark.slow
def test_calibration_on_noise_is_judged_too(sensitive_vae, sensitive_bundle):
    bundle, recalibrate = Bundle.open(sensitive_bundle), noise_calibrated(sensitive_vae)
    made = {}

    def remembered(record):
        made[record.component, record.format, record.precision] = recalibrate(record)
        assert made[record.component, record.format, record.precision] != bundle.read(record)
        return made[record.component, record.format, record.precision]

    outcomes = sabotage(bundle, (), recalibrate=remembered)
    done = {(o.component, o.format, o.precision) for o in outcomes if o.damage == NOISE}
    assert done == set(made) == {(c, f, Precision.INT8) for c in Component for f in Format}


def test_the_command_prints_what_it_found_and_writes_it_down(sensitive_bundle, tmp_path, capsys):
    file = tmp_path / "new" / "outcomes.json"
    assert main([str(sensitive_bundle), "--json", str(file)]) == 0
    printed = capsys.readouterr().out
    written = json.loads(file.read_text())["outcomes"]
    assert "| damage to the encoder | gross | tflite float32 |" in printed
    assert f"of {sum(each['gross'] for each in written)}." in printed
    assert "MISSED" not in printed


def test_a_bundle_of_another_model_is_not_calibrated_on_noise(sensitive_bundle, tmp_path, capsys):
    model = tmp_path / "other.keras"
    model.write_bytes(b"another")
    assert main([str(sensitive_bundle), "--model", str(model)]) == 2
    assert "was exported from another model" in capsys.readouterr().err


def test_a_bundle_that_is_not_there_is_an_error(tmp_path, capsys):
    assert main([str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.study
@pytest.mark.slow
def test_no_gross_damage_to_the_model_that_ships_is_missed(tmp_path):
    """On whatever it is calibrated on where no data set is at hand."""
    outcomes = sabotage(Bundle.open(export_shipped(tmp_path / "bundle", None)))
    assert len([each for each in outcomes if each.damage == CONTROL]) == 16
    assert "MISSED" not in summary(outcomes)
    assert "undamaged" not in summary(outcomes)
