"""Finding where a model is an encoder, a sampling and a decoder."""

from __future__ import annotations

from typing import Any

from vae_edge.errors import ModelError
from vae_edge.split_options import SplitOptions
from vae_edge.splitting.fixed_shape import fits, of_fixed_shape, with_fixed_layers
from vae_edge.splitting.flat_graph import FlatGraph, Shape, Traced, Value, functional_of
from vae_edge.splitting.halves import (
    Halves,
    build_decoder,
    build_encoder,
    convertible,
)
from vae_edge.splitting.lookup import candidates, find_z, shape_text
from vae_edge.splitting.parts import (
    is_plain,
    pair_by_methods,
    pair_by_name,
    pair_by_structure,
    parts_of,
)
from vae_edge.splitting.posterior import (
    posterior_as_told,
    posterior_of_outputs,
    posterior_of_sampling,
)
from vae_edge.splitting.refusals import (
    CONDITIONAL,
    SAY_SIZE,
    Refusal,
    no_vae,
    not_random,
    not_z_alone,
)
from vae_edge.splitting.sampling import (
    Posterior,
    find_sampling,
    is_random,
    measure_posterior,
    noise_layers,
    random_steps,
)
from vae_edge.splitting.stand_ins import missing_of
from vae_edge.splitting.targets import find_reconstruction, like_image, listed
from vae_edge.splitting.tracing import fixed_input_shape, open_layers, trace

__all__ = ["split_pair", "split_whole"]

_SIZE = "--image-shape"


def split_whole(model: Any, options: SplitOptions, where: str) -> Halves:
    """Split a whole VAE.

    Args:
        model: Keras model.
        options: where to cut, as far as the user says.
        where: which model, for messages.

    Raises:
        ModelError: it is no VAE, or cannot be split without being told where; says why.
    """
    model = of_fixed_shape(model, options.image_shape, _SIZE, where)
    parts = parts_of(model)
    pair = pair_by_name(parts)
    told = options.z_mean is not None
    if pair is not None and not told and options.scale is None and is_plain(*pair):
        return split_pair(*pair, options, where)
    shape: Shape | None = options.image_shape
    if shape is None and functional_of(model) is None:
        shape = fixed_input_shape(model) or (None if pair is None else fixed_input_shape(pair[0]))
    traced = trace(model, shape)
    graph, refusal = None, Refusal(reason=traced.reason)
    if traced.model is not None:
        graph = _open_random(traced)
        _check_size(graph, where)
        if told:
            return _split_as_told(graph, options, where)
        found = _split_by_sampling(graph, options, where)
        if isinstance(found, Halves):
            return found
        refusal = found
    pair = pair or pair_by_structure(parts)
    if pair is not None:
        return split_pair(*pair, options, where)
    methods = pair_by_methods(model, shape) if graph is None else None
    if methods is not None:
        return _split_halves(*methods, options, where)
    raise ModelError(no_vae(graph, refusal, parts, where))


def split_pair(encoder: Any, decoder: Any, options: SplitOptions, where: str) -> Halves:
    """Split a VAE of which the halves are at hand.

    Raises:
        ModelError: one of them is no half of a VAE, or they do not fit; says why.
    """
    shape = options.image_shape
    before = _traced(of_fixed_shape(encoder, shape, _SIZE, where), "encoder", where, shape)
    taken = fixed_input_shape(decoder)
    z = None if taken is None or None not in taken else _z_shape(before, taken)
    behind = _traced(of_fixed_shape(decoder, z, "z of", where), "decoder", where, z)
    return _split_halves(before, behind, options, where)


def _z_shape(before: Traced, taken: Shape) -> Shape | None:
    """What shape z has for a decoder that takes any size: that of the first head."""
    shapes = [tuple(tensor.shape[1:]) for tensor in functional_of(before.model).outputs]
    halved = [(*s[:-1], s[-1] // 2) for s in shapes if s and s[-1] is not None]
    return next((s for s in (*shapes, *halved) if None not in s and fits(s, taken)), None)


def _split_halves(before_: Traced, behind_: Traced, options: SplitOptions, where: str) -> Halves:
    behind = open_layers(with_fixed_layers(behind_), lambda *_: False)[0]
    (z,) = _only(behind.inputs, "decoder", where)
    before = _open_random(before_)
    (image,) = _only(before.inputs, "encoder", where)
    _check_size(before, where)
    target, assumed = find_reconstruction(behind, behind.outputs, image, options, where)
    posterior = posterior_as_told(before, options, where)
    notes: tuple[str, ...] = ()
    if posterior is not None and options.decoder_input is not None:
        size = posterior.mean.value.size or 0
        z = find_z(behind, options.decoder_input, size, where)
    if posterior is None:
        posterior, notes = _posterior_of_half(before, z, options, where)
    cut = (behind, z, target)
    return _build(before, image, posterior, cut, (*notes, *assumed), options, where)


def _posterior_of_half(
    graph: FlatGraph, z: Value, options: SplitOptions, where: str
) -> tuple[Posterior, tuple[str, ...]]:
    sampling = find_sampling(graph)
    if sampling is not None and sampling.z.size == z.size:
        return posterior_of_sampling(graph, sampling, options, where)
    drawn = graph.below(graph.noise, random_steps(graph))
    kept = [value for value in graph.outputs if value not in drawn]
    if z.size is None:
        raise ModelError(
            f"{where}: the decoder takes {shape_text(z.shape)}, and no head of the encoder is "
            "of such a shape."
        )
    return posterior_of_outputs(graph, kept, z.size, options, where)


def _split_as_told(graph: FlatGraph, options: SplitOptions, where: str) -> Halves:
    posterior = posterior_as_told(graph, options, where)
    assert posterior is not None  # noqa: S101  called only then
    (image,) = _only(graph.inputs, "model", where)
    size = posterior.mean.value.size or 0
    if options.decoder_input is not None:
        z = find_z(graph, options.decoder_input, size, where)
    else:
        sampling = next(
            (
                found
                for target in graph.outputs
                for found in [find_sampling(graph, target)]
                if found is not None
            ),
            None,
        )
        if sampling is None:
            raise ModelError(
                f"{where}: where z enters the decoder cannot be told. Name the layer that gives z, "
                f"or the first that takes it, with --decoder-input. {candidates(graph)}"
            )
        z = sampling.z
    after = graph.below([z])
    targets = [v for v in dict.fromkeys(graph.outputs) if v in after and v is not z]
    target, notes = find_reconstruction(graph, targets, image, options, where)
    return _build(graph, image, posterior, (graph, z, target), notes, options, where)


def _split_by_sampling(graph: FlatGraph, options: SplitOptions, where: str) -> Halves | Refusal:
    """Split where z is sampled; or say why that cannot be."""
    if len(graph.inputs) != 1:
        graph = _with_noise_given(graph) or graph
    if len(graph.inputs) != 1:
        return Refusal(reason=f"it takes {listed(graph.inputs)}, and a VAE takes one image")
    (image,) = graph.inputs
    drawn = graph.below(graph.noise, random_steps(graph) or noise_layers(graph))
    unknown = [step for step in graph.steps if missing_of(step.operation) is not None]
    if not drawn and not unknown:
        return not_random(graph)
    outputs = list(dict.fromkeys(graph.outputs))
    targets = [value for value in outputs if value in (drawn or graph.below((), unknown))]
    fitting = like_image(targets, image)
    if not fitting and options.reconstruction is None:
        return Refusal(
            reason=f"it takes {shape_text(image.shape)} and decodes "
            f"{listed(targets) if targets else 'nothing'} from a z that is sampled, and a "
            "reconstruction is of the image's shape",
            final=bool(targets),
        )
    target, assumed = find_reconstruction(graph, fitting or targets, image, options, where)
    sampling = find_sampling(graph, target)
    if sampling is None or sampling.z.size is None:
        alone = Refusal(reason="what it decodes does not come of one sampled tensor alone")
        return not_z_alone(graph, target) or (not_random(graph) if not unknown else alone)
    try:
        posterior, notes = posterior_of_sampling(graph, sampling, options, where)
    except ModelError:
        beside = not_z_alone(graph, target, sampling)
        if beside is None:
            raise
        return beside
    cut = (graph, sampling.z, target)
    return _build(graph, image, posterior, cut, (*notes, *assumed), options, where)


def _build(
    graph: FlatGraph,
    image: Value,
    posterior: Posterior,
    behind: tuple[FlatGraph, Value, Value],
    notes: tuple[str, ...],
    options: SplitOptions,
    where: str,
) -> Halves:
    decoder_graph, z, target = behind
    if target.size != image.size:
        raise ModelError(
            f"{where}: the encoder takes images of {shape_text(image.shape)}, the decoder gives "
            f"{shape_text(target.shape)}. They must be the same."
        )
    parts = (posterior.mean, posterior.spread)
    sizes = {(p.value.size or 0) // (1 if p.half is None else 2) for p in parts}
    if sizes != {z.size}:
        raise ModelError(
            f"{where}: the halves do not fit: z_mean and z_log_var have "
            f"{' and '.join(map(str, sorted(sizes)))} values, the decoder takes {z.size}."
        )
    heads = [part.value for part in parts]
    for name, needs in (
        ("encoder", graph.sources(heads, [image])),
        ("decoder", decoder_graph.sources([target], [z])),
    ):
        if needs:
            raise ModelError(
                f"{where}: the {name} needs {listed(sorted(needs, key=id))} besides what a VAE's "
                f"{name} takes: random numbers, or a condition. {CONDITIONAL}"
            )
    encoder, converted = build_encoder(graph, image, posterior, where)
    decoder, added = build_decoder(
        decoder_graph, z, target, image.shape, where, logits=options.logits
    )
    found = Halves(encoder=encoder, decoder=decoder, notes=(*notes, *converted, *added))
    return convertible(found, where)


def _open_random(traced: Traced) -> FlatGraph:
    """Look into layers of the user's own that draw random numbers."""
    graph, _ = open_layers(with_fixed_layers(traced), lambda _, step: is_random(step))
    return graph


def _with_noise_given(graph: FlatGraph) -> FlatGraph | None:
    """A model that takes its random numbers as a second input, as one to draw them itself."""
    for image in graph.inputs:
        others = tuple(value for value in graph.inputs if value is not image)
        as_noise = FlatGraph(
            model=graph.model,
            inputs=(image,),
            noise=(*graph.noise, *others),
            outputs=graph.outputs,
            output_names=graph.output_names,
            items=graph.items,
        )
        for target in like_image(list(graph.outputs), image):
            sampling = find_sampling(as_noise, target)
            if sampling is not None and measure_posterior(as_noise, sampling) is not None:
                return as_noise
    return None


def _traced(half: Any, name: str, where: str, shape: Shape | None) -> Traced:
    traced = trace(half, shape)
    if traced.model is None:
        raise ModelError(
            f"{where}: the {name} is a {type(half).__name__} whose layers cannot be read: "
            f"{traced.reason}. Call the model once before it is saved, or build it as "
            "keras.Model(inputs, outputs)."
        )
    return traced


def _check_size(graph: FlatGraph, where: str) -> None:
    if len(graph.inputs) == 1 and graph.inputs[0].size is None:
        raise ModelError(
            f"{where}: takes images of {shape_text(graph.inputs[0].shape)}. {SAY_SIZE}"
        )


def _only(values: Any, name: str, where: str) -> tuple[Value]:
    found = tuple(dict.fromkeys(values))
    if len(found) == 1:
        return found
    raise ModelError(f"{where}: the {name} takes {listed(found)}; expected one. {CONDITIONAL}")
