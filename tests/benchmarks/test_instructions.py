"""Counting instructions, with an emulator that is not there: marks, ratios, the table, errors."""

from __future__ import annotations

import json
import stat
from collections import Counter
from pathlib import Path

import pytest

from benchmarks import instructions
from benchmarks.emulation import Count, Cpu, Emulator, parse_marks
from benchmarks.instruction_report import Subject, find_subjects, markdown
from benchmarks.instructions import count_instructions, main
from vae_edge.errors import ArtifactError, BundleError, RuntimeMissingError, UsageError
from vae_edge.terms import Component, Format, Precision


class FakeCounter:
    """Instructions by file name and processor; the n-th repeat takes n more."""

    def __init__(self, table: dict[str, dict[Cpu, float]], step: float = 0) -> None:
        self.table, self.step, self.calls = table, step, Counter()

    def version(self) -> str:
        return "fake emulator 1.0"

    def count(self, artifact: Path, cpu: Cpu) -> Count:
        key = f"{artifact.parent.name}/{artifact.name}"
        if key not in self.table:
            raise ArtifactError(f"{artifact}: does not run.")
        more = self.step * self.calls[key, cpu]
        self.calls[key, cpu] += 1
        total = self.table[key][cpu] + more
        return Count(instructions=total, simd_instructions=total / 4, runtime="fake 2.0")


TABLE = {
    "ours/decoder.float32.tflite": {Cpu.A76: 3000, Cpu.A72: 3100},
    "ours/decoder.int8.tflite": {Cpu.A76: 1000, Cpu.A72: 2000},
    "stock/decoder.float32.tflite": {Cpu.A76: 3600, Cpu.A72: 3100},
    "stock/decoder.int8.tflite": {Cpu.A76: 1500, Cpu.A72: 1000},
    "stock/decoder.int8.onnx": {Cpu.A76: 1, Cpu.A72: 1},
}


def touch(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_bytes(b"")
    return folder


@pytest.fixture
def ours(tmp_path) -> Path:
    return touch(tmp_path / "ours", "decoder.int8.tflite", "decoder.float32.tflite")


@pytest.fixture
def stock(tmp_path) -> Path:
    names = ("decoder.float32.tflite", "decoder.int8.tflite", "decoder.int8.onnx")
    return touch(tmp_path / "stock", *names)


def report_of(ours, stock=None, **options):
    counter = FakeCounter(TABLE, options.pop("step", 0))
    against = find_subjects(stock) if stock else ()
    return count_instructions(counter, find_subjects(ours), stock=against, **options), counter


def of(report, name, cpu):
    (count,) = (c for c in report.counts if Path(c.artifact).name == name and c.cpu is cpu)
    return count


# Marks


def test_two_marks_give_instructions_per_inference():
    count = parse_marks("1000000 400000\n3000000 1400000\n", 20, "some 1.0")
    assert count == Count(instructions=100_000, simd_instructions=50_000, runtime="some 1.0")


@pytest.mark.parametrize(
    "text",
    ["", "1 1\n", "1 1\n2 2\n3 3\n", "1\n2\n", "one 1\n2 2\n"],
    ids=["none", "one", "three", "no-simd", "no-number"],
)
def test_anything_but_two_marks_is_an_error(text):
    with pytest.raises(ArtifactError, match=r"expected two lines of two numbers\. Build it again"):
        parse_marks(text, 20, "")


@pytest.mark.parametrize("text", ["5 1\n5 1\n", "5 1\n4 1\n", "5 5\n6 3\n", "5 1\n6 3\n"])
def test_marks_that_count_nothing_backwards_or_more_simd_than_all_are_an_error(text):
    with pytest.raises(ArtifactError, match="which cannot be"):
        parse_marks(text, 20, "")


# What is counted


def test_names_say_what_a_file_is(tmp_path):
    assert Subject.from_name(tmp_path / "encoder.float16.onnx") == Subject(
        path=tmp_path / "encoder.float16.onnx",
        component=Component.ENCODER,
        precision=Precision.FLOAT16,
        format=Format.ONNX,
    )


@pytest.mark.parametrize("name", ["mine.tflite", "decoder.int3.tflite", "a.b.c.tflite"])
def test_other_names_are_counted_without_comparison(tmp_path, name):
    subject = Subject.from_name(tmp_path / name)
    assert (subject.component, subject.precision) == (None, None)
    assert subject.format is Format.TFLITE


def test_directory_gives_its_artifacts_and_nothing_else(tmp_path):
    folder = touch(tmp_path / "some", "b.onnx", "a.tflite", "rep.npz", "notes.txt")
    assert [s.path.name for s in find_subjects(folder)] == ["a.tflite", "b.onnx"]


def test_bundle_is_verified_and_its_manifest_says_what_is_what(make_tiny_bundle):
    pytest.importorskip("onnx")
    path = make_tiny_bundle()
    found = find_subjects(path)
    assert [(s.component, s.precision) for s in found] == [
        (Component.ENCODER, Precision.FLOAT32),
        (Component.DECODER, Precision.FLOAT32),
    ]
    found[0].path.write_bytes(b"something else")
    with pytest.raises(BundleError):
        find_subjects(path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "does not exist; expected an artifact or a bundle"),
        (lambda path: path.mkdir(), "holds no artifact; expected files ending in .tflite, .onnx"),
    ],
    ids=["missing", "empty"],
)
def test_target_without_artifacts(tmp_path, make, message):
    path = tmp_path / "target"
    make(path)
    with pytest.raises(UsageError, match=message):
        find_subjects(path)


def test_file_of_another_kind(tmp_path):
    (tmp_path / "model.keras").write_bytes(b"")
    with pytest.raises(UsageError, match=r"not an artifact; expected a file ending in \.tflite"):
        find_subjects(tmp_path / "model.keras")


# Ratios


def test_ratios_worked_out_by_hand(ours, stock):
    report, _ = report_of(ours, stock)
    int8, float32 = "decoder.int8.tflite", "decoder.float32.tflite"
    assert of(report, int8, Cpu.A76).times_fewer_than_stock == 1.5
    assert of(report, int8, Cpu.A76).times_fewer_than_float32 == 3
    assert of(report, int8, Cpu.A72).times_fewer_than_stock == 0.5
    assert of(report, int8, Cpu.A72).times_fewer_than_float32 == 1.55
    assert of(report, float32, Cpu.A76).times_fewer_than_stock == pytest.approx(1.2)
    assert of(report, float32, Cpu.A76).times_fewer_than_float32 is None


def test_without_stock_there_is_no_ratio_to_it(ours):
    report, _ = report_of(ours)
    assert all(count.times_fewer_than_stock is None for count in report.counts)
    assert report.stock == ()


def test_float32_of_another_directory_is_not_ours(ours, stock):
    (ours / "decoder.float32.tflite").unlink()
    report, _ = report_of(ours, stock)
    assert of(report, "decoder.int8.tflite", Cpu.A76).times_fewer_than_float32 is None
    assert of(report, "decoder.int8.tflite", Cpu.A76).times_fewer_than_stock == 1.5


def test_stock_that_nothing_is_compared_with_is_not_counted(ours, stock):
    _, counter = report_of(ours, stock)
    assert ("stock/decoder.int8.onnx", Cpu.A76) not in counter.calls


def test_files_of_unknown_names_are_not_compared_with_each_other(tmp_path):
    table = {f"{folder}/mine.tflite": {Cpu.A76: 10} for folder in ("a", "b")}
    found = [find_subjects(touch(tmp_path / folder, "mine.tflite")) for folder in ("a", "b")]
    report = count_instructions(FakeCounter(table), found[0], stock=found[1], cpus=[Cpu.A76])
    assert report.counts[0].times_fewer_than_stock is None
    assert report.stock == ()


def test_median_and_spread_of_repeats(ours):
    report, counter = report_of(ours, cpus=[Cpu.A76], repeat=3, step=10)
    count = of(report, "decoder.int8.tflite", Cpu.A76)
    assert count.repeats == (1000, 1010, 1020)
    assert count.instructions == 1010
    assert count.simd_instructions == 252.5
    assert count.spread == pytest.approx(20 / 1010)
    assert set(counter.calls.values()) == {3}


def test_artifact_named_twice_is_counted_once(ours):
    counter = FakeCounter(TABLE)
    both = [*find_subjects(ours), *find_subjects(ours / "decoder.int8.tflite")]
    report = count_instructions(counter, both, cpus=[Cpu.A76])
    assert len(report.counts) == 2
    assert set(counter.calls.values()) == {1}


def test_several_at_once_give_the_same_report(ours, stock):
    assert report_of(ours, stock, jobs=4)[0] == report_of(ours, stock)[0]


def test_artifact_that_does_not_run_ends_it(ours):
    (ours / "encoder.int8.tflite").write_bytes(b"")
    with pytest.raises(ArtifactError, match=r"encoder\.int8\.tflite: does not run"):
        report_of(ours, jobs=2)


# The table


def test_table_and_caption(ours, stock):
    table = markdown(report_of(ours, stock, repeat=2, step=15)[0])
    head, rule, float32, int8, blank, caption = table.splitlines()
    assert head.startswith("| artifact | Cortex-A76, thousands | SIMD | fewer than stock |")
    assert rule.count("---") == head.count("|") - 1 == 9
    assert float32 == ("| decoder.float32.tflite | 3 | 25% | 1.20x |  | 3 | 25% | 1.00x |  |")
    assert int8.startswith("| decoder.int8.tflite | 1 | 25% | 1.50x | 2.99x | 2 | 25% |")
    assert blank == ""
    assert "a stand-in for the time on a Raspberry Pi, not that time" in caption
    assert "Cortex-A76: Raspberry Pi 5, Cortex-A72: Raspberry Pi 4" in caption
    # 15 more in the second run of 1,000 and 1,015.
    assert caption.endswith("Largest difference between 2 runs: 1.5%.")


def test_table_of_one_processor_run_once_without_stock(ours):
    head, *_, caption = markdown(report_of(ours, cpus=[Cpu.A72])[0]).splitlines()
    assert "difference" not in caption
    assert head == "| artifact | Cortex-A72, thousands | SIMD | fewer than float32 |"


def test_table_of_several_directories_says_which(ours, stock):
    subjects = [*find_subjects(ours), *find_subjects(stock)]
    table = markdown(count_instructions(FakeCounter(TABLE), subjects))
    assert "| ours/decoder.int8.tflite |" in table
    assert "| stock/decoder.int8.tflite |" in table


# The emulator


@pytest.fixture
def root(tmp_path) -> Path:
    """What setup.sh leaves, without content."""
    root = tmp_path / "root"
    (root / "site").mkdir(parents=True)
    (root / "usr" / "bin").mkdir(parents=True)
    for name in ("count.so", "usr/bin/python3"):
        (root / name).write_bytes(b"")
    return root


def fake_qemu(path: Path, body: str) -> str:
    """A shell script in the emulator's place; `$marks` is the file that the plugin would write."""
    path.write_text(
        "#!/bin/sh\n"
        '[ "$1" = --version ] && { echo "qemu-aarch64 version 7.2"; exit; }\n'
        "view=$4 marks=${6##*marks=}\n" + body
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


GOOD = "echo '100 10' > $marks; echo '2100 510' >> $marks; echo onnxruntime 1.0\n"


def test_emulator_counts(root, tmp_path):
    emulator = Emulator.open(root, fake_qemu(tmp_path / "qemu", GOOD))
    assert emulator.version() == "qemu-aarch64 version 7.2"
    assert emulator.count(tmp_path / "x.onnx", Cpu.A76) == Count(
        instructions=100, simd_instructions=25, runtime="onnxruntime 1.0"
    )


def test_emulated_program_sees_the_processor_it_is_told(root, tmp_path):
    """The runtimes choose their kernels by it."""
    seen = tmp_path / "seen"
    body = f"echo $2 > {seen}; cat $view/proc/cpuinfo >> {seen}; env >> {seen}\n{GOOD}"
    emulator = Emulator.open(root, fake_qemu(tmp_path / "qemu", body))
    for cpu, part in ((Cpu.A76, "0xd0b"), (Cpu.A72, "0xd08")):
        emulator.count(tmp_path / "x.onnx", cpu)
        text = seen.read_text()
        assert text.splitlines()[0] == f"cortex-{cpu}"
        assert text.count(f"CPU part\t: {part}\n") == 4
        # Dot products, which the older one has not.
        assert ("asimddp" in text) == (cpu is Cpu.A76)
        assert f"PYTHONPATH={root / 'site'}\n" in text


def test_commas_in_a_path_reach_the_plugin(tmp_path, root):
    odd = root.rename(tmp_path / "a,b")
    seen = tmp_path / "seen"
    emulator = Emulator.open(odd, fake_qemu(tmp_path / "qemu", f"echo $6 > {seen}\n{GOOD}"))
    emulator.count(tmp_path / "x.onnx", Cpu.A76)
    assert seen.read_text().startswith(f"{tmp_path}/a,,b/count.so,marks=")


def test_environment_of_the_caller_stays_outside(root, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    seen = tmp_path / "seen"
    emulator = Emulator.open(root, fake_qemu(tmp_path / "qemu", f"env > {seen}\n{GOOD}"))
    emulator.count(tmp_path / "x.onnx", Cpu.A76)
    assert "OMP_NUM_THREADS" not in seen.read_text()


def test_artifact_that_fails_inside(root, tmp_path):
    body = "echo 'RuntimeError: no such operator' >&2; exit 1\n"
    emulator = Emulator.open(root, fake_qemu(tmp_path / "qemu", body))
    with pytest.raises(ArtifactError) as caught:
        emulator.count(tmp_path / "x.onnx", Cpu.A72)
    text = str(caught.value)
    assert "x.onnx: does not run on an emulated Cortex-A72: RuntimeError: no such operator" in text
    assert "setup.sh" in text


def test_plugin_that_counts_nothing(root, tmp_path):
    emulator = Emulator.open(root, fake_qemu(tmp_path / "qemu", "echo onnxruntime 1.0\n"))
    with pytest.raises(ArtifactError, match=r"x\.onnx on Cortex-A76: the counting plugin left ''"):
        emulator.count(tmp_path / "x.onnx", Cpu.A76)


def test_missing_emulator(root):
    with pytest.raises(RuntimeMissingError, match="apt-get install qemu-user"):
        Emulator.open(root, "no-such-qemu")


@pytest.mark.parametrize("missing", ["count.so", "site", "usr/bin/python3"])
def test_root_that_was_not_prepared(root, tmp_path, missing):
    qemu = fake_qemu(tmp_path / "qemu", GOOD)
    (root / missing).rename(tmp_path / "away")
    with pytest.raises(UsageError, match=f"has no {missing}, so it is not a prepared root"):
        Emulator.open(root, qemu)


# The command


def test_command_prints_the_table_and_writes_json(root, tmp_path, ours, stock, capsys):
    qemu = fake_qemu(tmp_path / "qemu", GOOD)
    out = tmp_path / "new" / "counts.json"
    arguments = [root, ours, "--against", stock, "--cpu", "a76", "--qemu", qemu, "--json", out]
    assert main([*map(str, arguments), "--jobs", "2"]) == 0
    printed = capsys.readouterr()
    assert "| decoder.int8.tflite | 0 | 25% | 1.00x | 1.00x |" in printed.out
    assert "8/8 decoder.int8.tflite on an emulated Cortex-A76" in printed.err
    written = json.loads(out.read_text())
    assert written["emulator"] == "qemu-aarch64 version 7.2"
    assert "not that time" in written["meaning"]
    assert written["counts"][0]["repeats"] == [100, 100]
    assert len(written["stock"]) == 2


def test_command_says_what_is_missing(root, ours, capsys):
    assert main([str(root), str(ours), "--qemu", "no-such-qemu"]) == 2
    assert capsys.readouterr().err.startswith("error: Counting instructions needs QEMU")


def test_unsteady_counts_are_pointed_out(root, ours, capsys, monkeypatch):
    counter = FakeCounter(TABLE, step=25)
    monkeypatch.setattr(instructions.Emulator, "open", lambda root, qemu: counter)
    assert main([str(root), str(ours), "--cpu", "a76", "--repeat", "2"]) == 0
    notes = capsys.readouterr().err
    assert "decoder.int8.tflite on Cortex-A76: runs differ by 2.5%" in notes
    assert "decoder.float32.tflite on Cortex-A76: runs" not in notes


def test_json_that_cannot_be_written_does_not_lose_the_table(root, tmp_path, ours, capsys):
    qemu = fake_qemu(tmp_path / "qemu", GOOD)
    blocked = ours / "decoder.int8.tflite" / "counts.json"
    arguments = [root, ours, "--qemu", qemu, "--json", blocked]
    assert main([*map(str, arguments)]) == 2
    printed = capsys.readouterr()
    assert "| decoder.int8.tflite |" in printed.out
    assert "error:" in printed.err


@pytest.mark.parametrize(
    ("option", "value"), [("--jobs", "0"), ("--repeat", "x"), ("--cpu", "a53")]
)
def test_values_that_are_refused(root, ours, option, value):
    with pytest.raises(SystemExit):
        main([str(root), str(ours), option, value])
