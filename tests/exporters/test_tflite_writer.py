"""TFLite files written operator by operator, run by the real runtime."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from exporters.graph import (
    Activate,
    Activation,
    Affine,
    Binary,
    BinaryKind,
    Concat,
    Conv,
    ConvTranspose,
    Dense,
    Graph,
    KerasLayer,
    Layout,
    Node,
    Pad,
    Repeat,
    Reshape,
    Slice,
    SumShifted,
    Transpose,
)
from exporters.operators import Pool, PoolKind
from exporters.quantization.plan import (
    FLOAT_PLAN,
    QuantizationPlan,
    Range,
    WeightMode,
    quantize_weights,
)
from exporters.tflite_model import TFLiteModel
from exporters.tflite_writer import SIGNATURE, unwritable, write_tflite
from vae_edge.errors import ExportError
from vae_edge.runners.registry import open_artifact_bytes
from vae_edge.terms import Format

pytestmark = pytest.mark.host

RNG = np.random.default_rng(12)
RELU = Activation.RELU


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape, np.float32)


def conv(taps=(3, 3), channels=(4, 5), **changes) -> Conv:
    return Conv(kernel=normal(*taps, *channels), bias=normal(channels[1]), **changes)


def dense(inputs: int, outputs: int, **changes) -> Dense:
    return Dense(kernel=normal(inputs, outputs), bias=normal(outputs), **changes)


def run(content: bytes, rows: np.ndarray) -> dict[str, np.ndarray]:
    with open_artifact_bytes(content, Format.TFLITE, name="written") as runner:
        return runner.run({runner.inputs[0].name: rows})


def branches(op, shape=(3, 4, 5)) -> Graph:
    """An operator of two tensors, behind two layers."""
    nodes = (
        Node(name="left", op=dense(shape[-1], 4), inputs=("x",), output="left"),
        Node(name="right", op=dense(shape[-1], 4), inputs=("x",), output="right"),
        Node(name="both", op=op, inputs=("left", "right"), output="both"),
    )
    return Graph(input="x", input_shape=shape, nodes=nodes, outputs={"y": "both"})


@pytest.fixture(scope="session")
def assert_written(in_tensorflow):
    """Write a graph for each batch, run it, and compare with what TensorFlow computes."""

    def check(graph: Graph, plan=FLOAT_PLAN, share: float = 1e-5, reference=None) -> None:
        assert unwritable(graph) is None
        for batch, counts in ((1, (1,)), (4, (4,)), (None, (1, 3))):
            content = write_tflite(graph, plan, batch)
            for count in counts:
                rows = normal(count, *graph.input_shape)
                wanted = in_tensorflow(reference or graph, rows)
                found = run(content, rows)
                assert found.keys() == wanted.keys()
                for name, value in wanted.items():
                    assert found[name].shape == value.shape
                    error = np.abs(found[name] - value).max()
                    assert error <= share * np.abs(value).max(), (name, batch)

    return check


SAME_ODD = ((0, 1), (1, 1))
OPERATORS = [
    ((6, 7, 4), conv()),
    ((6, 7, 4), conv((3, 2), pads=((1, 1), (0, 1)))),
    ((6, 7, 4), conv((3, 2), pads=((2, 0), (1, 0)), activation=RELU)),
    ((6, 7, 4), conv((3, 3), strides=(2, 2), pads=SAME_ODD)),
    ((6, 7, 4), conv((2, 3), strides=(1, 3), activation=Activation.RELU6)),
    ((9, 9, 4), conv((3, 3), dilations=(2, 3), pads=((2, 2), (3, 3)))),
    ((6, 7, 4), conv((3, 3), (1, 4), groups=4, pads=((1, 1), (1, 1)))),
    ((6, 7, 4), conv((2, 3), (1, 12), groups=4, strides=(2, 2), activation=RELU)),
    ((9, 9, 4), conv((3, 3), (1, 8), groups=4, dilations=(2, 2))),
    ((6, 7, 1), conv((3, 3), (1, 3))),
    ((7,), dense(7, 5)),
    ((7,), dense(7, 5, activation=Activation.RELU6)),
    ((3, 4, 7), dense(7, 5, activation=RELU)),
    ((3, 7), dense(7, 1)),
    ((3, 4, 5), Affine(scale=normal(5), offset=normal(5))),
    ((3, 4, 5), Reshape(to=(15, 4))),
    ((3, 4, 5), Transpose(order=(2, 0, 1))),
    ((3, 4), Transpose(order=(1, 0))),
    ((3, 4, 5), Pad(pads=((1, 0), (0, 2), (2, 1)))),
    ((3, 4, 5), Slice(starts=(1, 0, 2), sizes=(2, 3, 1))),
]


@pytest.mark.parametrize(("shape", "op"), OPERATORS, ids=lambda v: type(v).__name__)
def test_operators_compute_what_tensorflow_does(chain, assert_written, shape, op):
    assert_written(chain(shape, op))


@pytest.mark.parametrize("activation", list(Activation))
def test_activations_compute_what_tensorflow_does(chain, assert_written, activation):
    # Roots and logarithms are of positive values.
    positive = activation in (Activation.LOG, Activation.SQRT, Activation.RSQRT)
    wide = Affine(
        scale=np.full(5, 4, np.float32), offset=np.full(5, 40 if positive else 0, np.float32)
    )
    assert_written(chain((3, 4, 5), wide, Activate(activation=activation, alpha=0.3)))


def test_more_operators_compute_what_tensorflow_does(chain, assert_written, more_operators):
    for shape, op in more_operators.values():
        assert_written(chain(shape, op))


def test_pooling_moves_integers(chain, in_tensorflow):
    pool = Pool(kind=PoolKind.MAX, size=(2, 2), strides=(2, 2))
    graph = chain((4, 4, 3), conv((1, 1), (3, 3)), pool)
    range_ = Range(low=-8.0, high=8.0)
    plan = QuantizationPlan(integer=frozenset("ab"), ranges=dict.fromkeys(("x", "a", "b"), range_))
    rows = normal(1, 4, 4, 3)
    content = write_tflite(graph, plan, 1)
    found, wanted = run(content, rows)["y"], in_tensorflow(graph, rows)["y"]
    # Two steps of the range, and the weights' own rounding.
    assert np.abs(found - wanted).max() <= 4 * range_.scale
    assert TFLiteModel.parse(content).count(in_float=True) == {}


@pytest.mark.parametrize(
    "op",
    [
        *(Binary(kind=kind) for kind in BinaryKind),
        Concat(axis=0),
        Concat(axis=1),
        Concat(axis=2),
    ],
    ids=str,
)
def test_operators_of_two_tensors_compute_what_tensorflow_does(assert_written, op):
    assert_written(branches(op))


def whole() -> Graph:
    """A graph with an operator of every kind, and two outputs, one of them read inside."""

    def node(name, op, *inputs):
        return Node(name=name, op=op, inputs=inputs, output=name)

    nodes = (
        node("pad", Pad(pads=((0, 1), (1, 0), (0, 0))), "image"),
        node("first", conv((3, 3), (4, 6), strides=(2, 2), activation=RELU), "pad"),
        node("scaled", Affine(scale=normal(6), offset=normal(6)), "first"),
        node("second", conv((3, 3), (6, 6), pads=((1, 1), (1, 1))), "scaled"),
        node("sum", Binary(kind=BinaryKind.ADD), "first", "second"),
        node("tanh", Activate(activation=Activation.TANH), "sum"),
        node("both", Concat(axis=2), "tanh", "scaled"),
        node("cut", Slice(starts=(0, 1, 0), sizes=(3, 2, 12)), "both"),
        node("turned", Transpose(order=(2, 0, 1)), "cut"),
        node("flat", Reshape(to=(72,)), "turned"),
        node("mean", dense(72, 3), "flat"),
        node("spread", dense(72, 3), "flat"),
        node("leaky", Activate(activation=Activation.LEAKY_RELU, alpha=0.1), "mean"),
    )
    outputs = {"z_mean": "mean", "z_log_var": "spread", "leaky": "leaky"}
    return Graph(input="image", input_shape=(7, 8, 4), nodes=nodes, outputs=outputs)


def test_whole_graphs_compute_what_tensorflow_does(assert_written):
    assert_written(whole())


@pytest.mark.parametrize("batch", [1, 4, None])
def test_inputs_and_outputs_have_names_and_shapes(batch):
    from ai_edge_litert.interpreter import Interpreter

    content = write_tflite(whole(), FLOAT_PLAN, batch)
    interpreter = Interpreter(model_content=content)
    assert interpreter.get_signature_list() == {
        SIGNATURE: {"inputs": ["image"], "outputs": ["leaky", "z_log_var", "z_mean"]}
    }
    with open_artifact_bytes(content, Format.TFLITE, name="written") as runner:
        assert [(s.name, s.shape, s.dtype) for s in runner.inputs] == [
            ("image", (batch, 7, 8, 4), "float32")
        ]
        assert [(s.name, s.shape) for s in runner.outputs] == [
            ("z_mean", (batch, 3)),
            ("z_log_var", (batch, 3)),
            ("leaky", (batch, 3)),
        ]


def test_one_tensor_may_leave_by_two_names(chain, assert_written):
    graph = chain((4,), dense(4, 3))
    assert_written(replace(graph, outputs={"y": "a", "z": "a"}))


# What cannot be written


@pytest.mark.parametrize(
    ("shape", "op", "reason"),
    [
        (
            (4,),
            KerasLayer(kind="GELU", call=lambda x: x, output_shape=(4,)),
            "a (GELU) has no direct form",
        ),
        (
            (2, 2, 4),
            ConvTranspose(
                kernel=normal(2, 2, 3, 4),
                bias=normal(3),
                strides=(2, 2),
                pads_before=(0, 0),
                output_size=(4, 4),
            ),
            "a (ConvTranspose) has no direct form",
        ),
        ((2, 2, 4), Repeat(rows=2, columns=2), "a (Repeat) has no direct form"),
        (
            (3, 3, 4),
            SumShifted(taps=(2, 2), pads=((0, 0), (0, 0)), bias=normal(1)),
            "a (SumShifted) has no direct form",
        ),
        ((5, 5, 4), conv(channels=(2, 6), groups=2), "a has 2 groups"),
        ((4, 5, 5), conv(layout=Layout.CHANNELS_FIRST), "a has its channels first"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_tflite_lacks_is_named(chain, shape, op, reason):
    assert unwritable(chain(shape, op)) == reason


# Weights stored as less than they are computed as


def kinds(content: bytes) -> dict[str, set[str]]:
    """Types of the constants of every tensor whose name ends so."""
    from ai_edge_litert import schema_py_generated as fb

    model = fb.ModelT.InitFromObj(fb.Model.GetRootAs(content, 0))
    names = {value: key for key, value in vars(fb.TensorType).items() if isinstance(value, int)}
    found: dict[str, set[str]] = {}
    for tensor in model.subgraphs[0].tensors:
        if model.buffers[tensor.buffer].data is not None:
            name = tensor.name.decode() if isinstance(tensor.name, bytes) else tensor.name
            found.setdefault(name.split("/")[-1], set()).add(names[tensor.type])
    return found


def versions(content: bytes) -> dict[str, int]:
    from exporters.tflite_model import TFLiteModel

    return {op.name: op.version for op in TFLiteModel.parse(content).operators}


def test_float16_weights_are_rounded_to_eleven_bits(chain):
    op = Dense(kernel=normal(8, 32), bias=np.zeros(32, np.float32))
    plan = QuantizationPlan(weights={"a": WeightMode.FLOAT16})
    content = write_tflite(chain((8,), op), plan, None)
    weights = run(content, np.eye(8, dtype=np.float32))["y"]
    assert np.any(weights != op.kernel)
    assert np.all(np.abs(weights - op.kernel) <= 2**-11 * np.abs(op.kernel))
    assert kinds(content)["float16"] == {"FLOAT16"}
    assert "kernel" not in kinds(content)


def test_float16_stores_half_the_bytes_of_every_kind_of_layer(chain, assert_written):
    ops = [
        conv((3, 3), (8, 32)),
        conv((3, 3), (1, 32), groups=32),
        Reshape(to=(5 * 5 * 32,)),
        dense(800, 8),
    ]
    graph = chain((9, 9, 8), *ops)
    plan = QuantizationPlan(weights=dict.fromkeys("abd", WeightMode.FLOAT16))
    sizes = [len(write_tflite(graph, each, 1)) for each in (FLOAT_PLAN, plan)]
    count = sum(op.kernel.size for op in ops if not isinstance(op, Reshape))
    assert sizes[0] - sizes[1] == pytest.approx(2 * count, rel=0.1)
    # Biases too: LiteRT 1.1 takes a float32 one beside such a kernel for float16.
    half = [
        op
        if isinstance(op, Reshape)
        else replace(
            op,
            kernel=np.float32(np.float16(op.kernel)),
            bias=np.float32(np.float16(op.bias)),
        )
        for op in ops
    ]
    assert_written(graph, plan, reference=chain((9, 9, 8), *half))
    assert float_constants_beside(write_tflite(graph, plan, 1), "FLOAT16") == []


def float_constants_beside(content: bytes, kernel: str) -> list[str]:
    """Names of float32 constants that an operator reads beside a kernel unpacked from `kernel`."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    (graph,) = model.subgraphs
    kind = getattr(schema.TensorType, kernel)
    unpacked = {
        int(op.outputs[0]) for op in graph.operators if graph.tensors[op.inputs[0]].type == kind
    }
    return [
        graph.tensors[i].name.decode()
        for op in graph.operators
        if unpacked & set(map(int, op.inputs))
        for i in op.inputs
        if graph.tensors[i].type == schema.TensorType.FLOAT32
        and model.buffers[graph.tensors[i].buffer].data is not None
    ]


def test_phases_share_what_is_unpacked(chain):
    """One bias for four convolutions is unpacked once."""
    from exporters.tflite_model import TFLiteModel

    op, bias = conv((3, 3), (8, 32)), normal(32)
    graph = chain((9, 9, 8), *(replace(each, bias=bias) for each in (op, conv((3, 3), (32, 32)))))
    plan = QuantizationPlan(weights=dict.fromkeys("ab", WeightMode.FLOAT16))

    counts = TFLiteModel.parse(write_tflite(graph, plan, 1)).count()
    assert counts["DEQUANTIZE"] == 3


def test_float16_saturates_where_it_ends(chain):
    op = Dense(kernel=np.float32([[1e5, -1e6, 2]]), bias=np.zeros(3, np.float32))
    plan = QuantizationPlan(weights={"a": WeightMode.FLOAT16})
    y = run(write_tflite(chain((1,), op), plan, 1), np.float32([[1]]))["y"]
    np.testing.assert_array_equal(y, [[65504, -65504, 2]])


@pytest.mark.parametrize(
    ("shape", "op", "per_tensor"),
    [
        ((24,), dense(24, 5), False),
        ((24,), dense(24, 5), True),
        ((3, 24), dense(24, 5, activation=RELU), False),
        ((3, 24), dense(24, 5, activation=RELU), True),
        ((6, 7, 4), conv(pads=((1, 1), (1, 1))), False),
        ((6, 7, 4), conv((2, 3), (1, 8), groups=4), False),
    ],
)
def test_dynamic_weights_err_by_the_steps_of_what_they_read(
    chain, by_definition, shape, op, per_tensor
):
    graph = chain(shape, op)
    plan = QuantizationPlan(
        weights={"a": WeightMode.INT8}, per_tensor=frozenset("a" if per_tensor else "")
    )
    content = write_tflite(graph, plan, 1)
    assert kinds(content)["kernel"] == {"INT8"}
    weights = quantize_weights(op.kernel, per_channel=not per_tensor).real()
    stored = chain(shape, replace(op, kernel=weights))
    for _ in range(5):
        rows = normal(1, *shape)
        found, wanted = run(content, rows)["y"], by_definition(stored, rows)["y"]
        # Values are quantized with one scale for all of a row, which spans at least their range
        # and at most twice their peak; each product errs by half a step at most.
        step = max(np.ptp(np.append(rows, 0)), 2 * np.abs(rows).max()) / 254
        reach = np.abs(weights).sum(axis=tuple(range(weights.ndim - 1))).max()
        assert np.abs(found - wanted).max() <= 0.5 * step * reach + 1e-5
        # A near miss: without quantization it would be exact.
        assert np.abs(found - wanted).max() > 1e-5


def test_dense_layers_with_one_scale_need_no_runtime_newer_than_tflite_runtime(chain):
    plan = QuantizationPlan(weights={"a": WeightMode.INT8}, per_tensor=frozenset("a"))
    assert versions(write_tflite(chain((8,), dense(8, 4)), plan, 1)) == {"FULLY_CONNECTED": 9}
    per_channel = replace(plan, per_tensor=frozenset())
    assert versions(write_tflite(chain((8,), dense(8, 4)), per_channel, 1)) == {
        "FULLY_CONNECTED": 12
    }


# Integers


@pytest.fixture(scope="session")
def assert_integers():
    """Write a graph with some nodes in integers, and compare with the simulation of its plan."""
    from exporters.quantization.ranges import SharedRanges
    from exporters.quantization.simulate import Simulation, observe_ranges

    def check(graph: Graph, *, steps: float = 1.0, **settings) -> bytes:
        every = frozenset(node.output for node in graph.nodes)
        rows = normal(40, *graph.input_shape)
        shared = SharedRanges.of(graph, observe_ranges(graph, rows))
        ranges = shared.ranges(shared.observed)
        plan = QuantizationPlan(**{"integer": every, "ranges": ranges, **settings})
        wanted = Simulation(graph, plan).run(rows, plan.ranges)
        contents = {batch: write_tflite(graph, plan, batch) for batch in (1, None)}
        found = run(contents[None], rows)
        first = run(contents[1], rows[:1])
        for name, value in wanted.items():
            step = plan.ranges[graph.outputs[name]].scale
            assert np.abs(found[name] - value).max() <= steps * step * (1 + 1e-4), name
            np.testing.assert_array_equal(first[name], found[name][:1])
            # Steps of the output are a small part of it: a wrong layer would not get by.
            assert step < 0.02 * np.abs(value).max()
        return contents[1]

    return check


INTEGERS = [
    ((6, 7, 4), conv()),
    ((6, 7, 4), conv(pads=((1, 1), (1, 1)), activation=RELU)),
    ((6, 7, 4), conv((3, 2), pads=((2, 0), (1, 0)))),
    ((6, 7, 4), conv((3, 3), strides=(2, 2), pads=SAME_ODD)),
    ((6, 7, 4), conv((3, 3), (1, 8), groups=4, pads=((1, 1), (1, 1)))),
    ((6, 7, 4), conv((2, 3), (1, 4), groups=4, activation=RELU)),
    ((24,), dense(24, 6)),
    ((24,), dense(24, 6, activation=RELU)),
    ((3, 2, 24), dense(24, 6)),
    ((3, 4, 5), Reshape(to=(60,))),
    ((3, 4, 5), Transpose(order=(2, 0, 1))),
    ((3, 4, 5), Pad(pads=((1, 0), (0, 2), (0, 0)))),
    ((3, 4, 5), Slice(starts=(1, 0, 2), sizes=(2, 3, 3))),
    ((3, 4, 5), Activate(activation=RELU)),
    ((3, 4, 5), Activate(activation=Activation.LEAKY_RELU, alpha=0.25)),
]


@pytest.mark.parametrize(("shape", "op"), INTEGERS, ids=lambda v: type(v).__name__)
def test_integer_operators_are_within_a_step_of_their_simulation(chain, assert_integers, shape, op):
    content = assert_integers(chain(shape, op))
    names = list(versions(content))
    assert (names[0], names[-1]) == ("QUANTIZE", "DEQUANTIZE")


@pytest.mark.parametrize("op", [Binary(kind=BinaryKind.ADD), Binary(kind=BinaryKind.MULTIPLY)])
def test_integer_operators_of_two_tensors_are_within_a_step(assert_integers, op):
    graph = branches(op)
    # The layers before it stay in float, so that it gets what the simulation gives it.
    assert_integers(graph, integer=frozenset({"both"}))


def test_integer_concatenations_move_values_alone(assert_integers):
    assert_integers(branches(Concat(axis=2)), integer=frozenset({"both"}), steps=1e-3)


def test_layers_with_one_scale_for_all_weights_are_within_a_step(chain, assert_integers):
    assert_integers(chain((24,), dense(24, 6)), per_tensor=frozenset("a"))


def test_weights_that_were_chosen_are_the_ones_that_are_stored(chain, assert_integers):
    op = conv()
    weights = quantize_weights(op.kernel)
    chosen = replace(weights, stored=(weights.stored // 2).astype(np.int8))
    assert_integers(chain((6, 7, 4), op), stored={"a": chosen})


def test_integer_layers_one_after_the_other_stay_close(chain, assert_integers):
    graph = chain(
        (6, 6, 4),
        conv((3, 3), (4, 8), pads=((1, 1), (1, 1)), activation=RELU),
        conv((3, 3), (8, 8), strides=(2, 2), pads=((0, 1), (0, 1)), activation=RELU),
        Reshape(to=(72,)),
        dense(72, 4),
    )
    content = assert_integers(graph, steps=2)
    assert versions(content).keys() == {
        "QUANTIZE",
        "CONV_2D",
        "RESHAPE",
        "FULLY_CONNECTED",
        "DEQUANTIZE",
    }


def test_floats_and_integers_meet_in_one_graph(chain, assert_integers):
    graph = chain(
        (6, 6, 4),
        conv((3, 3), (4, 8), activation=RELU),
        conv((3, 3), (8, 4)),
        Activate(activation=Activation.TANH),
        Reshape(to=(16,)),
        dense(16, 3),
    )
    content = assert_integers(graph, integer=frozenset("b"), steps=5)
    from exporters.tflite_model import TFLiteModel

    assert [op.name for op in TFLiteModel.parse(content).operators] == [
        "CONV_2D",
        "QUANTIZE",
        "CONV_2D",
        "DEQUANTIZE",
        "TANH",
        "RESHAPE",
        "FULLY_CONNECTED",
    ]


def test_integer_boundaries_state_their_scales(chain, assert_integers):
    graph = chain((6, 7, 4), conv(activation=RELU))
    content = assert_integers(graph, integer_io=True)
    assert versions(content).keys() == {"CONV_2D"}
    with open_artifact_bytes(content, Format.TFLITE, name="written") as runner:
        assert {spec.dtype for spec in (*runner.inputs, *runner.outputs)} == {"int8"}
        # A rectified output begins at the lowest step.
        assert runner.outputs[0].zero_point == -128


def test_integer_tensors_are_stored_from_minus_128(chain):
    range_ = Range(low=-1.0, high=4.1)
    plan = QuantizationPlan(
        integer=frozenset("a"), ranges={"x": range_, "a": range_}, integer_io=True
    )
    content = write_tflite(chain((4,), Reshape(to=(2, 2))), plan, 1)
    with open_artifact_bytes(content, Format.TFLITE, name="written") as runner:
        (spec,) = runner.inputs
        assert spec.scale == pytest.approx(5.1 / 255, rel=1e-6)
        # -1 is step 0 of 255, 0 the step 50, stored as 50 - 128.
        assert spec.zero_point == -78


def test_a_bias_of_more_than_32_bits_is_refused(chain):
    op = Dense(kernel=np.float32([[1e-6]]), bias=np.float32([1e5]))
    ranges = {"x": Range(low=0.0, high=1.0), "a": Range(low=0.0, high=2e5)}
    plan = QuantizationPlan(integer=frozenset("a"), ranges=ranges)
    with pytest.raises(ExportError, match="a: its bias does not fit in 32 bits"):
        write_tflite(chain((1,), op), plan, 1)


@pytest.mark.parametrize("activation", [RELU, Activation.RELU6])
def test_a_rectified_layer_keeps_its_clamp_beside_one_without(assert_integers, activation):
    # Both have the range of what they are put together to, which goes beyond the clamp.
    assert_integers(
        replace(
            (plain := branches(Concat(axis=2))),
            nodes=(
                replace(plain.nodes[0], op=dense(5, 4, activation=activation)),
                *plain.nodes[1:],
            ),
        )
    )
