"""What a worker process holds: one format and precision, or the Keras model, opened and ready."""

from __future__ import annotations

import contextlib
import importlib
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.protocol import GroupTask, Loaded, LoadedWorkload, Memory, Request, Sampled
from benchmarks.report_parts import Part
from benchmarks.timer import calibrate, elapsed_ns
from vae_edge.bundle import Bundle, manifest_of
from vae_edge.keras_vae import KerasCall, load_keras_vae, open_keras_runner
from vae_edge.runners.base import Runner
from vae_edge.terms import COMPONENT_INPUT, COMPONENT_OUTPUTS, Component, FloatArray, Format

__all__ = ["Opened", "Session", "import_runtime", "make_input", "open_group", "peak_rss_bytes"]

_COMPONENTS = {
    Part.ENCODER: (Component.ENCODER,),
    Part.DECODER: (Component.DECODER,),
    Part.BOTH: (Component.ENCODER, Component.DECODER),
}
_NS_PER_MS = 1e6
_STATUS = Path("/proc/self/status")
# What to import for a format, first choice first. Of a format that another package adds it is not
# known, and of what is missing, opening an artifact says it.
_RUNTIMES = {
    Format.TFLITE: ("ai_edge_litert.interpreter", "tflite_runtime.interpreter"),
    Format.ONNX: ("onnxruntime",),
}


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A component, opened one way, and the nanoseconds that took."""

    component: Component
    keras_call: KerasCall | None
    runner: Runner
    load_ns: int


def open_group(task: GroupTask) -> Iterator[Opened]:
    """Open what the task's parts need.

    Raises:
        BundleError: the bundle or an artifact is damaged.
        ModelError: the Keras model cannot be loaded.
        RuntimeMissingError: what runs it is not installed.
        ArtifactError: the runtime cannot load it.
    """
    needed = [c for c in Component if any(c in _COMPONENTS[part] for part in task.parts)]
    if task.format is None:
        yield from _open_keras(task, needed)
    else:
        yield from _open_artifacts(task, task.format, needed)


def _open_artifacts(
    task: GroupTask,
    format: Format,
    needed: list[Component],
) -> Iterator[Opened]:
    # The parent compared every file with the manifest; here each is when it is opened, so that
    # reading all of them does not count as memory of this one.
    bundle = Bundle(path=Path(task.source), manifest=manifest_of(Path(task.source)))
    for component in needed:
        record = bundle.find(component, format, task.precision_of(component))
        start = time.perf_counter_ns()
        runner = bundle.open_runner(record, task.threads)
        elapsed = time.perf_counter_ns() - start
        yield Opened(component=component, keras_call=None, runner=runner, load_ns=elapsed)


def _open_keras(task: GroupTask, needed: list[Component]) -> Iterator[Opened]:
    _limit_tensorflow(task.threads)
    start = time.perf_counter_ns()
    vae = load_keras_vae(Path(task.source) if task.source else None, task.split)
    elapsed = time.perf_counter_ns() - start
    for call in KerasCall:
        for component in needed:
            runner = open_keras_runner(vae, component, call)
            yield Opened(component=component, keras_call=call, runner=runner, load_ns=elapsed)


def import_runtime(task: GroupTask) -> bool:
    """Import what runs a task's artifacts, and read their manifest; say whether it could be."""
    for name in _RUNTIMES.get(task.format, ()) if task.format else ():
        with contextlib.suppress(ImportError, AttributeError):
            importlib.import_module(name)
            manifest_of(Path(task.source))
            return True
    return False


def _limit_tensorflow(threads: int) -> None:
    """Hold TensorFlow to the CPU and to as many threads as the artifacts get."""
    try:
        tf: Any = importlib.import_module("tensorflow")
    except ImportError:
        return  # load_keras_vae says what is missing and how to install it
    # Once TensorFlow has run, these can only repeat what they are set to.
    if tf.config.threading.get_intra_op_parallelism_threads() != threads:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
        tf.config.set_visible_devices([], "GPU")


def _runtime(opened: Opened) -> str:
    """Name what runs it; Keras computes with TensorFlow, whose version matters as much."""
    tensorflow = sys.modules.get("tensorflow") if opened.keras_call else None
    version = getattr(tensorflow, "__version__", None)
    return opened.runner.runtime + (f", tensorflow {version}" if version else "")


def make_input(runner: Runner, component: Component, batch: int, seed: int) -> FloatArray:
    """Give a batch of random images, uniform in [0, 1), or of latents from the prior N(0, I)."""
    rng = np.random.default_rng(seed)
    shape = (batch, *(n or 1 for n in runner.inputs[0].shape[1:]))
    if component is Component.ENCODER:
        return rng.random(shape, np.float32)
    return rng.standard_normal(shape, np.float32)


@dataclass(frozen=True, kw_only=True)
class _Workload:
    call: Callable[[], object]
    loaded: LoadedWorkload


class Session:
    """What a worker does; `opener` and `clock` can be replaced in tests."""

    def __init__(
        self,
        task: GroupTask,
        opener: Callable[[GroupTask], Iterator[Opened]] = open_group,
        clock: Callable[[], int] = time.perf_counter_ns,
        importer: Callable[[GroupTask], bool] = import_runtime,
    ) -> None:
        self._task, self._opener, self._clock = task, opener, clock
        self._importer = importer
        self._workloads: list[_Workload] = []
        self._base_rss_bytes: int | None = None

    def answer(self, request: Request) -> Any:
        """Do what is asked and give the answer's record."""
        if request.operation == "prepare":
            return self.prepare()
        if request.operation == "load":
            return self.load()
        if request.operation == "memory":
            return Memory(peak_rss_bytes=peak_rss_bytes(), base_rss_bytes=self._base_rss_bytes)
        call = self._workloads[request.workload].call
        if request.operation == "calibrate":
            return calibrate(call, request.min_sample_ns, self._clock)
        for _ in range(request.settle):
            call()
        return Sampled(sample_ns=elapsed_ns(call, request.loops, self._clock))

    def prepare(self) -> Loaded:
        """Import the runtime and read the files once, so that `load` times neither.

        A process that is alone with one artifact opens nothing yet: what it then takes to load, and
        the memory that it grows by, is all of what that artifact costs an application.
        """
        if self._task.alone and self._importer(self._task):
            self._base_rss_bytes = _resident("VmRSS")
            return Loaded(workloads=())
        for opened in self._opener(self._task):
            opened.runner.close()
        return Loaded(workloads=())

    def load(self) -> Loaded:
        """Open everything, run each once, and say how long both took."""
        groups: dict[KerasCall | None, dict[Component, Opened]] = {}
        for opened in self._opener(self._task):
            groups.setdefault(opened.keras_call, {})[opened.component] = opened
        for batch in self._task.batches:
            for by_component in groups.values():
                self._workloads.extend(self._workloads_of(by_component, batch))
        return Loaded(workloads=tuple(workload.loaded for workload in self._workloads))

    def _workloads_of(self, opened: Mapping[Component, Opened], batch: int) -> Iterator[_Workload]:
        calls: dict[Part, Callable[[], object]] = {
            Part(component.value): self._single(item, batch) for component, item in opened.items()
        }
        first_ns = {part: elapsed_ns(call, 1, self._clock) for part, call in calls.items()}
        if len(opened) == len(Component):
            calls[Part.BOTH] = self._both(opened, batch)
        for part in self._task.parts:
            items = [opened[component] for component in _COMPONENTS[part]]
            loads = [item.load_ns for item in items]
            yield _Workload(
                call=calls[part],
                loaded=LoadedWorkload(
                    part=part,
                    keras_call=items[0].keras_call,
                    batch=batch,
                    runtime=_runtime(items[0]),
                    # the Keras model is loaded once, for both its components
                    load_ms=(max if items[0].keras_call else sum)(loads) / _NS_PER_MS,
                    first_inference_ms=sum(first_ns[Part(item.component.value)] for item in items)
                    / _NS_PER_MS,
                ),
            )

    def _feeds(self, opened: Opened, batch: int) -> dict[str, FloatArray]:
        rows = make_input(opened.runner, opened.component, batch, self._task.seed)
        return {COMPONENT_INPUT[opened.component]: rows}

    def _single(self, opened: Opened, batch: int) -> Callable[[], object]:
        run, feeds = opened.runner.run, self._feeds(opened, batch)
        return lambda: run(feeds)

    def _both(self, opened: Mapping[Component, Opened], batch: int) -> Callable[[], object]:
        encode, decode = (opened[c].runner.run for c in _COMPONENTS[Part.BOTH])
        feeds = self._feeds(opened[Component.ENCODER], batch)
        z_mean, z = COMPONENT_OUTPUTS[Component.ENCODER][0], COMPONENT_INPUT[Component.DECODER]
        return lambda: decode({z: encode(feeds)[z_mean]})


def peak_rss_bytes(status: Path = _STATUS) -> int | None:
    """Give the most resident memory that this process ever had.

    Linux's own figure first: `getrusage` would count what the parent had when it forked.
    """
    found = _resident("VmHWM", status)
    if found is not None:
        return found
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (peak if sys.platform == "darwin" else peak * 1024) or None


def _resident(field: str, status: Path = _STATUS) -> int | None:
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
    return None
