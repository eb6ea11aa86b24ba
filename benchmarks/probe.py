"""Artifacts opened one by one, each in a process of its own: load, first inference, memory.

Processes that go through all rounds hold the artifacts of a format and precision together, because
a small device has no room for one per artifact. What an artifact costs an application that opens it
and nothing else is found here, before the rounds begin.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.plan import probes
from benchmarks.process import Worker
from benchmarks.protocol import GroupTask, LoadedWorkload, Memory
from benchmarks.report_parts import Part
from vae_edge.errors import RuntimeMissingError

__all__ = ["Probed", "Probes", "probe", "probe_key"]

# So many import their runtime side by side; after that one is active at a time.
_AT_ONCE = 2
# Inferences before the memory is read: some runtimes allocate in the second one, too.
_LOOPS = 3

ProbeKey = tuple[str, Part, int, int]


@dataclass(frozen=True, kw_only=True)
class Probed:
    """What one part took, alone in its process."""

    loaded: LoadedWorkload
    memory: Memory


Probes = Mapping[ProbeKey, Probed]


def probe_key(task: GroupTask, part: Part, batch: int) -> ProbeKey:
    """Say which part in which setting a figure belongs to."""
    return task.name, part, batch, task.threads


def probe(
    tasks: Sequence[GroupTask],
    start: Callable[[GroupTask], Worker],
    step: Callable[[], None] = lambda: None,
) -> Probes:
    """Open every part of these tasks alone; those whose runtime is missing are left out.

    Args:
        tasks: of a run; those that are alone anyway, and Keras, are not opened here.
        start: starts a worker.
        step: called after every part.

    Raises:
        VaeEdgeError: whatever a worker failed with; all workers are ended first.
    """
    found: dict[ProbeKey, Probed] = {}
    singles = [single for task in tasks for single in probes(task)]
    for index in range(0, len(singles), _AT_ONCE):
        with contextlib.ExitStack() as stack:
            workers = []
            for task in singles[index : index + _AT_ONCE]:
                workers.append(start(task))
                stack.callback(workers[-1].close)
            ready = [worker for worker in workers if _is_ready(worker)]
            for worker in ready:
                (loaded,) = worker.load().workloads
                worker.sample(0, _LOOPS, 0)
                key = probe_key(worker.task, loaded.part, loaded.batch)
                found[key] = Probed(loaded=loaded, memory=worker.memory())
            for _ in workers:
                step()
    return found


def _is_ready(worker: Worker) -> bool:
    try:
        worker.wait_prepared()
    except RuntimeMissingError:
        return False  # the run says so when it asks for the same runtime
    return True
