from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import vae_edge.bundle_writer
from vae_edge.bundle import Bundle
from vae_edge.bundle_writer import (
    BundleWriter,
    check_destination,
    check_replacement,
    check_reselection,
)
from vae_edge.errors import BundleError


@pytest.fixture
def fill(tiny, make_manifest):
    """Write a whole bundle into a writer, staged but not published."""

    def write(writer, files=("encoder.float32.onnx", "decoder.float32.onnx")):
        contents = {file: tiny.onnx(file.split(".")[0]) for file in files}
        golden = tiny.golden().to_bytes()
        for file, content in (*contents.items(), ("golden.npz", golden)):
            writer.add(file, content)
        return writer.stage(make_manifest(contents, golden))

    return write


@pytest.fixture
def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def snapshot(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_publish_puts_a_bundle_in_place_and_leaves_nothing_beside_it(tmp_path, fill):
    with BundleWriter(tmp_path / "out") as writer:
        fill(writer)
        assert not (tmp_path / "out").exists()
        published = writer.publish()

    assert published.path == tmp_path / "out"
    assert names(tmp_path) == ["out"]
    assert len(Bundle.open(tmp_path / "out").manifest.artifacts) == 2


def test_published_directory_can_be_read_by_others(tmp_path, fill):
    with BundleWriter(tmp_path / "out") as writer:
        fill(writer)
        writer.publish()

    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o755


def test_parents_of_the_destination_are_made(tmp_path, fill):
    with BundleWriter(tmp_path / "a" / "b" / "out") as writer:
        fill(writer)
        writer.publish()

    assert names(tmp_path / "a" / "b") == ["out"]


def test_stage_gives_a_bundle_that_can_be_opened_before_it_is_published(tmp_path, fill):
    with BundleWriter(tmp_path / "out") as writer:
        staged = fill(writer)

        assert staged.path == writer.staging
        assert staged.path.parent == tmp_path
        staged.open_runner(staged.manifest.artifacts[0]).close()


def test_staging_directory_is_hidden_and_carries_the_process_id(tmp_path):
    with BundleWriter(tmp_path / "out") as writer:
        assert writer.staging.name.startswith(f".out.{os.getpid()}.")


def test_exception_in_the_block_leaves_nothing(tmp_path, fill):
    def export():
        with BundleWriter(tmp_path / "out") as writer:
            fill(writer)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        export()

    assert names(tmp_path) == []


def test_exception_in_the_block_leaves_the_old_bundle_as_it_was(tmp_path, tiny_bundle):
    before = snapshot(tiny_bundle)

    def export():
        with BundleWriter(tiny_bundle) as writer:
            writer.add("half.bin", b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export()

    assert snapshot(tiny_bundle) == before
    assert names(tmp_path) == ["tiny"]


def test_leaving_without_publishing_leaves_nothing(tmp_path, fill):
    with BundleWriter(tmp_path / "out") as writer:
        fill(writer)

    assert names(tmp_path) == []


def test_publish_replaces_an_old_bundle_whole(tmp_path, fill, make_tiny_bundle):
    old = make_tiny_bundle(("encoder.float32.onnx", "encoder.int8.onnx"), name="out")

    with BundleWriter(old) as writer:
        fill(writer)
        writer.publish()

    assert names(old) == [
        "decoder.float32.onnx",
        "encoder.float32.onnx",
        "golden.npz",
        "manifest.json",
    ]
    assert names(tmp_path) == ["out"]


def test_old_bundle_comes_back_when_the_new_one_cannot_be_moved_in(
    tmp_path, fill, tiny_bundle, monkeypatch
):
    before = snapshot(tiny_bundle)
    rename = Path.rename

    def failing(self, target):
        if Path(target) == tiny_bundle and not self.name.endswith(".old"):
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with BundleWriter(tiny_bundle) as writer:
        fill(writer)
        with pytest.raises(BundleError, match="cannot be written: Input/output error"):
            writer.publish()

    assert snapshot(tiny_bundle) == before
    assert names(tmp_path) == ["tiny"]


def test_publish_verifies_what_was_staged(tmp_path, fill):
    with BundleWriter(tmp_path / "out") as writer:
        fill(writer)
        artifact = writer.staging / "encoder.float32.onnx"
        artifact.write_bytes(b"\0" * artifact.stat().st_size)
        with pytest.raises(BundleError, match="sha256 differs"):
            writer.publish()

    assert names(tmp_path) == []


def test_publish_refuses_a_destination_that_somebody_filled_meanwhile(tmp_path, fill):
    with BundleWriter(tmp_path / "out") as writer:
        fill(writer)
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "notes.txt").write_text("mine")
        with pytest.raises(BundleError, match=r"not part of a bundle \(notes\.txt\)"):
            writer.publish()

    assert snapshot(tmp_path / "out") == {"notes.txt": b"mine"}


def test_writer_outside_its_block_refuses_to_write(tmp_path):
    with pytest.raises(BundleError, match="use it in a `with` block"):
        BundleWriter(tmp_path / "out").add("file", b"")


def test_full_disk_is_said_and_leaves_nothing(tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(vae_edge.bundle_writer.os, "fsync", full)
    with (
        pytest.raises(
            BundleError, match=r"out: cannot be written: No space left on device\. Free some space"
        ),
        BundleWriter(tmp_path / "out") as writer,
    ):
        writer.add("encoder.float32.onnx", b"x" * 100)

    assert names(tmp_path) == []


def test_full_disk_met_by_somebody_else_in_the_block_is_said_too(tmp_path):
    with (
        pytest.raises(BundleError, match="Free some space"),
        BundleWriter(tmp_path / "out"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_other_system_errors_in_the_block_pass_through(tmp_path):
    with pytest.raises(PermissionError), BundleWriter(tmp_path / "out"):
        raise PermissionError(errno.EACCES, "Permission denied")


def test_parent_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")

    with (
        pytest.raises(BundleError, match=r"cannot be written: .*Choose an --out that you may"),
        BundleWriter(tmp_path / "file" / "out"),
    ):
        pytest.fail("the block was entered")


def test_parent_that_may_not_be_written_is_refused(tmp_path, monkeypatch):
    def refuse(**_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(vae_edge.bundle_writer.tempfile, "mkdtemp", refuse)
    with (
        pytest.raises(BundleError, match=r"Permission denied\. Choose an --out that you may"),
        BundleWriter(tmp_path / "out"),
    ):
        pytest.fail("the block was entered")


@pytest.mark.parametrize("name", ["out", "a.b", "mnist[1]", "a+b"])
def test_leftovers_of_dead_processes_are_removed(tmp_path, dead_pid, name):
    leftover = tmp_path / f".{name}.{dead_pid}.abcd_f12"
    leftover.mkdir()
    (leftover / "encoder.float32.onnx").write_bytes(b"half")

    with BundleWriter(tmp_path / name):
        assert not leftover.exists()


def test_leftovers_of_live_processes_stay(tmp_path):
    live = tmp_path / f".out.{os.getppid()}.abcdef12"
    live.mkdir()

    with BundleWriter(tmp_path / "out"):
        pass

    assert live.exists()


def test_process_of_another_user_counts_as_alive(tmp_path, dead_pid, monkeypatch):
    def not_ours(*_):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    other = tmp_path / f".out.{dead_pid}.abcdef12"
    other.mkdir()
    monkeypatch.setattr(vae_edge.bundle_writer.os, "kill", not_ours)

    with BundleWriter(tmp_path / "out"):
        pass

    assert other.exists()


def test_old_bundle_that_a_kill_left_aside_is_never_removed(tmp_path, dead_pid):
    aside = tmp_path / f".out.{dead_pid}.abcdef12.old"
    aside.mkdir()

    with BundleWriter(tmp_path / "out"):
        pass

    assert aside.exists()


@pytest.mark.parametrize(
    "tail", ["{dead}.{live}.abcdef12", "{dead}.backup", "{dead}.my-notes", "x.y"]
)
def test_directories_that_only_look_alike_stay(tmp_path, dead_pid, tail):
    # the first: a live export to `out.5`, seen by an export to `out`
    other = tmp_path / f".out.{tail.format(dead=dead_pid, live=os.getpid())}"
    other.mkdir()

    with BundleWriter(tmp_path / "out"):
        pass

    assert other.exists()


def test_number_that_is_no_process_id_is_not_an_error(tmp_path):
    other = tmp_path / f".out.{10**20}.abcdef12"
    other.mkdir()

    with BundleWriter(tmp_path / "out"):
        pass

    assert other.exists()


def test_destination_may_be_free_or_empty_or_a_bundle(tmp_path, tiny_bundle):
    (tmp_path / "empty").mkdir()

    check_destination(tmp_path / "free")
    check_destination(tmp_path / "empty")
    check_destination(tiny_bundle)


def test_destination_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(BundleError, match="is a file or a symbolic link; a bundle is a directory"):
        check_destination(tmp_path / "file")


def test_destination_that_is_a_symbolic_link_is_refused(tmp_path, tiny_bundle):
    (tmp_path / "link").symlink_to(tiny_bundle)

    with pytest.raises(BundleError, match="is a file or a symbolic link"):
        check_destination(tmp_path / "link")


def test_destination_that_cannot_be_listed_is_refused(tiny_bundle, monkeypatch):
    def refuse(_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)

    with pytest.raises(BundleError, match="cannot be written: Permission denied"):
        check_destination(tiny_bundle)


def test_foreign_files_are_refused_and_named(tmp_path):
    for name in ("d", "b", "a", "c"):
        (tmp_path / name).write_text("mine")

    with pytest.raises(
        BundleError, match=r"not part of a bundle \(a, b, c, \.\.\.\); they would be lost"
    ):
        check_destination(tmp_path)


def test_foreign_file_in_a_bundle_is_refused(tiny_bundle):
    (tiny_bundle / "notes.txt").write_text("mine")

    with pytest.raises(BundleError, match=r"not part of a bundle \(notes\.txt\)"):
        check_destination(tiny_bundle)


def test_something_with_an_unreadable_manifest_is_left_alone(tiny_bundle):
    (tiny_bundle / "manifest.json").write_text("{}")

    with pytest.raises(BundleError, match=r"cannot be read as a bundle, so it is left alone \(.*"):
        check_destination(tiny_bundle)


def test_replacement_that_would_lose_artifacts_is_refused(tiny_bundle):
    with pytest.raises(
        BundleError, match=r"\(decoder\.float32\.onnx\); they would be lost.*give --replace"
    ):
        check_replacement(tiny_bundle, {"encoder.float32.onnx"}, replace=False)


def test_replacement_that_would_lose_artifacts_passes_when_told(tiny_bundle):
    check_replacement(tiny_bundle, {"encoder.float32.onnx"}, replace=True)


def test_replacement_by_the_same_or_more_artifacts_passes(tiny_bundle):
    files = {"encoder.float32.onnx", "decoder.float32.onnx"}

    check_replacement(tiny_bundle, files, replace=False)
    check_replacement(tiny_bundle, {*files, "decoder.int8.onnx"}, replace=False)


def test_replacement_of_nothing_passes(tmp_path):
    check_replacement(tmp_path / "free", set(), replace=False)


def test_killed_writer_leaves_nothing_that_looks_like_a_bundle(tmp_path, fill):
    """As after SIGKILL: `__exit__` never ran."""
    writer = BundleWriter(tmp_path / "out")
    writer.__enter__()
    fill(writer)

    assert not (tmp_path / "out").exists()
    assert [name for name in names(tmp_path) if not name.startswith(".")] == []
    shutil.rmtree(writer.staging)


def test_choice_does_not_replace_what_was_asked_for_unless_told(tiny_bundle):
    with pytest.raises(BundleError, match=r"a bundle of 2 artifacts, .*or give --replace"):
        check_reselection(tiny_bundle, replace=False)

    check_reselection(tiny_bundle, replace=True)


def test_choice_replaces_an_earlier_choice(tiny_bundle, edit_manifest):
    def select(document):
        document["selection"] = {
            "budget": {"min_psnr_db": 40.0, "max_error": 0.01},
            "candidates": [
                {
                    "file": record["file"],
                    "size_bytes": 1,
                    "median_ms": None,
                    "psnr_db": None,
                    "rmse": None,
                    "eligible": True,
                    "chosen": True,
                    "reason": "fastest",
                }
                for record in document["artifacts"]
            ],
        }

    edit_manifest(tiny_bundle, select)

    check_reselection(tiny_bundle, replace=False)


def test_choice_takes_a_free_place(tmp_path):
    check_reselection(tmp_path / "free", replace=False)
