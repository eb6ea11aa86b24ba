"""vae-edge as a library: take a VAE apart, export it, prove the bundle, run it.

    from vae_edge.api import EdgeVAE, export, parity, split

What needs Keras is imported when it is called, so that a device imports this as well.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vae_edge.bundle import Bundle
from vae_edge.comparison import Reference
from vae_edge.edge_vae import EdgeVAE, Posterior
from vae_edge.errors import DataError, ParityError, UsageError, VaeEdgeError
from vae_edge.keras_vae import KerasVAE, open_keras_runner
from vae_edge.parity import (
    ParityReport,
    check_parity,
    data_reference,
    golden_reference,
    live_reference,
)
from vae_edge.split_options import Scale, SplitOptions
from vae_edge.terms import (
    DEFAULT_PRECISIONS,
    ColourOrder,
    Component,
    Fit,
    Format,
    Likelihood,
    Precision,
    Target,
)
from vae_edge.tolerances import parse_override

if TYPE_CHECKING:
    from exporters.pipeline import ExportResult

__all__ = [
    "Bundle",
    "EdgeVAE",
    "KerasVAE",
    "ParityReport",
    "Posterior",
    "Scale",
    "VaeEdgeError",
    "export",
    "parity",
    "split",
]

# A path, a Keras model, or one that was taken apart.
Model = Any


def split(
    model: Model,
    decoder: Any = None,
    *,
    name: str | None = None,
    imports: Sequence[str] = (),
    z_mean: str | None = None,
    z_log_var: str | None = None,
    decoder_input: str | None = None,
    scale: Scale | str | None = None,
    reconstruction: str | None = None,
    logits: bool = False,
    image_shape: Sequence[int] | None = None,
) -> KerasVAE:
    """Take a VAE apart into an encoder and a decoder with nothing random in them.

    Args:
        model: a `.keras` file's path, a Keras model, or an encoder where `decoder` is given.
        decoder: the decoder: a path where `model` is one, else a Keras model.
        name: what to call it; by default after its file, or `vae`.
        imports: modules, or paths of `.py` files, that register custom layers. They are run.
        z_mean: name of the layer that gives the mean of z, where it cannot be told.
        z_log_var: name of the layer that gives the spread of z, as `scale` says.
        decoder_input: name of the layer whose output is z.
        scale: `log-var`, `log-std`, `std`, `variance` or `softplus`.
        reconstruction: name of the layer that gives the image, where the decoder gives several.
        logits: whether the decoder gives logits, so that a sigmoid is put behind it.
        image_shape: of one image, for models that take any size.

    Raises:
        ModelError: it cannot be loaded safely, or not be split; says why and what would help.
        RuntimeMissingError: TensorFlow or Keras is not installed.
    """
    from vae_edge import splitting

    if isinstance(model, KerasVAE):
        return model
    paths = isinstance(model, (str, Path))
    if decoder is not None and isinstance(decoder, (str, Path)) != paths:
        raise UsageError("give two paths, or two Keras models; received one of each.")
    options = SplitOptions(
        imports=tuple(imports),
        encoder=str(model) if paths and decoder is not None else None,
        decoder=str(decoder) if paths and decoder is not None else None,
        z_mean=z_mean,
        z_log_var=z_log_var,
        decoder_input=decoder_input,
        scale=None if scale is None else _term(Scale, scale),
        reconstruction=reconstruction,
        logits=logits,
        image_shape=None if image_shape is None else tuple(image_shape),
    )
    if not paths:
        return splitting.split(model, decoder, name=name or "vae", options=options)
    found = splitting.load(None if decoder is not None else model, options)
    return found if name is None else dataclasses.replace(found, name=name)


def export(
    model: Model,
    out: str | Path,
    *,
    formats: Iterable[Format | str] = (Format.TFLITE, Format.ONNX),
    precisions: Iterable[Precision | str] = DEFAULT_PRECISIONS,
    components: Iterable[Component | str] = tuple(Component),
    calibration: npt.ArrayLike | str | Path | None = None,
    batch: int | None = 1,
    target: Target | str = Target.ANY,
    lowering: bool = True,
    integer_io: bool = False,
    value_range: tuple[float, float] | None = None,
    output_range: tuple[float, float] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    colour_order: ColourOrder | str | None = None,
    fit: Fit | str | None = None,
    likelihood: Likelihood | str | None = None,
    tolerances: Mapping[str, float] | None = None,
    keep_failing: bool = False,
    replace: bool = False,
    seed: int = 0,
    on_step: Callable[[str], None] = lambda step: None,
) -> ExportResult:
    """Convert a VAE, prove what was made, and publish it as a bundle.

    Latency is not measured: `vae-edge export` and `vae-edge benchmark` do that.

    Args:
        model: as `split` takes or gives it.
        out: directory that the bundle shall become.
        formats: `tflite`, `onnx`, or what an installed package adds.
        precisions: `float32`, `float16`, `dynamic`, `int8`.
        components: `encoder`, `decoder`.
        calibration: representative rows (count, *image_shape): floats as the model was trained on
            them, or pictures as uint8 levels; or the path of a file or folder of them. By default
            the model's own samples, which are smoother than data. A quarter, at most 256, is held
            out to judge by.
        batch: rows per inference; None for any number.
        target: `any`, `x86` or `arm64`.
        lowering: rewrite graphs exactly into faster ones.
        integer_io: 8-bit inputs and outputs too; with int8 alone.
        value_range: lowest and highest value that the encoder was trained on.
        output_range: the same of what the decoder gives, where it is another.
        mean: of each channel or of all, where levels / 255 were standardized; with `std`.
        std: see `mean`.
        colour_order: `rgb` or `bgr`.
        fit: `resize`, `crop` or `pad`, as pictures of another size were in training.
        likelihood: `bernoulli` or `gaussian`; by default as the decoder's last activation shows.
        tolerances: limits of your own, e.g. {"int8:z_mean.max_abs_error": 0.1}.
        keep_failing: publish what fails parity too.
        replace: replace a bundle at `out` that holds other artifacts too.
        seed: of what is drawn.
        on_step: told what is about to be done.

    Returns:
        The bundle as published, the verdict on it, what was left out of it, with reasons, and notes
        on what was assumed of the model.

    Raises:
        VaeEdgeError: nothing was published, and what was at `out` is untouched; says why.
    """
    from exporters.interpretation import Declared, interpret
    from exporters.own_data import from_path, from_rows
    from exporters.pipeline import ExportPlan, export_bundle
    from exporters.representative import from_samples

    wanted = tuple(_term(Format, each) for each in formats)
    plan = ExportPlan(
        destination=Path(out),
        formats=wanted,
        precisions=dict.fromkeys(wanted, tuple(_term(Precision, each) for each in precisions)),
        components=tuple(_term(Component, each) for each in components),
        batch=batch,
        replace=replace,
        target=_term(Target, target),
        lowering=lowering,
        integer_io=integer_io,
        keep_failing=keep_failing,
        overrides=tuple(parse_override(f"{k}={v}") for k, v in (tolerances or {}).items()),
    )
    plan.check()
    vae = split(model)
    declared = Declared(
        value_range=value_range,
        output_range=output_range,
        mean=None if mean is None else tuple(mean),
        std=None if std is None else tuple(std),
        colour_order=None if colour_order is None else _term(ColourOrder, colour_order),
        fit=None if fit is None else _term(Fit, fit),
        likelihood=None if likelihood is None else _term(Likelihood, likelihood),
    )
    found = interpret(vae, declared)
    vae = dataclasses.replace(vae, preprocessing=found.preprocessing)
    if calibration is None:
        representative = from_samples(vae, seed)
    elif isinstance(calibration, (str, Path)):
        if not Path(calibration).exists():
            raise DataError(f"calibration: {calibration}: no such file or folder.")
        representative = from_path(Path(calibration), vae, seed)
    else:
        representative = from_rows(np.asarray(calibration), vae, seed)
    result = export_bundle(vae, plan, representative, on_step=on_step)
    return dataclasses.replace(result, notes=(*vae.notes, *found.notes))


def parity(
    bundle: Bundle | str | Path,
    *,
    reference: Model = None,
    data: npt.ArrayLike | None = None,
    formats: Iterable[Format | str] | None = None,
    precisions: Iterable[Precision | str] = tuple(Precision),
    tolerances: Mapping[str, float] | None = None,
    threads: int = 1,
) -> ParityReport:
    """Compare every artifact of a bundle with the Keras model it was exported from.

    Args:
        bundle: opened, or its directory.
        reference: the Keras model, as `split` takes or gives it, to compare with it as it computes
            here; by default the golden vectors in the bundle, which need no TensorFlow.
        data: rows to compare on, as `EdgeVAE.encode` takes them, at least two; needs `reference`.
        formats: only these.
        precisions: only these.
        tolerances: limits of your own, e.g. {"int8:z_mean.max_abs_error": 0.1}.
        threads: threads each runtime may use.

    Returns:
        The verdict. Where a runtime is not installed, its artifacts stand in `not_run`, with the
        command that adds it, and `passed` is False; to ask for less, give `formats`.

    Raises:
        VaeEdgeError: nothing could be compared; says why.
    """
    opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
    return check_parity(
        opened,
        _reference(opened, reference, data),
        formats=None if formats is None else tuple(_term(Format, each) for each in formats),
        precisions=tuple(_term(Precision, each) for each in precisions),
        overrides=tuple(parse_override(f"{k}={v}") for k, v in (tolerances or {}).items()),
        threads=threads,
        partial=True,
    )


def _reference(bundle: Bundle, model: Model, data: npt.ArrayLike | None) -> Reference:
    if model is None:
        if data is not None:
            raise ParityError(
                "data is compared with the Keras model, which is not given. Give reference too."
            )
        return golden_reference(bundle)
    vae = split(model)
    expected = bundle.manifest.model
    if (vae.image_shape, vae.latent_dim) != (expected.image_shape, expected.latent_dim):
        raise ParityError(
            f"{vae.name}: takes rows of {vae.image_shape} and has latent_dim {vae.latent_dim}; the "
            f"bundle was exported from a model with {expected.image_shape} and "
            f"{expected.latent_dim}. Give that one."
        )
    encoder, decoder = (open_keras_runner(vae, component) for component in Component)
    if data is None:
        return live_reference(bundle, encoder, decoder)
    rows = np.asarray(data)
    if rows.dtype == np.uint8:
        rows = expected.preprocessing.from_levels(rows)
    return data_reference(bundle, rows.astype(np.float32, copy=False), encoder, decoder, "data")


def _term(kind: Any, value: Any) -> Any:
    try:
        return kind(value)
    except ValueError:
        choices = ", ".join(str(member) for member in kind)
        raise UsageError(
            f"unknown {kind.__name__.lower()} '{value}'. Choose one of: {choices}."
        ) from None
