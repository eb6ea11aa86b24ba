from __future__ import annotations

import json
from typing import Any

import pytest

from vae_edge.codec import DecodeError, decode, encode, loads
from vae_edge.errors import UsageError
from vae_edge.training.settings import Architecture, TrainSettings, Validation


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs must be 1 or more; received 0"),
        ({"epochs": -3}, "epochs must be 1 or more; received -3"),
        ({"batch_size": 0}, "batch_size must be 1 or more"),
        ({"latent_dim": 0}, "latent_dim must be 1 or more"),
        ({"patience": -1}, "patience must be 0 or more"),
        ({"limit": 1}, "limit must be 2 or more; received 1"),
        ({"seed": -1}, "seed must lie between 0 and 2147483647; received -1"),
        ({"seed": 2**31}, "seed must lie between 0 and 2147483647"),
        ({"beta": float("nan")}, "beta must be a finite number, 0 or more; received nan"),
        ({"beta": -0.5}, "beta must be a finite number, 0 or more; received -0.5"),
        ({"beta": float("inf")}, "beta must be a finite number"),
        ({"learning_rate": 0.0}, "learning_rate must be a finite number above 0"),
        ({"learning_rate": float("nan")}, "learning_rate must be a finite number above 0"),
        ({"validation_fraction": 0.0}, "validation_fraction must lie between 0 and 1"),
        ({"validation_fraction": 1.0}, "validation_fraction must lie between 0 and 1"),
        ({"encoder_filters": ()}, "encoder_filters must name at least one layer"),
        ({"decoder_filters": (8, 0)}, "decoder_filters must be 1 or more; received 0"),
        ({"hidden_units": (16, -1)}, "hidden_units must be 1 or more; received -1"),
        ({"image_shape": (28, 28)}, r"image_shape must be three positive numbers.*\(28, 28\)"),
        ({"image_shape": (28, 0, 1)}, "image_shape must be three positive numbers"),
    ],
)
def test_values_that_cannot_be_trained_with_are_refused(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        TrainSettings(**changes)


@pytest.mark.parametrize("name", ["encoder_filters", "decoder_filters"])
def test_a_height_or_width_that_the_filters_do_not_fit_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"30x28 do not fit 2 stride-2 layers.*multiples of 4"):
        TrainSettings(image_shape=(30, 28, 1), **{name: (8, 8)}, **_other(name))
    assert TrainSettings(image_shape=(32, 28, 1), **{name: (8, 8)}, **_other(name))


def _other(name: str) -> dict[str, Any]:
    return {"decoder_filters" if name == "encoder_filters" else "encoder_filters": (8,)}


def test_edges_of_what_is_allowed() -> None:
    settings = TrainSettings(beta=0.0, epochs=1, batch_size=1, patience=0, seed=2**31 - 1, limit=2)
    assert settings.seed == 2**31 - 1


def test_defaults_are_the_model_of_the_design() -> None:
    assert TrainSettings().architecture == Architecture(
        image_shape=(28, 28, 1),
        latent_dim=2,
        encoder_filters=(32, 64),
        decoder_filters=(64, 32),
        hidden_units=(),
    )


def test_settings_survive_json() -> None:
    settings = TrainSettings(
        limit=100, hidden_units=(16,), validation=Validation.TEST, learning_rate=0.002
    )
    text = json.dumps(encode(settings))
    assert decode(TrainSettings, loads(text)) == settings


def test_an_unknown_key_in_json_is_refused() -> None:
    with pytest.raises(DecodeError, match="unknown key 'momentum'"):
        decode(TrainSettings, {**encode(TrainSettings()), "momentum": 0.9})
