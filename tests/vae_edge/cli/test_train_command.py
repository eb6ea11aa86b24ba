from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("keras", reason="needs the host extra")
pytest.importorskip("matplotlib", reason="needs the host extra")

import vae_edge
from vae_edge.cli import main
from vae_edge.training import trainer
from vae_edge.training.checkpoint import latest_epoch, load_latest
from vae_edge.training.run_dir import load_settings

pytestmark = pytest.mark.host

SMALL = ["--encoder-filters", "2,2", "--decoder-filters", "2,2", "--batch-size", "16"]


@pytest.fixture(autouse=True)
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VAE_EDGE_DATA_DIR", raising=False)
    images = np.random.default_rng(0).integers(0, 2, (40, 8, 8), dtype=np.uint8) * 255
    np.savez("dots.npz", images=images, labels=np.arange(40) % 3)


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["train", *arguments])
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_a_run_ends_with_results_and_the_next_command(capfd: pytest.CaptureFixture[str]) -> None:
    assert run("--dataset", "dots.npz", "--epochs", "2", "--out", "here", *SMALL) == 0
    out, err = capfd.readouterr()
    lines = dict(line.split(None, 1) for line in out.splitlines())
    assert lines["ELBO"].startswith("-")
    assert lines["ELBO"].endswith("nats per image on 4 test images")
    elbo, reconstruction, kl = (
        float(lines[name].split()[0]) for name in ("ELBO", "reconstruction", "KL")
    )
    assert -elbo == pytest.approx(reconstruction + kl, abs=0.02)
    assert lines["model"].startswith("here/model.keras (0.0")
    assert lines["next"] == "vae-edge export here/model.keras --format tflite"
    assert "epoch 1/2  loss" in err
    assert "epoch 2/2  loss" in err
    assert "36 training and 4 test images from" in err
    names = {"reconstructions.png", "generated.png", "manifold.png", "latents.png"}
    assert {path.name for path in Path("here").glob("*.png")} == names
    for name in names:
        assert f"here/{name}" in out


def test_json_is_all_of_stdout(capfd: pytest.CaptureFixture[str]) -> None:
    assert run("--dataset", "dots.npz", "--epochs", "1", "--json", *SMALL) == 0
    document = json.loads(capfd.readouterr().out)
    assert document["model"] == "runs/dots-vae/model.keras"
    assert document["evaluation"]["epochs"] == 1
    assert document["evaluation"]["dataset"] == "dots"
    assert len(document["pictures"]) == 4
    assert document["next"] == "vae-edge export runs/dots-vae/model.keras --format tflite"


def test_options_become_settings() -> None:
    options = ["--latent-dim", "3", "--beta", "2", "--learning-rate", "0.01", "--seed", "4"]
    more = ["--limit", "30", "--patience", "5", "--validation", "test", "--hidden-units", "6"]
    assert run("--dataset", "dots.npz", "--epochs", "1", *SMALL, *options, *more) == 0
    settings = load_settings(Path("runs/dots-vae"))
    assert (settings.latent_dim, settings.beta, settings.learning_rate) == (3, 2.0, 0.01)
    assert (settings.seed, settings.limit, settings.patience) == (4, 30, 5)
    assert (settings.validation, settings.hidden_units) == ("test", (6,))
    assert (settings.encoder_filters, settings.image_shape) == ((2, 2), (8, 8, 1))


def test_an_interruption_says_what_is_kept_and_how_to_go_on(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    evaluate = trainer.evaluate_elbo

    def interrupt_the_second(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return evaluate(*args, **kwargs)

    arguments = ["--dataset", "dots.npz", "--epochs", "3", "--out", "a run", *SMALL]
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "evaluate_elbo", interrupt_the_second)
        assert run(*arguments) == 130
    err = capfd.readouterr().err
    assert "Interrupted. All of epoch 1 is kept in a run" in err
    assert err.splitlines()[-1] == "vae-edge train --resume --out 'a run'"

    assert run("--resume", "--out", "a run") == 0
    out, err = capfd.readouterr()
    assert "epoch 2/3" in err
    assert "epoch 1/3" not in err
    assert "of 3" in out


def test_an_interrupted_resume_still_names_what_is_kept(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("--dataset", "dots.npz", "--epochs", "1", "--out", "r", *SMALL) == 0

    def interrupt(*args: Any, **kwargs: Any) -> Any:  # noqa: ARG001
        raise KeyboardInterrupt

    monkeypatch.setattr(trainer, "evaluate_elbo", interrupt)
    assert run("--resume", "--out", "r", "--epochs", "2") == 130
    assert "All of epoch 1 is kept in r" in capfd.readouterr().err


def test_an_interruption_before_the_first_epoch_keeps_nothing(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*args: Any, **kwargs: Any) -> Any:  # noqa: ARG001
        raise KeyboardInterrupt

    arguments = ["--dataset", "dots.npz", "--epochs", "1", "--out", "r", *SMALL]
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "evaluate_elbo", interrupt)
        assert run(*arguments) == 130
    assert "nothing is kept. Start again with the same command" in capfd.readouterr().err
    assert run(*arguments) == 0


def test_a_finished_run_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    assert run("--dataset", "dots.npz", "--epochs", "1", "--out", "r", *SMALL) == 0
    first = capfd.readouterr().out
    assert run("--resume", "--out", "r") == 0
    out, err = capfd.readouterr()
    assert out == first
    assert "finished already; raise --epochs to train it further" in err


def test_a_run_is_resumed_from_another_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("--dataset", "dots.npz", "--epochs", "1", "--out", "r", *SMALL) == 0
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert run("--resume", "--out", "../r", "--epochs", "2") == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "0"], "epochs must be 1 or more; received 0"),
        (["--epochs", "-2"], "epochs must be 1 or more; received -2"),
        (["--beta", "nan"], "beta must be a finite number, 0 or more; received nan"),
        (["--batch-size", "0"], "batch_size must be 1 or more"),
        (["--latent-dim", "0"], "latent_dim must be 1 or more"),
        (["--learning-rate", "-1"], "learning_rate must be a finite number above 0"),
        (["--limit", "1"], "limit must be 2 or more"),
        (["--validation", "half"], "--validation must be split or test; received 'half'"),
        (["--encoder-filters", "8;16"], "--encoder-filters must be whole numbers"),
        (["--encoder-filters", ""], "encoder_filters must name at least one layer"),
        (["--dataset", "minst"], "Did you mean 'mnist'?"),
        (["--dataset", "dots.npz", "--encoder-filters", "1,1,1,1"], "multiples of 16"),
        (["--resume", "--out", "nothing"], "holds no training run to resume"),
        (["--data-dir", "nothing"], "no such directory"),
    ],
)
def test_what_cannot_be_done_is_one_paragraph_and_2(
    capfd: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert run(*arguments) == 2
    out, err = capfd.readouterr()
    assert not out
    assert message in err
    assert err.strip().splitlines()[-1].startswith("error: ")
    assert "Traceback" not in err
    assert not Path("runs").exists()


def test_without_tensorflow_the_error_says_how_to_install(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "tensorflow" else find(name)
    )
    assert run("--dataset", "dots.npz") == 2
    assert "tensorflow cannot be found: pip install 'vae-edge[host]'" in capfd.readouterr().err


def test_a_second_run_in_the_same_directory_is_refused(
    capfd: pytest.CaptureFixture[str],
) -> None:
    arguments = ["--dataset", "dots.npz", "--epochs", "1", "--out", "r", *SMALL]
    assert run(*arguments) == 0
    before = Path("r/model.keras").read_bytes()
    assert run(*arguments) == 2
    assert "already holds a run" in capfd.readouterr().err
    assert run("--resume", "--out", "r", "--beta", "3") == 2
    assert "beta was 1.0, now 3.0" in capfd.readouterr().err
    assert Path("r/model.keras").read_bytes() == before


def test_the_data_dir_of_the_environment_is_used(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("data").mkdir()
    images = np.zeros((12, 28, 28), np.uint8)
    np.savez("data/mnist.npz", x_train=images, x_test=images[:3])
    monkeypatch.setenv("VAE_EDGE_DATA_DIR", "data")
    assert run("--epochs", "1", *SMALL) == 0
    assert "mnist: 12 training and 3 test images from data/mnist.npz" in capfd.readouterr().err
    assert Path("runs/mnist-vae/model.keras").exists()


def _epochs_done() -> int:
    try:
        return latest_epoch(Path("r"))
    except FileNotFoundError:  # looked while a directory was renamed
        return 0


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_killed_process_loses_one_epoch_at_most(number: signal.Signals) -> None:
    # A test run in the background has the interrupt ignored, and its children inherit that.
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from vae_edge.cli import main; main(sys.argv[1:])"
    )
    arguments = ["train", "--dataset", "dots.npz", "--epochs", "5000", "--out", "r", *SMALL]
    environment = {**os.environ, "PYTHONPATH": str(Path(vae_edge.__file__).parents[1])}
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments], env=environment, stderr=subprocess.DEVNULL
    ) as process:
        deadline = time.monotonic() + 120
        while _epochs_done() < 3 and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(number)
        try:
            process.wait(timeout=60)
        finally:
            process.kill()
    assert process.returncode == (130 if number == signal.SIGINT else -signal.SIGKILL)
    epoch = latest_epoch(Path("r"))
    assert epoch >= 3
    saved = load_latest(Path("r"))
    assert saved is not None
    assert len(saved.progress.history) == epoch
