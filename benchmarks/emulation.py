"""An artifact on an emulated arm64 processor: how many instructions one inference takes.

QEMU's user mode runs arm64 Python and the runtimes' arm64 wheels from a directory that
`benchmarks/arm64/setup.sh` makes, with the features of a Raspberry Pi's processor. A count is a
stand-in for the time that an inference takes on the Pi, not that time: it knows nothing of caches,
of memory, or of how many instructions the processor starts at once.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol

from vae_edge.errors import ArtifactError, RuntimeMissingError, UsageError

__all__ = [
    "INFERENCES",
    "WARMUP",
    "Count",
    "Cpu",
    "Emulator",
    "InstructionCounter",
    "find_emulator",
    "parse_marks",
    "version_of",
    "write_view",
]

WARMUP = 3
INFERENCES = 20
_TIMEOUT_S = 600
_CORES = 4
_SOURCES = Path(__file__).parent / "arm64"
_SETUP = "bash benchmarks/arm64/setup.sh"


class Cpu(str, Enum):
    """A processor that can be emulated."""

    A76 = "a76"
    A72 = "a72"

    def __str__(self) -> str:
        return str(self.value)

    @property
    def label(self) -> str:
        """What Arm calls it."""
        return f"Cortex-{self.value.upper()}"

    @property
    def board(self) -> str:
        """A computer that has it."""
        return _DESCRIPTIONS[self].board


@dataclass(frozen=True, kw_only=True)
class _Description:
    """What Linux says of a processor, where runtimes read which kernels suit it.

    Attributes:
        board: a computer that has it.
        part: Arm's number of it, in MIDR_EL1.
        max_khz: highest clock of that board.
        features: in the words of `/proc/cpuinfo`, as on that board.
    """

    board: str
    part: int
    max_khz: int
    features: str


_DESCRIPTIONS = {
    Cpu.A76: _Description(
        board="Raspberry Pi 5",
        part=0xD0B,
        max_khz=2_400_000,
        features="fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm "
        "lrcpc dcpop asimddp",
    ),
    Cpu.A72: _Description(
        board="Raspberry Pi 4",
        part=0xD08,
        max_khz=1_800_000,
        features="fp asimd evtstrm crc32 cpuid",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Count:
    """What one run of an artifact gave.

    Attributes:
        instructions: per inference.
        simd_instructions: how many of them are SIMD and floating-point arithmetic.
        runtime: name and version of the runtime.
    """

    instructions: float
    simd_instructions: float
    runtime: str


class InstructionCounter(Protocol):
    """What the report needs of an emulator, or of a fake in tests."""

    def version(self) -> str:
        """Give the emulator's name and version."""

    def count(self, artifact: Path, cpu: Cpu) -> Count:
        """Give the instructions of one inference, batch 1, one thread."""


def parse_marks(text: str, inferences: int, runtime: str) -> Count:
    """Turn the plugin's two marks into instructions per inference.

    Args:
        text: lines of `TOTAL SIMD`, one at the start and one at the end of the inferences.
        inferences: how many were run between them.
        runtime: name and version of the runtime.

    Raises:
        ArtifactError: these are not two marks, the second after the first.
    """
    try:
        (start, start_simd), (end, end_simd) = (
            map(int, line.split()) for line in text.splitlines()
        )
    except ValueError:
        raise ArtifactError(
            f"the counting plugin left {text[:80]!r}; expected two lines of two numbers. "
            f"Build it again: {_SETUP} ROOT."
        ) from None
    if not 0 <= end_simd - start_simd <= end - start or end == start:
        raise ArtifactError(
            f"the counting plugin counted from {start} ({start_simd} SIMD) to {end} ({end_simd} "
            f"SIMD), which cannot be. Build it again: {_SETUP} ROOT."
        )
    return Count(
        instructions=(end - start) / inferences,
        simd_instructions=(end_simd - start_simd) / inferences,
        runtime=runtime,
    )


def find_emulator(qemu: str, purpose: str) -> str:
    """Give the path of the emulator's program.

    Args:
        qemu: its name, or its path.
        purpose: what needs it, for the error message.

    Raises:
        RuntimeMissingError: it is not installed.
    """
    found = shutil.which(qemu)
    if found is None:
        raise RuntimeMissingError(
            f"{purpose} needs QEMU's user mode, and {qemu} was not found. On Debian 12: sudo "
            "apt-get install qemu-user."
        )
    return found


def version_of(qemu: str) -> str:
    """Give the emulator's name and version."""
    shown = subprocess.run(  # noqa: S603  the program that the user named
        [qemu, "--version"], capture_output=True, text=True, check=False
    )
    return next(iter(shown.stdout.splitlines()), "unknown")


@dataclass(frozen=True)
class Emulator:
    """A prepared root, and the emulator to run it with."""

    root: Path
    qemu: str

    @classmethod
    def open(cls, root: Path, qemu: str = "qemu-aarch64") -> Emulator:
        """Check that everything is there.

        Args:
            root: directory that `benchmarks/arm64/setup.sh` made.
            qemu: the emulator's program.

        Raises:
            RuntimeMissingError: no emulator, or no checkout of vae-edge.
            UsageError: `root` was not prepared.
        """
        if not (_SOURCES / "infer.py").is_file():
            raise RuntimeMissingError(
                f"{_SOURCES}: not found. Counting instructions needs a checkout of vae-edge, not "
                "the installed package alone."
            )
        found = find_emulator(qemu, "Counting instructions")
        root = root.absolute()
        for needed in ("count.so", "site", "usr/bin/python3"):
            if not (root / needed).exists():
                raise UsageError(
                    f"{root}: has no {needed}, so it is not a prepared root. Make one with: "
                    f"{_SETUP} {root}."
                )
        return cls(root=root, qemu=found)

    def version(self) -> str:
        """Give the emulator's name and version."""
        return version_of(self.qemu)

    def count(self, artifact: Path, cpu: Cpu) -> Count:
        """Give the instructions of one inference, batch 1, one thread, after a warm-up.

        Raises:
            ArtifactError: it does not load or run there, or was not counted.
        """
        with tempfile.TemporaryDirectory(prefix="vae-edge-arm64-") as folder:
            view, marks = Path(folder) / "view", Path(folder) / "marks"
            write_view(view, self.root, cpu)
            printed = self._run(artifact, cpu, view, marks)
            text = marks.read_text(encoding="ascii") if marks.exists() else ""
        try:
            return parse_marks(text, INFERENCES, printed)
        except ArtifactError as error:
            raise ArtifactError(f"{artifact} on {cpu.label}: {error}") from None

    def _run(self, artifact: Path, cpu: Cpu, view: Path, marks: Path) -> str:
        # QEMU splits the plugin's description at commas; two stand for one.
        plugin = ",".join(
            part.replace(",", ",,") for part in (str(self.root / "count.so"), f"marks={marks}")
        )
        command = [
            *(self.qemu, "-cpu", f"cortex-{cpu.value}", "-L", str(view), "-plugin", plugin),
            *(str(self.root / "usr/bin/python3"), str(_SOURCES / "infer.py")),
            *(str(artifact.absolute()), str(WARMUP), str(INFERENCES)),
        ]
        try:
            done = subprocess.run(  # noqa: S603  our own script in the user's own emulator
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                # Nothing of the caller's: a longer environment moves the stack, and OMP_NUM_THREADS
                # and its like change what runs.
                env={
                    "LC_ALL": "C.UTF-8",
                    "PYTHONPATH": str(self.root / "site"),
                    "PYTHONDONTWRITEBYTECODE": "1",
                    "PYTHONHASHSEED": "0",
                },
                timeout=_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ArtifactError(
                f"{artifact}: did not finish on an emulated {cpu.label} in {_TIMEOUT_S} s. Count "
                "it alone, with --jobs 1."
            ) from None
        except OSError as error:
            raise RuntimeMissingError(
                f"{self.qemu}: cannot be started: {error.strerror}. On Debian 12: sudo apt-get "
                "install --reinstall qemu-user."
            ) from error
        if done.returncode != 0:
            last = " ".join(done.stderr.split()[-60:]) or f"exit code {done.returncode}"
            raise ArtifactError(
                f"{artifact}: does not run on an emulated {cpu.label}: {last} "
                f"Either it needs newer runtimes ({_SETUP} {self.root}), or it is no artifact."
            )
        return done.stdout.strip()


def write_view(view: Path, root: Path, cpu: Cpu) -> None:
    """Make the directory in which the emulator looks up absolute paths before the host does.

    It holds the emulated system's libraries, and a description of the processor where Linux would
    put it: the runtimes read there which kernels to use, and would find the host's.
    """
    view.mkdir()
    for name in ("lib", "usr"):
        (view / name).symlink_to(root / name)
    description = _DESCRIPTIONS[cpu]
    processors = "".join(
        f"processor\t: {core}\nBogoMIPS\t: 108.00\nFeatures\t: {description.features}\n"
        "CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x0\n"
        f"CPU part\t: {description.part:#x}\nCPU revision\t: 3\n\n"
        for core in range(_CORES)
    )
    everyone = f"0-{_CORES - 1}"
    system = Path("sys/devices/system/cpu")
    files = {Path("proc/cpuinfo"): f"{processors}Model\t\t: {description.board} (emulated)\n"}
    files |= {system / name: everyone for name in ("possible", "present", "online")}
    for core in range(_CORES):
        own = system / f"cpu{core}"
        files |= {
            own / "cpufreq/cpuinfo_max_freq": str(description.max_khz),
            own / "cpufreq/cpuinfo_min_freq": "600000",
            own / "topology/physical_package_id": "0",
            own / "topology/core_id": str(core),
            own / "topology/core_siblings_list": everyone,
            own / "topology/package_cpus_list": everyone,
            own / "topology/thread_siblings_list": str(core),
        }
    for path, text in files.items():
        (view / path).parent.mkdir(parents=True, exist_ok=True)
        (view / path).write_text(text.rstrip("\n") + "\n", encoding="ascii")
