"""Forms and recipes that profiles could have had, so that what was chosen can be measured again.

`python -m benchmarks.forms` exports and measures every one of these beside what is chosen. A new
pass or recipe earns its place there first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from exporters.lowering.base import LoweringPass
from exporters.lowering.conv_as_product import ConvAsProduct
from exporters.lowering.dense_as_conv import DenseAsConv
from exporters.lowering.interleave_by_concat import InterleaveByConcat
from exporters.lowering.lower_conv_transpose import Form, LowerConvTranspose
from exporters.lowering.merge_heads import MergeHeads
from exporters.lowering.simplify_shapes import SimplifyShapes
from exporters.lowering.split_narrow_conv import SplitNarrowConv
from exporters.lowering.split_weights import SplitWeights
from exporters.lowering.sum_by_convolution import SumByConvolution
from exporters.profiles import TO_ONNX, TO_QLINEAR, Profile, profile_for
from exporters.quantization.recipes import Recipe, recipe_for
from vae_edge.terms import Component, Format, Precision, Target

__all__ = ["ALTERNATIVES", "Alternative", "Choice", "all_choices"]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A profile and a recipe that an artifact can be exported with.

    Attributes:
        name: what it is, in a few words; unique for a component, format and precision.
        component: which half it is for.
        format: of the artifact.
        precision: of the artifact.
        profile: passes.
        recipe: of int8.
        targets: that it is chosen for; empty for an alternative that is chosen for none.
    """

    name: str
    component: Component
    format: Format
    precision: Precision
    profile: Profile
    recipe: Recipe
    targets: tuple[Target, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Alternative:
    """How a form differs from what is chosen.

    Attributes:
        name: what it is, in a few words.
        component: which half it is for.
        format: of the artifact.
        precision: of the artifact.
        passes: in the place of the profile's; None where the recipe alone differs.
        recipe: in the place of the component's; None where the passes alone differ.
    """

    name: str
    component: Component
    format: Format
    precision: Precision
    passes: tuple[LoweringPass, ...] | None = None
    recipe: Recipe | None = None

    def choice(self) -> Choice:
        """Give it whole."""
        profile = profile_for(self.format, self.precision, Target.ANY)
        if self.passes is not None:
            profile = Profile(name=self.name, passes=self.passes, why="an alternative")
        return Choice(
            name=self.name,
            component=self.component,
            format=self.format,
            precision=self.precision,
            profile=profile,
            recipe=self.recipe or recipe_for(self.component),
        )


def all_choices() -> Iterator[Choice]:
    """Give, for every case that has alternatives, what is chosen and then its alternatives."""
    cases = dict.fromkeys((a.component, a.format, a.precision) for a in ALTERNATIVES)
    for component, format, precision in cases:
        by_profile: dict[Profile, list[Target]] = {}
        for target in Target:
            by_profile.setdefault(profile_for(format, precision, target), []).append(target)
        for profile, targets in by_profile.items():
            of = "" if len(by_profile) == 1 else f" for {' and '.join(map(str, targets))}"
            yield Choice(
                name=f"chosen{of}",
                component=component,
                format=format,
                precision=precision,
                profile=profile,
                recipe=recipe_for(component),
                targets=tuple(targets),
            )
        for alternative in ALTERNATIVES:
            case = alternative.component, alternative.format, alternative.precision
            if case == (component, format, precision):
                yield alternative.choice()


_ENCODER = recipe_for(Component.ENCODER)
_DECODER = recipe_for(Component.DECODER)
_PLAIN = replace(_DECODER, distill=False)


def _decoder(
    format: Format,
    precision: Precision,
    name: str,
    *passes: LoweringPass,
    recipe: Recipe | None = None,
) -> Alternative:
    return Alternative(
        name=name,
        component=Component.DECODER,
        format=format,
        precision=precision,
        passes=passes or None,
        recipe=recipe,
    )


def _encoder(
    format: Format,
    precision: Precision,
    name: str,
    *passes: LoweringPass,
    recipe: Recipe | None = None,
) -> Alternative:
    return replace(
        _decoder(format, precision, name, *passes, recipe=recipe), component=Component.ENCODER
    )


_TFLITE, _ONNX = Format.TFLITE, Format.ONNX
_FLOAT32, _DYNAMIC, _INT8 = Precision.FLOAT32, Precision.DYNAMIC, Precision.INT8
_PHASES = (LowerConvTranspose(), InterleaveByConcat())
_ROWS = (LowerConvTranspose(form=Form.ROWS), InterleaveByConcat())
_NARROW_INT8 = SplitNarrowConv(bias_in_maps=False)
_HEADS = (SplitWeights(), MergeHeads())

ALTERNATIVES: tuple[Alternative, ...] = (
    _decoder(_TFLITE, _FLOAT32, "not lowered, shapes static", SimplifyShapes()),
    _decoder(_TFLITE, _FLOAT32, "phases, last layer in one piece", *_PHASES, SimplifyShapes()),
    _decoder(
        _TFLITE,
        _FLOAT32,
        "rows, last layer as maps",
        *(*_ROWS, SplitNarrowConv(), SumByConvolution(), SimplifyShapes()),
    ),
    _decoder(
        _TFLITE,
        _DYNAMIC,
        "phases, last layer in one piece",
        *(*_PHASES, DenseAsConv(), *_HEADS, SimplifyShapes()),
    ),
    _decoder(
        _TFLITE,
        _DYNAMIC,
        "rows, last layer as maps",
        *(*_ROWS, SplitNarrowConv(), SumByConvolution(), DenseAsConv(), *_HEADS, SimplifyShapes()),
    ),
    _decoder(
        _TFLITE,
        _INT8,
        "phases, last layer as maps",
        *(*_PHASES, SplitNarrowConv(), SumByConvolution(), DenseAsConv(), SimplifyShapes()),
    ),
    _decoder(
        _TFLITE, _INT8, "rows, last layer in one piece", *_ROWS, DenseAsConv(), SimplifyShapes()
    ),
    *(
        _decoder(_TFLITE, _INT8, name, recipe=recipe)
        for name, recipe in (
            ("ranges as observed", replace(_PLAIN, equalize=0.0, search=False)),
            ("channels in one range", replace(_PLAIN, equalize=1.0, search=False)),
            ("ranges searched", replace(_PLAIN, equalize=0.0)),
            ("channels in one range, ranges searched", replace(_PLAIN, equalize=1.0)),
            ("channels half way to one range, ranges searched", _PLAIN),
            ("that, and weights rounded on data", replace(_PLAIN, round_weights=True)),
            ("distilled with ranges as observed", replace(_DECODER, search=False)),
        )
    ),
    _decoder(_ONNX, _FLOAT32, "not lowered, shapes static", *TO_ONNX),
    _decoder(_ONNX, _FLOAT32, "phases as products", *_PHASES, ConvAsProduct(), *TO_ONNX),
    _decoder(_ONNX, _FLOAT32, "rows, last layer as maps", *_ROWS, SplitNarrowConv(), *TO_ONNX),
    _decoder(
        _ONNX,
        _FLOAT32,
        "phases put in their places, last layer as maps",
        *(LowerConvTranspose(), SplitNarrowConv(), InterleaveByConcat(flat_rows=True), *TO_ONNX),
    ),
    _decoder(
        _ONNX,
        _INT8,
        "phases put in their places, last layer as maps",
        *(*_PHASES, _NARROW_INT8, *TO_QLINEAR),
    ),
    _decoder(
        _ONNX,
        _INT8,
        "rows put in their places, last layer as maps",
        *(*_ROWS, _NARROW_INT8, *TO_QLINEAR),
    ),
    _decoder(_ONNX, _INT8, "phases, last layer in one piece", *_PHASES, *TO_QLINEAR),
    _encoder(_TFLITE, _INT8, "heads as dense layers", MergeHeads(), SimplifyShapes()),
    _encoder(
        _TFLITE,
        _INT8,
        "heads in one 8-bit part",
        *(DenseAsConv(), MergeHeads(), SimplifyShapes()),
    ),
    *(
        _encoder(format, _INT8, name, recipe=recipe)
        for format in Format
        for name, recipe in (
            ("weights rounded to nearest", replace(_ENCODER, round_weights=False)),
            ("biases not corrected", replace(_ENCODER, correct_bias=False)),
            ("ranges searched", replace(_ENCODER, search=True)),
            ("distilled", replace(_ENCODER, distill=True)),
        )
    ),
)
