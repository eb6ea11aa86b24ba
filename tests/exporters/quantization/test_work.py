"""How much a graph computes, and how many rows that is too much for."""

from __future__ import annotations

import numpy as np

from exporters.graph import Activate, Activation, Conv, ConvTranspose, Dense
from exporters.quantization.work import cost, products, rows_within


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def test_products_are_counted_per_row(chain):
    assert products(chain((5,), Dense(kernel=zeros(5, 3), bias=zeros(3)))) == 15
    # 4 x 4 positions of 3 x 3 x 2 products to 5 channels; then every value times 2 x 2 x 7.
    conv = Conv(kernel=zeros(3, 3, 2, 5), bias=zeros(5))
    up = ConvTranspose(
        kernel=zeros(2, 2, 7, 5),
        bias=zeros(7),
        strides=(2, 2),
        pads_before=(0, 0),
        output_size=(8, 8),
    )
    assert products(chain((6, 6, 2), conv, up)) == 16 * 90 + 16 * 5 * 28
    assert products(chain((5,), Activate(activation=Activation.TANH))) == 1
    # Every value that is made costs as much as 64 of them.
    made = 16 * 5 + 64 * 7
    assert cost(chain((6, 6, 2), conv, up)) == 16 * 90 + 16 * 5 * 28 + 64 * made


def test_large_graphs_get_fewer_rows(chain):
    graph = chain((5,), Dense(kernel=zeros(5, 4), bias=zeros(4)))
    rows = zeros(100, 5)
    assert len(rows_within(graph, rows, most=64, work=1e6, least=8)) == 64
    assert len(rows_within(graph, rows, most=64, work=(20 + 64 * 4) * 30, least=8)) == 30
    assert len(rows_within(graph, rows, most=64, work=276, least=8)) == 8
    assert len(rows_within(graph, rows[:5], most=64, work=276, least=8)) == 5
