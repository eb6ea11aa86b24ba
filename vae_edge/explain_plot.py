"""Layer attribution as a picture: the SQNR of every layer, a line per artifact."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vae_edge.errors import RuntimeMissingError
from vae_edge.explain import Explanation
from vae_edge.files import replaced_file
from vae_edge.keras_vae import host_remedy
from vae_edge.terms import Component, Format, Precision

__all__ = ["write_picture"]

_DPI = 150
# Those of benchmarks.head_to_head_plot, so that a reader learns them once.
_COLOURS = {
    Precision.FLOAT32: "#1f77b4",
    Precision.FLOAT16: "#17a2a2",
    Precision.DYNAMIC: "#2ca02c",
    Precision.INT8: "#d62728",
    Precision.INT16X8: "#9467bd",
    Precision.INT4: "#8c564b",
}
_STYLES = {Format.TFLITE: ("o", "-"), Format.ONNX: ("s", "--")}
# Identical values have no place on the axis: they stand at its upper edge.
_EXACT_DB = 160.0
_LEAST_DB = -10.0


def write_picture(explanations: Sequence[Explanation], path: Path) -> None:
    """Draw artifacts to a PNG: a panel per component, layers from left to right.

    Args:
        explanations: at least one.
        path: file to write.

    Raises:
        RuntimeMissingError: matplotlib is not installed.
    """
    try:
        # A backend without a screen, and without touching the global state of pyplot.
        figure_module = importlib.import_module("matplotlib.figure")
    except ImportError as error:
        raise RuntimeMissingError(
            f"A picture needs matplotlib, which cannot be imported: {host_remedy()}."
        ) from error
    components = [c for c in Component if any(e.component is c for e in explanations)]
    figure = figure_module.Figure(figsize=(11, 5.5 * len(components)), layout="constrained")
    panels = figure.subplots(len(components), 1, squeeze=False)
    for (axes,), component in zip(panels, components, strict=True):
        _draw(axes, [e for e in explanations if e.component is component], component)
    with replaced_file(path) as part:
        figure.savefig(part, dpi=_DPI)


def _draw(axes: Any, explanations: Sequence[Explanation], component: Component) -> None:
    names = [layer.layer for layer in explanations[0].layers]
    for explanation in explanations:
        points = [
            (place, min(max(_EXACT_DB if r.sqnr_db is None else r.sqnr_db, _LEAST_DB), _EXACT_DB))
            for place, r in enumerate(explanation.layers)
            if r.tensor is not None
        ]
        marker, line = _STYLES[explanation.format]
        colour = _COLOURS[explanation.precision]
        axes.plot(
            *zip(*points, strict=True),
            marker=marker,
            linestyle=line,
            color=colour,
            markersize=5,
            linewidth=1.4,
            label=explanation.artifact,
        )
        if explanation.first is not None:
            place = names.index(explanation.first)
            last = place == len(names) - 1
            level = dict(points)[place]
            axes.plot(
                place,
                level,
                marker="o",
                markersize=15,
                markerfacecolor="none",
                markeredgecolor="black",
                markeredgewidth=1.8,
                linestyle="none",
                zorder=4,
            )
            axes.annotate(
                explanation.first,
                (place, level),
                # The name of the last layer would leave the panel on the right.
                xytext=(-9 if last else 9, -13),
                textcoords="offset points",
                ha="right" if last else "left",
                fontsize=8,
            )
    for floor in sorted({e.floor_db for e in explanations}):
        axes.axhline(floor, color="0.6", linewidth=0.8, linestyle=":")
        axes.annotate(
            f"floor {floor:g} dB",
            (0, floor),
            xycoords=("axes fraction", "data"),
            xytext=(4, 2),
            textcoords="offset points",
            fontsize=7,
            color="0.4",
        )
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right", fontsize=8)
    axes.set_ylim(_LEAST_DB - 5, _EXACT_DB + 5)
    ticks = range(0, int(_EXACT_DB) + 1, 20)
    axes.set_yticks(ticks, [*map(str, ticks[:-1]), "exact"])
    axes.set_ylabel("SQNR of the layer's output, dB")
    axes.grid(visible=True, axis="both", alpha=0.25)
    axes.set_title(
        f"{component}: higher is closer to Keras; a ring marks the first layer that diverges",
        fontsize=10,
    )
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=8)
