from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vae_edge
from vae_edge.errors import DataError
from vae_edge.training import data, published
from vae_edge.training.data import load_dataset, quickstart_dataset
from vae_edge.training.published import PublishedSet

TRAIN = np.arange(4 * 28 * 28, dtype=np.uint32).astype(np.uint8).reshape(4, 28, 28)


def npz_bytes() -> bytes:
    file = io.BytesIO()
    np.savez(file, x_train=TRAIN, y_train=np.arange(4), x_test=TRAIN[:2], y_test=np.arange(2))
    return file.getvalue()


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(url: str, timeout: float) -> Any:  # noqa: ARG001
        assert timeout <= 10
        raise urllib.error.URLError("no network in tests")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keras's cache, and a published MNIST of four images."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    sha256 = hashlib.sha256(npz_bytes()).hexdigest()
    small = PublishedSet(name="mnist", folder="", sha256={"mnist.npz": sha256})
    for module in (published, data):
        monkeypatch.setattr(
            module, "PUBLISHED", {**published.PUBLISHED, "mnist": small}, raising=True
        )
    return tmp_path / "keras" / "datasets"


def put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def serve(monkeypatch: pytest.MonkeyPatch, content: bytes) -> list[str]:
    asked: list[str] = []

    def urlopen(url: str, timeout: float) -> io.BytesIO:  # noqa: ARG001
        asked.append(url)
        return io.BytesIO(content)

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    return asked


def test_an_unknown_name_suggests_a_known_one() -> None:
    with pytest.raises(DataError, match=r"neither a known name.*Did you mean 'fashion-mnist'\?"):
        load_dataset("fashion_mnist")
    with pytest.raises(DataError, match="'nowhere/at/all' is neither a known name"):
        load_dataset("nowhere/at/all")


def test_mnist_is_found_in_keras_cache(cache: Path) -> None:
    put(cache / "mnist.npz", npz_bytes())
    dataset = load_dataset("mnist")
    assert dataset.name == "mnist"
    assert dataset.source == str(cache / "mnist.npz")
    np.testing.assert_array_equal(np.round(dataset.train_images[..., 0] * 255), TRAIN)


def test_a_damaged_cache_is_an_error(cache: Path) -> None:
    put(cache / "mnist.npz", npz_bytes()[:-1])
    with pytest.raises(DataError, match=r"mnist.npz: SHA-256 differs.*Delete it"):
        load_dataset("mnist")


def test_without_files_and_network_the_error_says_what_to_do(cache: Path) -> None:
    with pytest.raises(DataError, match=r"no network in tests.*--data-dir.*'digits'"):
        load_dataset("mnist")
    assert not list(cache.iterdir())


def test_nothing_is_fetched_unless_allowed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = serve(monkeypatch, npz_bytes())
    with pytest.raises(DataError, match=r"downloading is off.*--data-dir"):
        load_dataset("mnist", allow_download=False)
    assert not asked
    assert not cache.exists()


def test_what_is_fetched_is_checked_and_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = serve(monkeypatch, npz_bytes())
    assert len(load_dataset("mnist").train_images) == 4
    assert asked == ["https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"]
    assert [path.name for path in cache.iterdir()] == ["mnist.npz"]
    load_dataset("mnist")
    assert len(asked) == 1


def test_a_wrong_download_is_refused_and_not_kept(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(monkeypatch, b"<html>log in to this network</html>")
    with pytest.raises(DataError, match="SHA-256 of what was received differs"):
        load_dataset("mnist")
    assert not list(cache.iterdir())


@pytest.mark.parametrize("folder", ["", "mnist"])
def test_data_dir_and_its_sub_folder_are_searched(tmp_path: Path, folder: str) -> None:
    put(tmp_path / folder / "mnist.npz", npz_bytes())
    dataset = load_dataset("mnist", tmp_path)
    assert dataset.source == str(tmp_path / folder / "mnist.npz")


def test_an_empty_data_dir_is_an_error_though_the_cache_is_full(
    tmp_path: Path, cache: Path
) -> None:
    put(cache / "mnist.npz", npz_bytes())
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"holds no files of 'mnist'.*train-images-idx3-ubyte"):
        load_dataset("mnist", tmp_path / "empty")


def test_a_data_dir_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such directory.*VAE_EDGE_DATA_DIR"):
        load_dataset("mnist", tmp_path / "absent")


def test_half_a_data_dir_names_what_is_missing(tmp_path: Path) -> None:
    put(tmp_path / "train-images-idx3-ubyte", b"")
    with pytest.raises(DataError, match="missing train-labels-idx1-ubyte"):
        load_dataset("mnist", tmp_path)


@pytest.mark.parametrize(
    ("asked", "there", "labels"),
    [
        ("fashion-mnist", "mnist", [7, 2, 1, 0, 4, 1, 4, 9, 5, 9, 0]),
        ("mnist", "fashion-mnist", [9, 2, 1, 1, 6, 1, 4, 6, 5, 7, 4]),
    ],
)
def test_mnist_is_not_taken_for_fashion_nor_the_other_way_round(
    tmp_path: Path, asked: str, there: str, labels: list[int]
) -> None:
    images, digits = np.zeros((11, 28, 28), np.uint8), np.array(labels, np.uint8)
    for part in ("train", "t10k"):
        header = b"\0\0\x08\x03" + np.array([11, 28, 28], ">u4").tobytes()
        put(tmp_path / f"{part}-images-idx3-ubyte", header + images.tobytes())
        header = b"\0\0\x08\x01" + np.array([11], ">u4").tobytes()
        put(tmp_path / f"{part}-labels-idx1-ubyte", header + digits.tobytes())
    with pytest.raises(
        DataError, match=f"expected '{asked}', but these are the files of '{there}'"
    ):
        load_dataset(asked, tmp_path)
    assert load_dataset(there, tmp_path).name == there


def test_quickstart_takes_mnist_where_it_is(cache: Path) -> None:
    put(cache / "mnist.npz", npz_bytes())
    assert quickstart_dataset().name == "mnist"


@pytest.mark.usefixtures("cache")
def test_quickstart_takes_digits_otherwise() -> None:
    pytest.importorskip("sklearn")
    assert quickstart_dataset().name == "digits"


@pytest.mark.usefixtures("cache")
def test_quickstart_takes_digits_where_a_download_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn")
    asked = []

    def refuse(url: str, **_options: object) -> None:
        asked.append(url)
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    assert quickstart_dataset(allow_download=True).name == "digits"
    assert len(asked) == 1
    assert asked[0].endswith("/mnist.npz")


@pytest.mark.usefixtures("cache")
def test_quickstart_does_not_pass_over_a_wrong_data_dir(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such directory"):
        quickstart_dataset(tmp_path / "typo")


def test_digits_are_laid_out_as_mnist_is() -> None:
    pytest.importorskip("sklearn")
    dataset = load_dataset("digits")
    assert dataset.image_shape == (28, 28, 1)
    assert len(dataset.train_images) + len(dataset.test_images) == 1797
    images = np.concatenate([dataset.train_images, dataset.test_images])
    assert images.dtype == np.float32
    assert images.min() == 0
    assert images.max() == 1
    frame = images.copy()
    frame[:, 4:24, 4:24] = 0
    assert not frame.any()


def test_every_digit_is_in_both_parts_in_proportion() -> None:
    pytest.importorskip("sklearn")
    dataset = load_dataset("digits")
    assert dataset.train_labels is not None
    assert dataset.test_labels is not None
    train, test = np.bincount(dataset.train_labels), np.bincount(dataset.test_labels)
    assert len(train) == len(test) == 10
    np.testing.assert_allclose(test / (train + test), 0.2, atol=0.005)


def test_digits_are_the_same_every_time() -> None:
    pytest.importorskip("sklearn")
    assert load_dataset("digits").fingerprint() == load_dataset("digits").fingerprint()


def test_data_is_loaded_without_tensorflow() -> None:
    pytest.importorskip("sklearn")
    code = (
        "import sys; from vae_edge.training.data import load_dataset; load_dataset('digits'); "
        "import vae_edge.training.run_dir; "
        "sys.exit(any(name in sys.modules for name in ('keras', 'tensorflow')))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(vae_edge.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], check=False, env=environment)
    assert done.returncode == 0
