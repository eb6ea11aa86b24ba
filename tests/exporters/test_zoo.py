"""Architectures that users have, exported; `benchmarks.architectures` does all of them."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.zoo import ZOO, build, data_for
from exporters.base import ExportRequest
from exporters.keras_graph import read_graph
from exporters.registry import EXPORTERS
from vae_edge.runners.registry import open_artifact_bytes
from vae_edge.terms import Component, Format, Precision

pytestmark = [pytest.mark.host, pytest.mark.slow]

# Between them they hold most layers that are read.
NAMES = ("signal-pooling", "pooling", "operations", "odd")


@pytest.mark.parametrize("name", NAMES)
def test_float32_is_the_keras_model(name):
    vae = build(name, steps=2)
    latents = np.random.default_rng(0).standard_normal((4, vae.latent_dim), np.float32)
    inputs = {
        Component.ENCODER: data_for(ZOO[name], count=12).train_images[:4],
        Component.DECODER: latents,
    }
    for component, rows in inputs.items():
        assert read_graph(vae, component).opaque() == ()
        wanted = {key: np.asarray(value) for key, value in vae.function(component)(rows).items()}
        request = ExportRequest(
            vae=vae,
            component=component,
            precision=Precision.FLOAT32,
            batch=None,
            calibration=rows,
        )
        for format in Format:
            content = EXPORTERS[format].export(request).content
            with open_artifact_bytes(content, format, name=name) as runner:
                found = runner.run({runner.inputs[0].name: rows})
            for key, value in wanted.items():
                assert np.abs(found[key] - value).max() <= 5e-6 * np.abs(value).max(), key


# docs/architectures.md gives the reasons.
REFUSED = {"lstm": {"encoder.int8.tflite", "decoder.int8.tflite"}}


def _judge(name, destination):
    from benchmarks.architectures import measure

    outcomes = {each.file: each for each in measure(name, destination)}
    assert len(outcomes) == 16
    refused = {file for file, each in outcomes.items() if each.psnr_db is None}
    failed = {file for file, each in outcomes.items() if not each.passed} - refused
    assert refused == REFUSED.get(name, set())
    assert not failed, [outcomes[file].reason for file in failed]
    for file, each in outcomes.items():
        assert each.converter == (name in ("attention", "lstm")), file


def test_every_precision_is_made_and_passes(tmp_path):
    _judge("dense", tmp_path / "bundle")


@pytest.mark.study
@pytest.mark.parametrize("name", sorted(set(ZOO) - {"dense"}))
def test_every_architecture_in_every_format_and_precision(name, tmp_path):
    _judge(name, tmp_path / "bundle")
