"""Loading VAEs from files: one or two, without the code of their layers, of old releases."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from vae_edge.errors import ModelError, UsageError

pytestmark = pytest.mark.host

RELEASES = Path(__file__).parents[2] / "data" / "keras_releases"


@pytest.fixture
def unregistered(own):  # noqa: ARG001  registered first, so that it is there to be taken away
    """The state of a process that never saw the user's code."""
    import keras

    registered = keras.saving.get_custom_objects()
    kept = {name: value for name, value in registered.items() if name.startswith("own>")}
    for name in kept:
        del registered[name]
    yield
    registered.update(kept)


def example(builder, own):
    def outputs(x):
        heads = [builder.dense(x, "z_mean"), builder.dense(x, "z_log_var")]
        return [*heads, own.Sampling()(heads)]

    return builder.encoder(outputs), builder.decoder()


@pytest.fixture
def saved(builder, own, tmp_path, images):
    """The halves of Keras's example, and the files of the whole and of each."""
    encoder, decoder = example(builder, own)
    whole = own.ExampleVAE(encoder, decoder)
    whole(images)
    for name, model in (("whole", whole), ("encoder", encoder), ("decoder", decoder)):
        model.save(tmp_path / f"{name}.keras")
    return encoder, decoder, tmp_path


def check(vae, saved, images, values):
    encoder, decoder, _ = saved
    mean, log_var, _ = values(encoder, images)
    found = values(vae.encoder, images)
    np.testing.assert_allclose(found["z_mean"], mean, atol=1e-5)
    np.testing.assert_allclose(found["z_log_var"], log_var, atol=1e-5)
    np.testing.assert_allclose(values(vae.decoder, mean), values(decoder, mean), atol=1e-5)


@pytest.mark.parametrize("release", sorted(RELEASES.glob("*.keras")), ids=lambda path: path.stem)
@pytest.mark.usefixtures("unregistered")
@pytest.mark.parametrize("imported", [True, False])
def test_files_of_old_releases_are_read(release, layers_file, values, monkeypatch, imported):
    from vae_edge.splitting import SplitOptions, load

    if imported:
        monkeypatch.delitem(sys.modules, layers_file.stem)
    vae = load(release, SplitOptions(imports=(str(layers_file),) * imported))
    expected = np.load(release.with_suffix(".npz"))
    found = values(vae.encoder, expected["images"])
    for key in ("z_mean", "z_log_var"):
        np.testing.assert_allclose(found[key], expected[key], atol=1e-5)
    decoded = values(vae.decoder, expected["z_mean"])
    np.testing.assert_allclose(decoded, expected["decoded"], atol=1e-5)
    assert bool(vae.notes) is not imported


def test_oldest_release_is_among_those_tested():
    from vae_edge.splitting.archive import OLDEST_KERAS

    assert RELEASES.joinpath(f"vae-{'.'.join(map(str, OLDEST_KERAS))}.keras").is_file()


@pytest.mark.usefixtures("unregistered")
def test_whole_model_is_read_without_its_code(saved, images, values):
    from vae_edge.splitting import load

    vae = load(saved[2] / "whole.keras")
    check(vae, saved, images, values)
    assert any("ExampleVAE" in note and "not at hand" in note for note in vae.notes)
    assert any("'sampling" in note and "cut away" in note for note in vae.notes)


def test_halves_are_read_from_two_files(saved, images, values):
    from vae_edge.splitting import SplitOptions, load, source_sha256

    directory = saved[2]
    files = {half: str(directory / f"{half}.keras") for half in ("encoder", "decoder")}
    options = SplitOptions(**files)
    vae = load(None, options)
    check(vae, saved, images, values)
    swapped = SplitOptions(encoder=files["decoder"], decoder=files["encoder"])
    assert vae.source_sha256 == source_sha256(None, options) != source_sha256(None, swapped)
    assert vae.notes == ()
    with pytest.raises(UsageError, match="Give one or the other"):
        load(directory / "whole.keras", options)
    with pytest.raises(UsageError, match="--encoder and --decoder go together"):
        SplitOptions(encoder="encoder.keras")
    with pytest.raises(UsageError, match="no model"):
        load(None)


@pytest.mark.usefixtures("unregistered")
def test_sampling_without_code_or_telling_names_is_read_by_order(
    builder, own, images, values, tmp_path
):
    from vae_edge.splitting import load

    image = builder.image()
    heads = [builder.dense(builder.trunk(image), name) for name in ("a", "b")]
    path = tmp_path / "flat.keras"
    builder.keras.Model(image, builder.decode(own.Sampling()(heads))).save(path)
    vae = load(path)
    first = builder.keras.Model(image, heads[0])
    np.testing.assert_allclose(
        values(vae.encoder, images)["z_mean"], values(first, images), atol=1e-5
    )
    assert any("by their order, since the code that samples z is not" in n for n in vae.notes)


@pytest.mark.usefixtures("unregistered")
def test_layer_without_code_that_is_needed_is_named(builder, own, tmp_path):
    from vae_edge.splitting import load

    def outputs(x):
        x = own.Residual(6, name="block")(x)
        return {"z_mean": builder.dense(x), "z_log_var": builder.dense(x)}

    image, encoder = builder.image(), builder.encoder(outputs)
    path = tmp_path / "blocks.keras"
    builder.keras.Model(image, builder.decoder()(encoder(image)["z_mean"])).save(path)
    with pytest.raises(
        ModelError, match=r"encoder needs layer 'block' \(class .*Residual.*--import"
    ):
        load(path)


def test_class_without_decorator_is_found_in_the_module_that_is_named(
    builder, images, values, tmp_path
):
    from vae_edge.splitting import SplitOptions, load
    from vae_edge.splitting.custom_code import import_modules

    source = tmp_path / "bare_layers.py"
    source.write_text(
        "import keras\n\n\nclass Doubled(keras.layers.Layer):\n"
        "    def call(self, x):\n        return 2.0 * x\n"
    )
    (module,) = import_modules([str(source)])
    image = builder.image()
    encoder = builder.encoder(
        lambda x: {"z_mean": module.Doubled()(builder.dense(x)), "z_log_var": builder.dense(x)}
    )
    path = tmp_path / "bare.keras"
    builder.keras.Model(image, builder.decoder()(encoder(image)["z_mean"])).save(path)
    vae = load(path, SplitOptions(imports=(str(source),)))
    expected = values(encoder, images)["z_mean"]
    np.testing.assert_allclose(values(vae.encoder, images)["z_mean"], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such file"), ("1 / 0", "ZeroDivisionError"), ("raise SystemExit(3)", "SystemExit")],
)
def test_import_that_fails_is_said(tmp_path, content, message):
    from vae_edge.splitting.custom_code import import_modules

    path = tmp_path / "broken_layers.py"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ModelError, match=rf"--import .*broken_layers\.py: .*{message}"):
        import_modules([str(path)])
    with pytest.raises(ModelError, match=r"--import no_such_module_at_all: .*ModuleNotFound"):
        import_modules(["no_such_module_at_all"])
