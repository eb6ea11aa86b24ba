"""What computes in which type before any value is looked at."""

from __future__ import annotations

import numpy as np
import pytest

from exporters.graph import Activate, Activation, Conv, Dense
from exporters.quantization.placement import dynamic, mostly_integer
from exporters.quantization.plan import WeightMode
from vae_edge.terms import Format

pytestmark = pytest.mark.host

FORMATS = pytest.mark.parametrize("format", list(Format))
PLANS = pytest.mark.parametrize("plan", [dynamic, mostly_integer])


def dense(inputs: int, outputs: int) -> Dense:
    return Dense(kernel=np.zeros((inputs, outputs), np.float32), bias=np.zeros(outputs, np.float32))


@FORMATS
@PLANS
@pytest.mark.parametrize(
    ("outputs", "mode"),
    [
        (16, WeightMode.FLOAT32),  # 2,048 bytes at most are saved
        (1024, WeightMode.FLOAT16),
        (1025, WeightMode.INT8),  # from here on most of a file
    ],
)
def test_what_reads_latents_is_as_narrow_as_its_size_asks_for(chain, format, plan, outputs, mode):
    graph = chain((64,), dense(64, outputs), Activate(activation=Activation.SIGMOID))
    found = plan(graph, format)
    assert found.weight_mode("a") is mode
    assert "a" not in found.integer | found.integer_input


@FORMATS
def test_large_weights_have_one_scale_where_old_runtimes_know_no_other(chain, format):
    graph = chain((64,), dense(64, 1025), Activate(activation=Activation.SIGMOID))
    assert ("a" in mostly_integer(graph, format).per_tensor) == (format is Format.TFLITE)


@FORMATS
def test_convolutions_in_groups_are_integers_where_that_is_asked_for(chain, format):
    grouped = Conv(kernel=np.ones((3, 3, 1, 8), np.float32), bias=np.zeros(8, np.float32), groups=8)
    whole = Conv(kernel=np.ones((1, 1, 8, 8), np.float32), bias=np.zeros(8, np.float32))
    graph = chain((6, 6, 8), whole, grouped, whole)
    assert mostly_integer(graph, format).integer == frozenset("abc")
    assert mostly_integer(graph, format, integer_depthwise=False).integer == frozenset("ac")
