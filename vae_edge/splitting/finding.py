"""Finding where a model is an encoder, a sampling and a decoder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vae_edge.errors import ModelError
from vae_edge.split_options import SplitOptions
from vae_edge.splitting.flat_graph import FlatGraph, Traced, Value, functional_of
from vae_edge.splitting.halves import Halves, build_decoder, build_encoder
from vae_edge.splitting.lookup import candidates, find_z, shape_text
from vae_edge.splitting.posterior import (
    SAY_WHERE,
    posterior_as_told,
    posterior_of_outputs,
    posterior_of_sampling,
)
from vae_edge.splitting.sampling import (
    Posterior,
    find_sampling,
    is_random,
    measure_posterior,
    random_steps,
)
from vae_edge.splitting.stand_ins import missing_of
from vae_edge.splitting.tracing import fixed_input_shape, open_layers, trace

__all__ = ["split_pair", "split_whole"]

_TWO_FILES = (
    "Save the halves: encoder.save('encoder.keras'), decoder.save('decoder.keras'), and give "
    "--encoder and --decoder."
)


def split_whole(model: Any, options: SplitOptions, where: str) -> Halves:
    """Split a whole VAE.

    Args:
        model: Keras model.
        options: where to cut, as far as the user says.
        where: which model, for messages.

    Raises:
        ModelError: it is no VAE, or cannot be split without being told where; says why.
    """
    parts = _parts(model)
    pair = _pair_by_name(parts)
    told = options.z_mean is not None
    if pair is not None and not told and options.scale is None and _is_plain(*pair):
        return split_pair(*pair, options, where)
    shape = (
        fixed_input_shape(pair[0]) if pair is not None and functional_of(model) is None else None
    )
    traced = trace(model, shape)
    graph, reason = None, traced.reason
    if traced.model is not None:
        graph = _open_random(traced)
        if told:
            return _split_as_told(graph, options, where)
        found = _split_by_sampling(graph, options, where)
        if isinstance(found, Halves):
            return found
        reason = found
    pair = pair or _pair_by_structure(parts)
    if pair is not None:
        return split_pair(*pair, options, where)
    raise ModelError(_no_vae(graph, reason, parts, where))


def _no_vae(graph: FlatGraph | None, reason: str, parts: dict[str, Any], where: str) -> str:
    listed = ", ".join(f"{name} ({type(part).__name__})" for name, part in parts.items())
    message = (
        f"{where}: holds no VAE that can be split: {reason}, and among its parts "
        f"({listed or 'none'}) are no encoder and decoder that fit."
    )
    if graph is None:
        return f"{message} {_TWO_FILES}"
    missing = [m for step in graph.steps for m in [missing_of(step.operation)] if m is not None]
    if missing:
        message += f" It was read without {', '.join(map(str, missing))}; see --import."
    return f"{message} {SAY_WHERE} {candidates(graph)}"


def split_pair(encoder: Any, decoder: Any, options: SplitOptions, where: str) -> Halves:
    """Split a VAE of which the halves are at hand.

    Raises:
        ModelError: one of them is no half of a VAE, or they do not fit; says why.
    """
    behind = _half_graph(decoder, "decoder", where)
    (target,) = _only(behind.outputs, "gives", "decoder", where)
    (z,) = _only(behind.inputs, "takes", "decoder", where)
    before = _half_graph(encoder, "encoder", where)
    (image,) = _only(before.inputs, "takes", "encoder", where)
    posterior = posterior_as_told(before, options, where)
    notes: tuple[str, ...] = ()
    if posterior is not None and options.decoder_input is not None:
        size = posterior.mean.value.size or 0
        z = find_z(behind, options.decoder_input, size, where)
    if posterior is None:
        posterior, notes = _posterior_of_half(before, z, options, where)
    return _build(before, image, posterior, (behind, z, target), notes, where)


def _posterior_of_half(
    graph: FlatGraph, z: Value, options: SplitOptions, where: str
) -> tuple[Posterior, tuple[str, ...]]:
    sampling = find_sampling(graph)
    if sampling is not None and sampling.z.size == z.size:
        return posterior_of_sampling(graph, sampling, options, where)
    drawn = graph.below(graph.noise, random_steps(graph))
    kept = [value for value in graph.outputs if value not in drawn]
    if z.size is None:
        raise ModelError(f"{where}: the decoder takes {shape_text(z.shape)}, which is not fixed.")
    return posterior_of_outputs(graph, kept, z.size, options, where)


def _split_as_told(graph: FlatGraph, options: SplitOptions, where: str) -> Halves:
    posterior = posterior_as_told(graph, options, where)
    assert posterior is not None  # noqa: S101  called only then
    image = _image(graph, where)
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
    targets = _like_image(targets, image) or targets
    (target,) = _only(targets, "gives", "decoder", where)
    return _build(graph, image, posterior, (graph, z, target), (), where)


def _split_by_sampling(graph: FlatGraph, options: SplitOptions, where: str) -> Halves | str:
    """Split where z is sampled; or say why that cannot be."""
    if len(graph.inputs) != 1:
        graph = _with_noise_given(graph) or graph
    if len(graph.inputs) != 1:
        return f"it takes {_listed(graph.inputs)}, and a VAE takes one image"
    (image,) = graph.inputs
    drawn = graph.below(graph.noise, random_steps(graph))
    unknown = [step for step in graph.steps if missing_of(step.operation) is not None]
    if not drawn and not unknown:
        return "nothing random is in it, so that it samples no z"
    outputs = list(dict.fromkeys(graph.outputs))
    targets = [value for value in outputs if value in (drawn or graph.below((), unknown))]
    targets = _like_image(targets, image)
    if len(targets) != 1:
        return (
            f"{len(targets)} of what it gives ({_listed(graph.outputs)}) are decoded from a z that "
            f"is sampled and of the image's shape {shape_text(image.shape)}"
        )
    sampling = find_sampling(graph, targets[0])
    if sampling is None or sampling.z.size is None:
        return "what it decodes does not come of one sampled tensor alone"
    posterior, notes = posterior_of_sampling(graph, sampling, options, where)
    z = sampling.z
    return _build(graph, image, posterior, (graph, z, targets[0]), notes, where)


def _build(
    graph: FlatGraph,
    image: Value,
    posterior: Posterior,
    behind: tuple[FlatGraph, Value, Value],
    notes: tuple[str, ...],
    where: str,
) -> Halves:
    decoder_graph, z, target = behind
    if image.size is None:
        raise ModelError(
            f"{where}: the encoder must have one input of a fixed shape; it takes "
            f"{shape_text(image.shape)}. Build it with keras.Input((height, width, channels))."
        )
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
                f"{where}: the {name} needs {_listed(sorted(needs, key=id))} besides what a VAE's "
                f"{name} takes: random numbers, or a condition. Only models of one image are "
                "exported."
            )
    encoder, converted = build_encoder(graph, image, posterior, where)
    decoder, added = build_decoder(decoder_graph, z, target, image.shape, where)
    return Halves(encoder=encoder, decoder=decoder, notes=(*notes, *converted, *added))


def _open_random(traced: Traced) -> FlatGraph:
    """Look into layers of the user's own that draw random numbers."""
    graph, _ = open_layers(traced, lambda _, step: is_random(step))
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
        for target in _like_image(list(graph.outputs), image):
            sampling = find_sampling(as_noise, target)
            if sampling is not None and measure_posterior(as_noise, sampling) is not None:
                return as_noise
    return None


def _half_graph(half: Any, name: str, where: str) -> FlatGraph:
    traced = trace(half)
    if traced.model is None:
        raise ModelError(
            f"{where}: the {name} is a {type(half).__name__} whose layers cannot be read: "
            f"{traced.reason}. Call the model once before it is saved, or build it as "
            "keras.Model(inputs, outputs)."
        )
    return _open_random(traced) if name == "encoder" else open_layers(traced, lambda *_: False)[0]


def _image(graph: FlatGraph, where: str) -> Value:
    (image,) = _only(graph.inputs, "takes", "model", where)
    return image


def _only(values: Any, verb: str, name: str, where: str) -> tuple[Value]:
    found = tuple(dict.fromkeys(values))
    if len(found) == 1:
        return found
    more = (
        " A decoder that also takes a condition cannot be exported: bundles decode z alone."
        if verb == "takes" and len(found) > 1
        else ""
    )
    raise ModelError(f"{where}: the {name} {verb} {_listed(found)}; expected one tensor.{more}")


def _listed(values: Any) -> str:
    shapes = [shape_text(value.shape) for value in values]
    return f"{len(shapes)} tensors ({', '.join(shapes)})" if len(shapes) != 1 else shapes[0]


def _like_image(values: list[Value], image: Value) -> list[Value]:
    exact = [value for value in values if value.shape == image.shape]
    return exact or [v for v in values if v.size is not None and v.size == image.size]


def _parts(model: Any) -> dict[str, Any]:
    """The models, and layers of the user's own class, that a model holds, by attribute or name."""
    found: dict[str, Any] = {}
    for name, value in _named_parts(model):
        if value is not model and not any(value is each for each in found.values()):
            found.setdefault(name, value)
    return found


def _named_parts(model: Any) -> Iterator[tuple[str, Any]]:
    for name, value in sorted(vars(model).items()):
        if not name.startswith("_") and _may_be_half(value):
            yield name, value
    for layer in getattr(model, "layers", ()):
        if _may_be_half(layer):
            yield layer.name, layer


def _may_be_half(value: Any) -> bool:
    if not hasattr(value, "_layers"):
        return False
    return functional_of(value) is not None or bool(value._layers)


def _pair_by_name(parts: dict[str, Any]) -> tuple[Any, Any] | None:
    found = [
        next((p for key, p in parts.items() if half in (key, p.name)), None)
        for half in ("encoder", "decoder")
    ]
    return (found[0], found[1]) if None not in found else None


def _pair_by_structure(parts: dict[str, Any]) -> tuple[Any, Any] | None:
    """The only two parts of which one makes of the image what the other makes it from."""
    graphs = {
        key: open_layers(traced, lambda *_: False)[0]
        for key, part in parts.items()
        for traced in [trace(part)]
        if traced.model is not None
    }
    pairs = [
        (parts[first], parts[second])
        for first, before in graphs.items()
        for second, behind in graphs.items()
        if first != second and _fit(before, behind)
    ]
    return pairs[0] if len(pairs) == 1 else None


def _fit(before: FlatGraph, behind: FlatGraph) -> bool:
    if len(before.inputs) != 1 or len(behind.inputs) != 1 or len(set(behind.outputs)) != 1:
        return False
    size, z = before.inputs[0].size, behind.inputs[0].size
    sizes = [value.size for value in dict.fromkeys(before.outputs)]
    heads = sizes.count(z) >= 2 or (z is not None and 2 * z in sizes)
    return size is not None and size == behind.outputs[0].size and z != size and heads


def _is_plain(encoder: Any, decoder: Any) -> bool:
    """Whether both are what is wanted already."""
    if functional_of(encoder) is None or functional_of(decoder) is None:
        return False
    output = functional_of(encoder).output
    return isinstance(output, dict) and set(output) == {"z_mean", "z_log_var"}
