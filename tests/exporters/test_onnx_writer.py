"""ONNX files written operator by operator, run by the real runtime."""

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
from exporters.onnx_writer import OPSET, unwritable, write_onnx
from exporters.quantization.plan import (
    FLOAT_PLAN,
    QuantizationPlan,
    QuantizedWeights,
    WeightMode,
    quantize_weights,
)
from vae_edge.runners.registry import open_artifact_bytes
from vae_edge.terms import Format

pytestmark = pytest.mark.host

RNG = np.random.default_rng(12)
RELU = Activation.RELU


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape, np.float32)


def conv(taps=(3, 3), channels=(4, 5), **changes) -> Conv:
    """Channels first, as ONNX has them."""
    op = Conv(kernel=normal(*taps, *channels), bias=normal(channels[1]))
    return replace(op, **{"layout": Layout.CHANNELS_FIRST, **changes})


def transposed(taps, strides, output, before=(0, 0), **changes) -> ConvTranspose:
    return ConvTranspose(
        kernel=normal(*taps, 3, 4),
        bias=normal(3),
        strides=strides,
        pads_before=before,
        output_size=output,
        **{"layout": Layout.CHANNELS_FIRST, **changes},
    )


def dense(inputs: int, outputs: int, **changes) -> Dense:
    return Dense(kernel=normal(inputs, outputs), bias=normal(outputs), **changes)


def maps(taps, channels: int = 1, inputs: int = 8, **changes) -> tuple[Dense, SumShifted]:
    """What a narrow convolution is split into."""
    count = taps[0] * taps[1] * channels
    total = SumShifted(taps=taps, pads=((1, 0), (0, 1)), bias=normal(channels))
    return dense(inputs, count), replace(total, **changes)


def run(model, rows: np.ndarray) -> dict[str, np.ndarray]:
    content = model.SerializeToString()
    with open_artifact_bytes(content, Format.ONNX, name="written") as runner:
        return runner.run({runner.inputs[0].name: rows})


def operators(model) -> list[str]:
    return [node.op_type for node in model.graph.node if node.op_type != "Identity"]


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
            model = write_onnx(graph, plan, batch)
            for count in counts:
                rows = normal(count, *graph.input_shape)
                wanted = in_tensorflow(reference or graph, rows)
                found = run(model, rows)
                assert found.keys() == wanted.keys()
                for name, value in wanted.items():
                    assert found[name].shape == value.shape
                    error = np.abs(found[name] - value).max()
                    assert error <= share * np.abs(value).max(), (name, batch)

    return check


OPERATORS = [
    ((4, 6, 7), conv()),
    ((4, 6, 7), conv((3, 2), pads=((1, 2), (0, 1)), activation=RELU)),
    ((4, 6, 7), conv((2, 3), strides=(1, 3), activation=Activation.RELU6)),
    ((4, 9, 9), conv((3, 3), dilations=(2, 3), pads=((2, 2), (3, 3)))),
    ((4, 6, 7), conv((3, 3), (1, 8), groups=4, pads=((1, 1), (1, 1)))),
    ((4, 6, 7), conv((3, 3), (2, 6), groups=2, strides=(2, 2))),
    ((4, 5, 6), transposed((3, 3), (2, 2), (11, 13))),
    ((4, 5, 6), transposed((3, 3), (2, 2), (10, 12), activation=RELU)),
    ((4, 5, 6), transposed((4, 3), (2, 1), (10, 6), (1, 1))),
    ((4, 5, 6), transposed((2, 3), (3, 2), (15, 14), (0, 0), activation=Activation.RELU6)),
    ((4, 5, 6), transposed((3, 2), (1, 3), (7, 16), (0, 2))),
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
    ((3, 4, 6), SumShifted(taps=(2, 3), pads=((1, 0), (1, 1)), bias=normal(1))),
    ((3, 4, 12), SumShifted(taps=(2, 3), pads=((1, 0), (0, 2)), bias=normal(2))),
    ((3, 4, 9), SumShifted(taps=(3, 3), pads=((0, 0), (0, 0)), bias=np.zeros(1, np.float32))),
    (
        (3, 4, 24),
        SumShifted(taps=(4, 3), strides=(2, 3), pads=((1, 2), (0, 1)), bias=normal(2)),
    ),
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
        laid_out = hasattr(op, "layout")
        if laid_out:
            with pytest.raises(AssertionError):
                assert_written(chain(shape, op))
            shape, op = (shape[2], *shape[:2]), replace(op, layout=Layout.CHANNELS_FIRST)
        assert_written(chain(shape, op))


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
    # A divisor near 0 makes much of its last bit.
    divides = isinstance(op, Binary) and op.kind is BinaryKind.DIVIDE
    assert_written(branches(op), share=1e-4 if divides else 1e-5)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("pads", [((1, 1), (1, 1)), ((2, 0), (0, 2)), ((0, 0), (0, 0))])
def test_maps_and_their_sum_compute_what_tensorflow_does(chain, assert_written, channels, pads):
    graph = chain((4, 5, 8), *maps((3, 3), channels, pads=pads))
    assert_written(graph)


def test_maps_for_one_image_are_made_in_the_order_of_their_sum(chain):
    graph = chain((4, 5, 8), *maps((2, 2)))
    assert "Transpose" not in operators(write_onnx(graph, FLOAT_PLAN, 1))
    assert "Transpose" in operators(write_onnx(graph, FLOAT_PLAN, 4))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("pads", [((1, 1), (1, 1)), ((2, 0), (0, 3)), ((0, 0), (0, 0))])
def test_maps_of_blocks_and_their_sum_compute_what_tensorflow_does(
    chain, assert_written, channels, pads
):
    # 8 values for each map are few and 96 many: they are laid out in different ways.
    for inputs in (8, 96):
        products, total = maps((4, 3), channels, inputs, pads=pads, strides=(2, 1))
        assert_written(chain((4, 5, inputs), products, total))


def test_maps_that_come_with_channels_first_are_summed_as_they_are(chain, assert_written):
    total = maps((2, 2))[1]
    graph = chain((8, 4, 5), conv((1, 1), (8, 4)), Transpose(order=(1, 2, 0)), total)
    assert_written(graph)
    for batch in (1, 4, None):
        assert "Transpose" not in operators(write_onnx(graph, FLOAT_PLAN, batch))


def test_maps_of_many_values_are_laid_out_behind_the_product(chain):
    found = operators(write_onnx(chain((4, 5, 96), *maps((2, 2), 1, 96)), FLOAT_PLAN, 1))
    assert found.index("Gemm") < found.index("Transpose") < found.index("Col2Im")


def test_maps_with_an_activation_keep_it(chain, assert_written):
    products, total = maps((2, 2))
    assert_written(chain((4, 5, 8), replace(products, activation=RELU), total))


def whole() -> Graph:
    """A graph with an operator of every kind, and two outputs, one of them read inside."""

    def node(name, op, *inputs):
        return Node(name=name, op=op, inputs=inputs, output=name)

    products, total = maps((3, 3), 1, 8)
    nodes = (
        node("pad", Pad(pads=((0, 0), (0, 1), (1, 0))), "image"),
        node("first", conv((3, 3), (4, 6), strides=(2, 2), activation=RELU), "pad"),
        node("second", conv((3, 3), (6, 6), pads=((1, 1), (1, 1))), "first"),
        node("sum", Binary(kind=BinaryKind.ADD), "first", "second"),
        node("tanh", Activate(activation=Activation.TANH), "sum"),
        node("both", Concat(axis=0), "tanh", "second"),
        node("last", Transpose(order=(1, 2, 0)), "both"),
        node("scaled", Affine(scale=normal(12), offset=normal(12)), "last"),
        node("cut", Slice(starts=(0, 1, 2), sizes=(3, 3, 8)), "scaled"),
        node("products", products, "cut"),
        node("total", total, "products"),
        node("flat", Reshape(to=(16,)), "total"),
        node("mean", dense(16, 3), "flat"),
        node("spread", dense(16, 3), "flat"),
        node("leaky", Activate(activation=Activation.LEAKY_RELU, alpha=0.1), "mean"),
    )
    outputs = {"z_mean": "mean", "z_log_var": "spread", "leaky": "leaky"}
    return Graph(input="image", input_shape=(4, 7, 8), nodes=nodes, outputs=outputs)


def test_whole_graphs_compute_what_tensorflow_does(assert_written):
    assert_written(whole())


@pytest.mark.parametrize("batch", [1, 4, None])
def test_inputs_and_outputs_have_names_and_shapes(batch):
    model = write_onnx(whole(), FLOAT_PLAN, batch)
    content = model.SerializeToString()
    with open_artifact_bytes(content, Format.ONNX, name="written") as runner:
        assert [(s.name, s.shape, s.dtype) for s in runner.inputs] == [
            ("image", (batch, 4, 7, 8), "float32")
        ]
        assert [(s.name, s.shape) for s in runner.outputs] == [
            ("z_mean", (batch, 3)),
            ("z_log_var", (batch, 3)),
            ("leaky", (batch, 3)),
        ]


def test_the_model_states_its_versions_and_its_maker():
    import onnx

    model = write_onnx(whole(), FLOAT_PLAN, 1)
    onnx.checker.check_model(model, full_check=True)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", OPSET)]
    assert (model.producer_name, model.ir_version) == ("vae-edge", 8)


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
            "a has its channels last",
        ),
        (
            (4, 5, 5),
            transposed((2, 2), (2, 2), (10, 12)),
            "a asks for more output than its input reaches",
        ),
        ((2, 2, 4), Repeat(rows=2, columns=2), "a (Repeat) has no direct form"),
        ((5, 5, 4), conv(layout=Layout.CHANNELS_LAST), "a has its channels last"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_onnx_lacks_is_named(chain, shape, op, reason):
    assert unwritable(chain(shape, op)) == reason


# Weights stored as less than they are computed as


def stored_types(model) -> set[str]:
    import onnx

    return {
        onnx.TensorProto.DataType.Name(w.data_type)
        for w in model.graph.initializer
        if np.prod(w.dims) >= 64
    }


def test_float16_weights_are_rounded_to_eleven_bits(chain):
    op = Dense(kernel=normal(8, 32), bias=np.zeros(32, np.float32))
    model = write_onnx(chain((8,), op), QuantizationPlan(weights={"a": WeightMode.FLOAT16}), None)
    weights = run(model, np.eye(8, dtype=np.float32))["y"]
    assert np.any(weights != op.kernel)
    assert np.all(np.abs(weights - op.kernel) <= 2**-11 * np.abs(op.kernel))
    assert stored_types(model) == {"FLOAT16"}


def test_float16_saturates_where_it_ends(chain):
    kernel = np.full((1, 64), 2, np.float32)
    kernel[0, :2] = 1e5, -1e6
    op = Dense(kernel=kernel, bias=np.zeros(64, np.float32))
    model = write_onnx(chain((1,), op), QuantizationPlan(weights={"a": WeightMode.FLOAT16}), 1)
    y = run(model, np.float32([[1]]))["y"]
    np.testing.assert_array_equal(y[0, :3], [65504, -65504, 2])


@pytest.mark.parametrize("mode", [WeightMode.FLOAT16, WeightMode.INT8])
def test_narrow_weights_of_every_kind_of_layer_are_widened_at_load(chain, assert_written, mode):
    ops = [
        conv((3, 3), (8, 32)),
        conv((3, 3), (1, 32), groups=32),
        Reshape(to=(5 * 5 * 32,)),
        dense(800, 8),
    ]
    graph = chain((8, 9, 9), *ops)
    plan = QuantizationPlan(weights=dict.fromkeys("abd", mode))
    assert stored_types(write_onnx(graph, plan, 1)) == {mode.name}

    def narrow(kernel: np.ndarray) -> np.ndarray:
        if mode is WeightMode.FLOAT16:
            return np.float32(np.float16(kernel))
        return quantize_weights(kernel).real()

    stored = [
        op if isinstance(op, Reshape) else replace(op, kernel=narrow(op.kernel)) for op in ops
    ]
    assert_written(graph, plan, reference=chain((8, 9, 9), *stored))


def test_few_weights_are_not_worth_a_narrow_type(chain, assert_written):
    graph = chain((7,), dense(7, 9))
    for mode in WeightMode:
        assert_written(graph, QuantizationPlan(weights={"a": mode}))


@pytest.mark.parametrize("mode", [WeightMode.FLOAT16, WeightMode.INT8])
def test_transposed_convolutions_have_narrow_weights_too(chain, assert_written, mode):
    op = transposed((3, 3), (2, 2), (11, 13))
    plan = QuantizationPlan(weights={"a": mode})
    assert stored_types(write_onnx(chain((4, 5, 6), op), plan, 1)) == {mode.name}
    kernel = (
        np.float32(np.float16(op.kernel))
        if mode is WeightMode.FLOAT16
        else quantize_weights(op.kernel).real()
    )
    assert_written(
        chain((4, 5, 6), op), plan, reference=chain((4, 5, 6), replace(op, kernel=kernel))
    )


@pytest.mark.parametrize("per_tensor", [False, True])
@pytest.mark.parametrize("activation", [None, RELU])
def test_dynamic_layers_err_by_the_steps_of_what_they_read(
    chain, by_definition, activation, per_tensor
):
    op = dense(24, 5, activation=activation)
    graph = chain((24,), op)
    plan = QuantizationPlan(
        weights={"a": WeightMode.INT8},
        dynamic=frozenset("a"),
        per_tensor=frozenset("a" if per_tensor else ""),
        stored={"a": gentle(op.kernel, per_channel=not per_tensor)},
    )
    weights = plan.stored["a"].real()
    stored = chain((24,), replace(op, kernel=weights))
    model = write_onnx(graph, plan, None)
    assert operators(model)[:2] == ["DynamicQuantizeLinear", "MatMulInteger"]
    errors = []
    for _ in range(5):
        rows = normal(1, 24)
        found, wanted = run(model, rows)["y"], by_definition(stored, rows)["y"]
        # Steps of the range from the smallest to the largest value, 0 included; each product errs
        # by half a step, and by another where the zero point is rounded.
        step = np.ptp(np.append(rows, 0)) / 255
        errors.append(np.abs(found - wanted).max())
        assert errors[-1] <= step * np.abs(weights).sum(axis=0).max()
    # A rectifier may hide the error of one row, and not of all.
    assert max(errors) > 1e-5


# Integers


def gentle(kernel: np.ndarray, *, per_channel: bool = True) -> QuantizedWeights:
    """7 bits: two products with 8-bit values fit in 16, as processors without VNNI add them."""
    axes = tuple(range(kernel.ndim - 1)) if per_channel else None
    scales = np.float32(np.atleast_1d(np.abs(kernel).max(axis=axes)) / 63)
    return QuantizedWeights(stored=np.rint(kernel / scales).astype(np.int8), scales=scales)


@pytest.fixture(scope="session", params=[False, True], ids=["uint8", "int8"])
def assert_integers(request):
    """Write a graph with some nodes in integers, and compare with the simulation of its plan."""
    from exporters.quantization.ranges import SharedRanges
    from exporters.quantization.simulate import Simulation, observe_ranges

    def check(graph: Graph, *, steps: float = 1.0, **settings):
        rows = normal(40, *graph.input_shape)
        shared = SharedRanges.of(graph, observe_ranges(graph, rows))
        weighted = [node for node in graph.nodes if isinstance(node.op, (Conv, Dense))]
        one_scale = settings.get("per_tensor", ())
        plan = QuantizationPlan(
            **{
                "integer": frozenset(n.output for n in graph.nodes),
                "ranges": shared.ranges(shared.observed),
                "stored": {
                    n.output: gentle(n.op.kernel, per_channel=n.output not in one_scale)
                    for n in weighted
                },
                "signed": request.param,
                **settings,
            }
        )
        wanted = Simulation(graph, plan).run(rows, plan.ranges)
        models = {batch: write_onnx(graph, plan, batch) for batch in (1, None)}
        found, first = run(models[None], rows), run(models[1], rows[:1])
        for name, value in wanted.items():
            step = plan.ranges[graph.outputs[name]].scale
            for part in (found[name] - value, first[name] - value[:1]):
                assert np.abs(part).max() <= steps * step * (1 + 1e-4), name
            # Steps of the output are a small part of it: a wrong layer would not get by.
            assert step < 0.02 * np.abs(value).max()
        return models[1]

    return check


INTEGERS = [
    ((4, 6, 7), conv()),
    ((4, 6, 7), conv(pads=((1, 1), (1, 1)), activation=RELU)),
    ((4, 6, 7), conv((3, 2), pads=((2, 0), (1, 0)), strides=(2, 1))),
    ((4, 6, 7), conv((3, 3), (1, 8), groups=4, pads=((1, 1), (1, 1)))),
    ((3, 4, 5), Reshape(to=(60,))),
    ((3, 4, 5), Transpose(order=(2, 0, 1))),
    ((3, 4, 5), Pad(pads=((1, 0), (0, 2), (0, 0)))),
    ((3, 4, 5), Slice(starts=(1, 0, 2), sizes=(2, 3, 3))),
]


@pytest.mark.parametrize(("shape", "op"), INTEGERS, ids=lambda v: type(v).__name__)
def test_integer_operators_are_within_a_step_of_their_simulation(chain, assert_integers, shape, op):
    names = operators(assert_integers(chain(shape, op)))
    assert (names[0], names[-1]) == ("QuantizeLinear", "DequantizeLinear")
    assert len(names) == 3


def test_integer_concatenations_move_values_alone(assert_integers):
    assert_integers(branches(Concat(axis=2)), integer=frozenset({"both"}), steps=1e-3)


def test_a_rectifier_up_to_six_saturates_at_the_end_of_its_range(chain, assert_integers):
    # Wide enough that 6 is passed.
    assert_integers(chain((4, 6, 7), conv(activation=Activation.RELU6)))


def test_integer_layers_one_after_the_other_stay_close(chain, assert_integers):
    graph = chain(
        (4, 6, 6),
        conv((3, 3), (4, 8), pads=((1, 1), (1, 1)), activation=RELU),
        conv((3, 3), (8, 8), strides=(2, 2), pads=((0, 1), (0, 1)), activation=RELU),
        Reshape(to=(72,)),
    )
    names = operators(assert_integers(graph, steps=2))
    assert names == ["QuantizeLinear", "QLinearConv", "QLinearConv", "Reshape", "DequantizeLinear"]


def exactly(graph: Graph, assert_integers, **settings):
    """Layers that read integers and make floats are exact sums, scaled once."""
    return assert_integers(graph, integer=frozenset(), steps=2e-3, **settings)


@pytest.mark.parametrize("per_tensor", [False, True])
@pytest.mark.parametrize("activation", [None, RELU, Activation.RELU6])
def test_layers_that_read_integers_make_floats(chain, assert_integers, activation, per_tensor):
    for shape in ((24,), (3, 2, 24)):
        model = exactly(
            chain(shape, dense(24, 6, activation=activation)),
            assert_integers,
            integer_input=frozenset("a"),
            per_tensor=frozenset("a" if per_tensor else ""),
        )
        assert operators(model)[:2] == ["QuantizeLinear", "MatMulInteger"]


@pytest.mark.parametrize("activation", [None, RELU])
@pytest.mark.parametrize("behind", [1, 2])
def test_products_of_integers_are_exact_for_the_layers_behind(assert_integers, activation, behind):
    nodes = [Node(name="a", op=dense(24, 6, activation=activation), inputs=("x",), output="a")]
    nodes += [
        Node(name=f"b{i}", op=dense(6, 3, activation=activation), inputs=("a",), output=f"b{i}")
        for i in range(behind)
    ]
    outputs = {f"y{i}": f"b{i}" for i in range(behind)}
    graph = Graph(input="x", input_shape=(24,), nodes=tuple(nodes), outputs=outputs)
    exactly(graph, assert_integers, integer_input=frozenset("a"))


@pytest.mark.parametrize("per_tensor", [False, True])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("channels", [1, 2])
def test_integer_products_of_maps_are_summed(chain, assert_integers, channels, biased, per_tensor):
    products, total = maps((3, 3), channels)
    if not biased:
        products = replace(products, bias=np.zeros_like(products.bias))
    model = exactly(
        chain((4, 5, 8), products, total),
        assert_integers,
        integer_input=frozenset("a"),
        per_tensor=frozenset("a" if per_tensor else ""),
    )
    assert "Col2Im" in operators(model)


def test_rectified_integer_products_of_maps_are_summed(chain, assert_integers):
    products, total = maps((2, 2))
    products = replace(products, activation=RELU, bias=np.zeros_like(products.bias))
    exactly(
        chain((4, 5, 8), products, total),
        assert_integers,
        integer_input=frozenset("a"),
        per_tensor=frozenset("a"),
    )


@pytest.mark.parametrize("moved", [(), (Transpose(order=(1, 2, 0)), Transpose(order=(2, 0, 1)))])
def test_float_weights_between_integers_are_as_they_are(chain, assert_integers, moved):
    # One large weight would take the others their steps, if the runtime rounded them to 8 bits.
    weights = normal(3, 3, 6, 5)
    weights[0, 0, 0, 0] = 200
    between = conv((3, 3), (6, 5))
    graph = chain(
        (4, 8, 8),
        conv((1, 1), (4, 6)),
        *moved,
        replace(between, kernel=weights),
        conv((1, 1), (5, 5)),
    )
    first, _, last = (n.output for n in graph.nodes if isinstance(n.op, Conv))
    kernels = {n.output: n.op.kernel for n in graph.nodes if n.output in (first, last)}
    model = assert_integers(
        graph,
        integer=frozenset(kernels),
        stored={name: gentle(kernel) for name, kernel in kernels.items()},
        steps=2,
    )
    assert operators(model).count("QLinearConv") == 2
    assert operators(model).count("Conv") == 1


def test_a_float_product_between_integers_is_as_it_is(chain, assert_integers):
    weights = normal(60, 8)
    weights[0, 0] = 200
    graph = chain(
        (3, 4, 5),
        conv((1, 1), (3, 3)),
        Reshape(to=(60,)),
        Dense(kernel=weights, bias=normal(8)),
        Reshape(to=(2, 2, 2)),
        conv((1, 1), (2, 4)),
    )
    kernels = {name: graph.maker(name).op.kernel for name in "ae"}
    assert_integers(
        graph,
        integer=frozenset("abde"),
        stored={name: gentle(kernel) for name, kernel in kernels.items()},
        steps=2,
    )


def test_floats_and_integers_meet_in_one_graph(chain, assert_integers):
    graph = chain(
        (4, 6, 6),
        conv((3, 3), (4, 8), activation=RELU),
        conv((3, 3), (8, 4)),
        Activate(activation=Activation.TANH),
        Reshape(to=(16,)),
        dense(16, 3),
    )
    model = assert_integers(graph, integer=frozenset("b"), steps=5)
    assert operators(model) == [
        "Conv",
        "Relu",
        "QuantizeLinear",
        "QLinearConv",
        "DequantizeLinear",
        "Tanh",
        "Reshape",
        "Gemm",
    ]


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_integer_boundaries_state_their_scales(chain, dtype):
    import onnxruntime

    from exporters.quantization.ranges import SharedRanges
    from exporters.quantization.simulate import Simulation, observe_ranges

    graph, rows = chain((4, 6, 7), conv(activation=RELU)), normal(1, 4, 6, 7)
    shared = SharedRanges.of(graph, observe_ranges(graph, rows))
    ranges = shared.ranges(shared.observed)
    plan = QuantizationPlan(
        integer=frozenset("a"),
        ranges=ranges,
        stored={"a": gentle(graph.nodes[0].op.kernel)},
        integer_io=True,
        signed=dtype is np.int8,
    )
    lowest = np.iinfo(dtype).min
    model = write_onnx(graph, plan, 1)
    assert operators(model) == ["QLinearConv"]
    noted = {entry.key: entry.value.split() for entry in model.metadata_props}
    for name, tensor in (("x", "x"), ("y", "a")):
        scale, zero_point = noted[f"vae_edge.quantization.{name}"]
        assert float(scale) == ranges[tensor].scale
        assert int(zero_point) == ranges[tensor].zero_point + lowest
    session = onnxruntime.InferenceSession(model.SerializeToString())
    source, target = ranges["x"], ranges["a"]
    stored = np.clip(np.rint(rows / np.float32(source.scale)) + source.zero_point, 0, 255)
    (found,) = session.run(None, {"x": (stored + lowest).astype(dtype)})
    assert found.dtype == dtype
    wanted = Simulation(graph, plan).run(rows, ranges)["y"]
    real = (found.astype(np.float64) - lowest - target.zero_point) * target.scale
    assert np.abs(real - wanted).max() <= target.scale * (1 + 1e-4)
    # A rectified output begins at the lowest step.
    assert target.zero_point == 0


@pytest.mark.parametrize("activation", [RELU, Activation.RELU6])
def test_a_rectified_layer_keeps_its_clamp_beside_one_without(assert_integers, activation):
    # Both have the range of what they are put together to, which goes beyond the clamp.
    nodes = (
        Node(name="a", op=conv(activation=activation), inputs=("x",), output="a"),
        Node(name="b", op=conv(), inputs=("x",), output="b"),
        Node(name="both", op=Concat(axis=0), inputs=("a", "b"), output="both"),
    )
    graph = Graph(input="x", input_shape=(4, 6, 7), nodes=nodes, outputs={"y": "both"})
    assert_integers(graph)
