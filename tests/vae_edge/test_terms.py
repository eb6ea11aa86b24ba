from __future__ import annotations

import pytest

from vae_edge import errors
from vae_edge.errors import ArtifactError, VaeEdgeError
from vae_edge.terms import (
    COMPONENT_INPUT,
    COMPONENT_OUTPUTS,
    Component,
    Format,
    Precision,
    TensorSpec,
)


@pytest.mark.parametrize("member", [*Component, *Format, *Precision])
def test_terms_print_as_their_value(member):
    assert str(member) == f"{member}" == member.value
    assert type(member)(str(member)) is member


def test_every_component_has_an_input_and_outputs():
    assert COMPONENT_INPUT.keys() == COMPONENT_OUTPUTS.keys() == set(Component)


def test_spec_reads_as_name_type_and_shape():
    spec = TensorSpec(name="image", shape=(None, 28, 28, 1), dtype="float32")

    assert str(spec) == "image float32 (any, 28, 28, 1)"


@pytest.mark.parametrize("batch", [1, 4, None])
def test_batch_is_the_first_axis(batch):
    assert TensorSpec(name="z", shape=(batch, 2), dtype="float32").batch == batch


@pytest.mark.parametrize("given", [{"scale": 0.5}, {"zero_point": 3}])
def test_scale_without_zero_point_is_refused(given):
    with pytest.raises(ArtifactError, match="tensor 'z': scale and zero_point belong together"):
        TensorSpec(name="z", shape=(1, 2), dtype="int8", **given)


def test_scale_of_zero_point_zero_is_complete():
    assert TensorSpec(name="z", shape=(1, 2), dtype="int8", scale=0.5, zero_point=0).scale == 0.5


def test_every_error_is_caught_by_the_one_base():
    for name in errors.__all__:
        assert issubclass(getattr(errors, name), VaeEdgeError)
