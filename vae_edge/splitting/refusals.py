"""Why a model is no VAE that can be split: what is known of it, in its author's words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vae_edge.splitting.flat_graph import FlatGraph, Value
from vae_edge.splitting.lookup import candidates, shape_text
from vae_edge.splitting.posterior import SAY_WHERE
from vae_edge.splitting.sampling import Sampling, noise_layers, random_steps
from vae_edge.splitting.stand_ins import missing_of

__all__ = ["CONDITIONAL", "SAY_SIZE", "Refusal", "no_vae", "not_random", "not_z_alone"]

CONDITIONAL = (
    "A conditional VAE cannot be exported as it is: bundles encode one image and decode z alone. "
    "Fix the condition and export that pair, e.g. keras.Model(z, decoder([z, keras.ops.zeros_like("
    "z[:, :1]) + condition])), and the encoder likewise."
)
SAY_SIZE = "Artifacts have fixed shapes: say for which size with --image-shape, e.g. 64,64,3."
_TWO_FILES = (
    "Save the halves: encoder.save('encoder.keras'), decoder.save('decoder.keras'), and give "
    "--encoder and --decoder."
)


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why a model cannot be split.

    Attributes:
        reason: half a sentence.
        final: whether nothing that the user could say would help.
    """

    reason: str
    final: bool = False


def no_vae(graph: FlatGraph | None, refusal: Refusal, parts: dict[str, Any], where: str) -> str:
    """Say that nothing was found to split, and what would help.

    Args:
        graph: of the model; None where it cannot be read.
        refusal: why.
        parts: the models in it.
        where: which model, for messages.
    """
    listed = ", ".join(f"{name} ({type(part).__name__})" for name, part in parts.items())
    among = f", and among its parts ({listed}) are no encoder and decoder that fit" * bool(parts)
    message = f"{where}: holds no VAE that can be split: {refusal.reason}{among}."
    if graph is None:
        return f"{message} {_TWO_FILES}"
    if len(graph.inputs) > 1:
        return f"{message} {CONDITIONAL}"
    missing = _missing(graph)
    if refusal.final and not missing:
        return message
    if missing:
        message += f" It was read without {', '.join(missing)}; see --import."
    where_else = f"If it is one, and samples elsewhere, s{SAY_WHERE[1:]}"
    return f"{message} {where_else} {candidates(graph)}"


def _missing(graph: FlatGraph) -> list[str]:
    return [str(m) for step in graph.steps for m in [missing_of(step.operation)] if m is not None]


def not_random(graph: FlatGraph) -> Refusal:
    """Say why a model without random steps samples no z."""
    noise = noise_layers(graph)
    if noise:
        return Refusal(
            reason=f"the noise of its layer '{noise[0].label}' is of one size for all images, so "
            "that there is no z_log_var"
        )
    return Refusal(
        reason="nothing random is in it, so that it samples no z: an autoencoder, plain or "
        "vector-quantized, is no VAE, nor is a classifier or a generator"
    )


def not_z_alone(
    graph: FlatGraph, target: Value, sampling: Sampling | None = None
) -> Refusal | None:
    """Say what is decoded beside one z; None where nothing is known to be.

    Args:
        graph: of the whole model.
        target: what is decoded.
        sampling: where it seems to be sampled, if that was found.
    """
    unknown = [step for step in graph.steps if missing_of(step.operation) is not None]
    needed = graph.needed([target])
    random = [step for step in (random_steps(graph) or unknown) if step in needed]
    if len(random) > 1 and random != unknown:
        names = ", ".join(step.label for step in random)
        return Refusal(
            reason=f"z is sampled in {len(random)} places ({names}), as in a hierarchical VAE, and "
            "bundles decode one z",
            final=True,
        )
    shape = sampling.z.shape if sampling is not None else ()
    if sampling is not None and any(head.shape == shape[1:] for head in sampling.heads):
        return Refusal(
            reason=f"it draws {shape[0]} samples of z for each image, and bundles decode one z",
            final=True,
        )
    if len(random) != 1:
        return None
    past = _past(graph, random[0].outputs, target)
    if not past:
        return None
    names = ", ".join(f"{_name(value)} {shape_text(value.shape)}" for value in past)
    return Refusal(
        reason=f"what it decodes needs {names} beside z, past the sampling (a skip connection), so "
        "that z alone cannot be decoded",
        final=True,
    )


def _past(graph: FlatGraph, drawn: Sequence[Value], target: Value) -> list[Value]:
    """What the image gives to the decoder otherwise than through what is drawn."""
    below = graph.below(drawn)
    sizes = {size for value in drawn if value.size for size in (value.size, 2 * value.size)}
    needed = graph.needed([target], drawn)
    behind = [step for step in graph.steps if step in needed and set(step.outputs) & below]
    entering = dict.fromkeys(v for step in behind for v in step.inputs if v not in below)
    return [v for v in entering if v.size not in sizes and graph.sources([v])]


def _name(value: Value) -> str:
    return value.step.label if value.step is not None else "the image"
