"""Which passes a component goes through for a format, a precision and a target, and why.

What the lists give is measured by `python -m benchmarks.head_to_head`, and for processors that
are not here by `python -m benchmarks.instructions`; docs/performance.md keeps both tables, and
what the forms that were not chosen took.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from exporters.lowering.base import LoweringPass
from exporters.lowering.channels_first import ChannelsFirst, RemoveTransposes
from exporters.lowering.conv_as_product import ConvAsProduct
from exporters.lowering.dense_as_conv import DenseAsConv
from exporters.lowering.fold_batch_norm import FoldBatchNorm
from exporters.lowering.fold_scale_forward import FoldScaleForward
from exporters.lowering.fuse_activation import FuseActivation
from exporters.lowering.interleave_by_concat import InterleaveByConcat
from exporters.lowering.lower_conv_transpose import Form, LowerConvTranspose
from exporters.lowering.merge_heads import MergeHeads
from exporters.lowering.repeat_by_concat import RepeatByConcat
from exporters.lowering.simplify_shapes import SimplifyShapes
from exporters.lowering.sink_reshapes import SinkReshapes
from exporters.lowering.split_narrow_conv import SplitNarrowConv
from exporters.lowering.split_weights import SplitWeights
from exporters.lowering.sum_by_convolution import SumByConvolution
from vae_edge.terms import Format, Precision, Target

__all__ = ["PREPARE", "TO_ONNX", "TO_QLINEAR", "Profile", "profile_for"]

# Before anything else, for every format: what later passes match is what is left.
PREPARE: tuple[LoweringPass, ...] = (
    SimplifyShapes(),
    # Layers of one dimension are ones of two between reshapes, which then meet.
    SinkReshapes(),
    SimplifyShapes(),
    FoldBatchNorm(),
    FoldScaleForward(),
    FuseActivation(),
    RepeatByConcat(),
    SimplifyShapes(),
)


@dataclass(frozen=True, kw_only=True)
class Profile:
    """An ordered list of passes, run after `PREPARE`.

    Attributes:
        name: what the manifest calls it.
        passes: in order.
        why: what was measured, in a sentence.
        signed: ONNX integers are int8 instead of uint8.
        paired: neighbouring weights beside integers are held to `LARGEST_PAIR`.
        integer_depthwise: at int8 convolutions in groups are integers too. ONNX Runtime has kernels
            for them on arm64 alone, where they take less than half of the instructions; on x86 they
            take four times as long as in float.
    """

    name: str
    passes: tuple[LoweringPass, ...]
    why: str
    signed: bool = False
    paired: bool = False
    integer_depthwise: bool = True


# XNNPACK computes 16 channels at once on x86 and 8 on arm64, where it has kernels for two channels
# besides: a narrow layer wastes more there, and more values in make up for its sum sooner.
_TFLITE_FLOAT_X86 = Profile(
    name="tflite float, x86",
    passes=(
        # Before the narrow layer: a transposed convolution with stride 1 becomes one here.
        LowerConvTranspose(),
        SplitNarrowConv(channels_in=8, max_maps=80),
        SumByConvolution(),
        InterleaveByConcat(),
        # What the interleaving reshapes meet: the decoder's own Reshape, and Flatten.
        SimplifyShapes(),
    ),
    why="nine products per output instead of twelve, and the layer to one channel as a product per "
    "tap: one delegate from end to end",
)
_TFLITE_FLOAT = replace(
    _TFLITE_FLOAT_X86,
    name="tflite float",
    passes=tuple(
        SplitNarrowConv(channels_in=24, max_maps=80) if isinstance(each, SplitNarrowConv) else each
        for each in _TFLITE_FLOAT_X86.passes
    ),
)
_TFLITE_DYNAMIC = Profile(
    name="tflite dynamic",
    # Every convolution quantizes its input as it comes, so fewer and larger ones are faster: by
    # rows, and the layer to one channel in one piece.
    passes=(
        LowerConvTranspose(form=Form.ROWS),
        InterleaveByConcat(),
        DenseAsConv(),
        SplitWeights(),
        MergeHeads(),
        SimplifyShapes(),
    ),
    why="each operator quantizes its input anew, so that half as many with a third more products "
    "are faster",
)
_TFLITE_INT8 = Profile(
    name="tflite int8",
    # The layer to one channel stays in one piece: its maps would each need a range, and cost 2 dB.
    passes=(
        LowerConvTranspose(),
        InterleaveByConcat(),
        DenseAsConv(),
        SplitWeights(),
        MergeHeads(),
        SimplifyShapes(),
    ),
    why="nine products per output; the heads read their image as a convolution, with 16-bit "
    "weights in two parts",
)
_TFLITE_MICRO = Profile(
    name="tflite int8, integers at the boundary",
    passes=(LowerConvTranspose(), InterleaveByConcat(), SimplifyShapes()),
    why="nothing but operators that have an 8-bit kernel on microcontrollers and NPUs",
)
# Channels first, as ONNX has them.
TO_ONNX = (
    SimplifyShapes(),
    ChannelsFirst(),
    RemoveTransposes(),
    SimplifyShapes(),
)
_ONNX_FLOAT_X86 = Profile(
    name="onnx float, x86",
    paired=True,
    passes=(
        LowerConvTranspose(min_products=100_000),
        SplitNarrowConv(block_growth=1.5, pointwise=True),
        InterleaveByConcat(flat_rows=True),
        *TO_ONNX,
    ),
    why="ONNX Runtime's blocked convolutions on x86 are as fast as its matrix products and need no "
    "gathering",
)
_ONNX_FLOAT = Profile(
    name="onnx float",
    paired=True,
    passes=(
        LowerConvTranspose(min_products=350_000),
        SplitNarrowConv(block_growth=1.0),
        InterleaveByConcat(),
        ConvAsProduct(),
        *TO_ONNX,
    ),
    why="on arm64 gathering rows and multiplying takes a fifth fewer instructions than "
    "convolutions, and on x86 it is not slower than the stock export",
)
# Integer convolutions have their channels last inside ONNX Runtime: it drops these transposes
# itself.
TO_QLINEAR = (
    SimplifyShapes(),
    ChannelsFirst(),
    RemoveTransposes(permute_dense=False),
    SimplifyShapes(),
)
_ONNX_INT8_X86 = Profile(
    name="onnx int8, x86",
    paired=True,
    integer_depthwise=False,
    passes=(
        LowerConvTranspose(rows_below=100),
        SplitNarrowConv(bias_in_maps=False, block_growth=2.0),
        InterleaveByConcat(),
        SplitWeights(paired=True),
        MergeHeads(),
        *TO_QLINEAR,
    ),
    why="with VNNI a third more products of small images cost less than twice as many operators",
)
_ONNX_INT8 = Profile(
    name="onnx int8",
    paired=True,
    integer_depthwise=False,
    passes=(
        LowerConvTranspose(),
        SplitNarrowConv(bias_in_maps=False, block_growth=2.0),
        InterleaveByConcat(),
        SplitWeights(paired=True),
        MergeHeads(),
        *TO_QLINEAR,
    ),
    why="without dot-product instructions the third more products of the other form make it slower "
    "than float32",
)
_ONNX_INT8_ARM64 = replace(
    _ONNX_INT8,
    name="onnx int8, arm64",
    why="signed values take a twentieth fewer instructions on arm64, and on x86 several times as "
    "long",
    signed=True,
    integer_depthwise=True,
)


def profile_for(
    format: Format, precision: Precision, target: Target, *, integer_io: bool = False
) -> Profile:
    """Give the passes for a format, a precision and a target."""
    if format is Format.TFLITE:
        if precision is Precision.DYNAMIC:
            return _TFLITE_DYNAMIC
        if precision is Precision.INT8:
            return _TFLITE_MICRO if integer_io else _TFLITE_INT8
        return _TFLITE_FLOAT_X86 if target is Target.X86 else _TFLITE_FLOAT
    if precision is Precision.INT8:
        return {Target.X86: _ONNX_INT8_X86, Target.ARM64: _ONNX_INT8_ARM64}.get(target, _ONNX_INT8)
    return _ONNX_FLOAT_X86 if target is Target.X86 else _ONNX_FLOAT
