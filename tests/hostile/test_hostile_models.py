"""`.keras` files that are damaged, or made to run code or to exhaust the machine."""

from __future__ import annotations

import base64
import io
import json
import marshal
import os
import pickle
import stat
import zipfile

import numpy as np
import pytest

from vae_edge.errors import ModelError

pytestmark = pytest.mark.host


def lambda_config(marker, arguments=()):
    """What Keras writes of a Lambda layer; its code would create a file."""
    code = compile(f"lambda *a: open({str(marker)!r}, 'w')", "evil", "eval")
    function = next(each for each in code.co_consts if hasattr(each, "co_code"))
    packed = base64.b64encode(marshal.dumps(function)).decode()
    value = {"code": packed, "defaults": None, "closure": None}
    return {
        "module": "keras.layers",
        "class_name": "Lambda",
        "config": {
            "name": "evil",
            "function": {"class_name": "__lambda__", "config": value},
            "arguments": dict(arguments),
        },
        "registered_name": None,
    }


def function_config(module, name):
    return {
        "module": module,
        "class_name": "function",
        "config": name,
        "registered_name": name,
    }


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """The members of a sound file: a flat VAE whose sampling layer is between heads and decoder."""
    import keras

    layers = keras.layers
    image = keras.Input((4, 4, 1), name="image")
    flat = layers.Flatten(name="flat")(image)
    heads = [layers.Dense(2, name=name)(flat) for name in ("z_mean", "z_log_var")]
    z = layers.Add(name="sampling")(heads)
    pixels = layers.Dense(16, name="pixels", activation="sigmoid")(z)
    model = keras.Model(image, layers.Reshape((4, 4, 1), name="picture")(pixels))
    path = tmp_path_factory.mktemp("sound") / "sound.keras"
    model.save(path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture
def written(sound, tmp_path):
    """Write a file from the sound one's members, some of them replaced."""

    def write(changes=None, *, layer=None, config=None, name="model.keras", extra=()):
        members = dict(sound)
        if layer is not None:
            config = json.loads(sound["config.json"])
            for place, found in enumerate(config["config"]["layers"]):
                if found["name"] == layer[0]:
                    kept = {key: found[key] for key in ("name", "inbound_nodes")}
                    config["config"]["layers"][place] = {**layer[1], **kept}
        if config is not None:
            members["config.json"] = json.dumps(config).encode()
        members.update(changes or {})
        path = tmp_path / name
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, content in members.items():
                if content is not None:
                    archive.writestr(member, content)
            for info, content in extra:
                archive.writestr(info, content)
        return path

    return write


def refused(path, message):
    from vae_edge.splitting import load

    with pytest.raises(ModelError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_lambda_that_only_samples_is_cut_away_without_running_it(written, tmp_path):
    from vae_edge.splitting import load

    marker = tmp_path / "ran"
    vae = load(written(layer=("sampling", lambda_config(marker))))
    assert not marker.exists()
    assert vae.latent_dim == 2
    assert "cut away" in vae.notes[0]
    image = np.full((1, 4, 4, 1), 0.5, np.float32)
    assert np.isfinite(vae.encoder(image)["z_log_var"]).all()


@pytest.mark.parametrize("place", ["flat", "pixels"])
def test_lambda_that_is_needed_is_refused_without_running_it(written, tmp_path, place):
    marker = tmp_path / "ran"
    refused(written(layer=(place, lambda_config(marker))), "Lambda.*holds Python code")
    assert not marker.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("builtins", "eval"),
        ("keras.utils", "get_file"),
        ("keras.models", "load_model"),
        ("keras.config", "enable_unsafe_deserialization"),
        ("keras.src.utils.file_utils", "get_file"),
        ("keras.activations", "get"),
    ],
)
@pytest.mark.parametrize("place", ["layer", "setting"])
def test_functions_that_no_model_is_made_of_are_refused(written, sound, place, module, name):
    function = function_config(module, name)
    if place == "layer":
        path = written(layer=("sampling", function))
    else:
        config = json.loads(sound["config.json"])
        config["config"]["layers"][-2]["config"]["activation"] = function
        path = written(config=config)
    refused(path, f"{name}.*(would be called|not at hand)")


def test_functions_that_an_imported_module_knows_are_refused(written, sound, tmp_path):
    from vae_edge.splitting import SplitOptions, load

    module = tmp_path / "layers_beside_system.py"
    module.write_text("from os import system  # as a user's module may\n")
    config = json.loads(sound["config.json"])
    function = function_config("layers_beside_system", "system")
    config["config"]["layers"][-2]["config"]["activation"] = function
    with pytest.raises(ModelError, match="system is a function that no model is made of"):
        load(written(config=config), SplitOptions(imports=(str(module),)))


@pytest.mark.parametrize(
    "layer",
    [
        {"module": "subprocess", "class_name": "Popen", "config": {"args": ["true"]}},
        {"module": "keras.layers", "class_name": "TFSMLayer", "config": {"filepath": "/tmp/x"}},
        {"module": "keras.layers", "class_name": "TorchModuleWrapper", "config": {"module": "x"}},
        {"module": "keras.callbacks", "class_name": "BackupAndRestore", "config": {}},
        {"class_name": "Lambda", "config": {"name": "old", "function": ["x", None, None]}},
        {"module": "keras.layers", "class_name": "Lambda", "config": None},
    ],
)
def test_classes_that_no_half_is_made_of_are_refused(written, layer):
    layer.setdefault("registered_name", None)
    refused(written(layer=("pixels", layer)), layer["class_name"])


def test_old_format_inside_of_a_model_is_refused(written):
    old = {"class_name": "Dense", "config": {"units": 16}, "registered_name": None}
    refused(written(layer=("pixels", old)), "format of Keras 2")


def test_object_that_is_not_a_model_is_refused(written):
    adam = {"module": "keras.optimizers", "class_name": "Adam", "config": {}}
    refused(
        written(config={**adam, "registered_name": None}), "Adam is not what models are made of"
    )


def test_archives_made_to_do_harm_are_refused(written):
    link = zipfile.ZipInfo("assets")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    refused(written(extra=[(link, "/etc/passwd")]), "symbolic link")
    for name in ("../outside", "/etc/cron.d/x", "assets/..\\..\\x", "C:evil"):
        refused(written(extra=[(name, "x")]), "lies outside")
    bomb = written({"model.weights.h5": bytes(80 * 2**20)})
    assert bomb.stat().st_size < 2**20
    refused(bomb, "would unpack to")
    with pytest.warns(UserWarning, match="Duplicate"):
        twice = written(extra=[("config.json", "{}")])
    refused(twice, "some of one name")


def test_weights_that_refer_to_other_files_are_refused(written, tmp_path):
    import h5py

    for kind in ("link", "storage"):
        buffer = io.BytesIO()
        with h5py.File(buffer, "w") as file:
            if kind == "link":
                file["layers"] = h5py.ExternalLink("/etc/passwd", "/x")
            else:
                outside = [(str(tmp_path / "raw"), 0, 64)]
                file.create_dataset("vars", (16,), "f4", external=outside)
        refused(written({"model.weights.h5": buffer.getvalue()}), "refer to something|another file")


def test_damaged_members_are_refused(written, sound):
    refused(written({"config.json": b"{"}), "config.json is no JSON")
    refused(written({"config.json": b"[]"}), "holds no object")
    refused(written({"config.json": b"{}"}), "names no class")
    refused(written({"config.json": b"[" * 200_000}), "is damaged")
    refused(written({"config.json": None}), "config.json missing")
    refused(written({"model.weights.h5": None}), "model.weights.h5 missing")
    refused(written({"model.weights.h5": b""}), "weights cannot be read")
    half = sound["model.weights.h5"][: len(sound["model.weights.h5"]) // 2]
    refused(written({"model.weights.h5": half}), "weights cannot be read")
    refused(written({"metadata.json": b'{"keras_version": "2.15.0"}'}), r"saved by Keras 2\.15\.0")
    refused(written({"metadata.json": b'{"keras_version": "x"}'}), "is damaged")


def test_weights_of_other_shapes_or_values_are_refused(written, sound, tmp_path):
    import h5py

    for change, message in ((3, "cannot be loaded"), (2, "not finite"), (None, "cannot be loaded")):
        buffer = io.BytesIO(sound["model.weights.h5"])
        with h5py.File(buffer, "r+") as file:
            del file["layers/dense/vars/0"]
            if change is not None:
                file["layers/dense/vars/0"] = np.full((16, change), np.nan, np.float32)
        changes = {"model.weights.h5": buffer.getvalue()}
        refused(written(changes, layer=("sampling", lambda_config(tmp_path / "ran"))), message)


@pytest.mark.parametrize(
    ("units", "shape"), [((10**9,), r"16, 1e\+09"), ((10**6, 10**6), r"1e\+06, 1e\+06")]
)
def test_configuration_that_asks_for_more_weights_than_the_file_has_is_refused(
    written, units, shape
):
    inner = [
        {
            "module": "keras.layers",
            "class_name": "Dense",
            "config": {"name": f"large_{place}", "units": number, "use_bias": False},
            "registered_name": None,
        }
        for place, number in enumerate(units)
    ]
    source = {
        "module": "keras.layers",
        "class_name": "InputLayer",
        "config": {"batch_shape": [None, 1 if len(units) > 1 else 16], "name": "source"},
        "registered_name": None,
    }
    model = {
        "module": "keras",
        "class_name": "Sequential",
        "config": {"name": "large", "layers": [source, *inner]},
        "registered_name": None,
    }
    asks = rf"'large_{len(units) - 1}' asks for weights of shape \({shape}\)"
    refused(written(config=model), asks)


def test_layers_that_give_more_than_memory_holds_are_refused_before_they_are_run():
    import keras

    from vae_edge.splitting import split

    layers = keras.layers
    image, z = keras.Input((2, 2, 1)), keras.Input((2,))
    flat = layers.Flatten()(image)
    heads = [layers.Dense(2, name=name)(flat) for name in ("z_mean", "z_log_var")]
    small = layers.Reshape((2, 2, 1))(layers.Dense(4)(z))
    large = layers.UpSampling2D(2**14, name="large")(small)
    decoder = keras.Model(z, layers.MaxPooling2D(2**14)(large))
    with pytest.raises(ModelError, match=r"'large' .*\(32768, 32768, 1\).* 4 GiB"):
        split(keras.Model(image, heads), decoder)


def test_layers_keep_making_weights_after_a_file_was_refused(written):
    import keras

    layer = {
        "module": "keras.layers",
        "class_name": "Dense",
        "config": {"units": 10**9, "name": "pixels"},
        "registered_name": None,
    }
    refused(written(layer=("pixels", layer)), "the whole file holds 116 values")
    dense = keras.layers.Dense(5_000)
    dense.build((None, 1_000))  # more than a file so small may ask for
    assert dense.count_params() == 5_005_000


def test_file_without_metadata_is_read(written, tmp_path):
    from vae_edge.splitting import load

    path = written({"metadata.json": None}, layer=("sampling", lambda_config(tmp_path / "ran")))
    assert load(path).latent_dim == 2


def test_other_formats_are_refused_with_the_way_out(tmp_path):
    pickled = tmp_path / "model.keras"
    pickled.write_bytes(pickle.dumps({"model": 1}))
    refused(pickled, "not a .keras file")
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").touch()
    refused(tmp_path / "saved", r"is a SavedModel.*can run code.*model\.save\('model\.keras'\)")
    for name in ("model.h5", "model.hdf5", "model.pkl", "model.H5", "model.pb"):
        (tmp_path / name).write_bytes(b"\x89HDF\r\n\x1a\n")
        refused(tmp_path / name, r"can run code.*model\.save\('model\.keras'\)")
    for name, message in (
        ("model.weights.h5", r"Weights alone.*load_weights"),
        ("model.npz", r"Weights alone"),
        ("model.tflite", r"TFLite is what models are exported to"),
        ("encoder.int8.onnx", r"ONNX is what models are exported to"),
        ("model.pt", r"PyTorch.*build the model in Keras"),
        ("model", r"such files are not loaded"),
    ):
        (tmp_path / name).write_bytes(b"something")
        refused(tmp_path / name, message)


def test_places_that_hold_no_file_are_refused_at_once(tmp_path):
    refused(tmp_path / "absent.keras", "no such model")
    link = tmp_path / "link.keras"
    link.symlink_to(tmp_path / "nowhere.keras")
    refused(link, r"is a link to .*nowhere\.keras, which is not there")
    link.unlink()
    link.symlink_to(link)
    refused(link, "cannot be read")
    folder = tmp_path / "folder.keras"
    folder.mkdir()
    refused(folder, "is a directory. Give the .keras file")
    for place in range(6):
        (folder / f"{place}.keras").touch()
    refused(folder, r"is a directory. Give the file in it: 0\.keras, .* and 2 more")
    os.mkfifo(tmp_path / "pipe.keras")
    refused(tmp_path / "pipe.keras", "device or pipe")
    (tmp_path / "empty.keras").touch()
    refused(tmp_path / "empty.keras", "is empty")
    refused(tmp_path / "null\0byte.keras", "cannot be read")
    refused(tmp_path / ("x" * 300 + ".keras"), "cannot be read")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_file_without_permission_is_said(written):
    path = written()
    path.chmod(0)
    refused(path, "cannot be read: Permission denied")


@pytest.mark.parametrize("name", ["Größe und Übung.keras", "モデル.keras", "MODEL.KERAS"])
def test_names_of_any_letters_are_read(written, tmp_path, name):
    from vae_edge.splitting import load

    path = written(layer=("sampling", lambda_config(tmp_path / "ran")), name=name)
    linked = tmp_path / "link to it.keras"
    linked.symlink_to(path)
    assert load(path).latent_dim == load(linked).latent_dim == 2
