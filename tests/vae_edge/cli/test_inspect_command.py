from __future__ import annotations

import json

import pytest

from vae_edge.manifest import read_manifest


def test_bundle_is_shown_with_every_artifact(run_cli, make_tiny_bundle):
    path = make_tiny_bundle(("encoder.float32.onnx", "decoder.float32.onnx", "decoder.int8.onnx"))

    ran = run_cli("inspect", path)

    assert ran.code == 0
    assert ran.err == ""
    assert "Model tiny: images (4, 4, 1), latent_dim 2, SHA-256 abababababababab..." in ran.out
    assert "Golden vectors: 5 images and 11 latents from noise" in ran.out
    assert "Calibration: 64 images (seed 3) from noise" in ran.out
    assert "Made with vae-edge 0.1.0" in ran.out
    assert "onnxruntime 1.19" in ran.out


def block(text: str, file: str) -> list[str]:
    """The lines below an artifact's name, up to the next blank one, single-spaced."""
    lines = [" ".join(line.split()) for line in text.splitlines()]
    start = lines.index(file) + 1
    return lines[start : lines.index("", start)]


def test_every_artifact_says_what_computes_and_what_was_rewritten(run_cli, tiny_bundle):
    assert block(run_cli("inspect", tiny_bundle).out, "decoder.float32.onnx") == [
        "boundary z float32 (1, 2) -> reconstruction float32 (1, 4, 4, 1)",
        "operators Gemm x2, Reshape",
        "in float Gemm x2",
        "precision nothing is quantized",
        "target any",
        "rewritten fold_batch_norm (norm)",
        "fuse_activation (dense, dense_1)",
        "left alone lower_conv_transpose (upsample): it is dilated",
        "profile chosen for any processor",
    ]


def test_selection_is_shown_with_what_it_was_made_from(run_cli, tiny_bundle, edit_manifest):
    def select(document):
        files = [record["file"] for record in document["artifacts"]]
        document["selection"] = {
            "budget": {"min_psnr_db": 35.0, "max_error": 0.02},
            "candidates": [
                {
                    "file": file,
                    "size_bytes": 1500,
                    "median_ms": None if file == "decoder.int8.onnx" else 0.0125,
                    "psnr_db": 34.5,
                    "rmse": 0.5,
                    "eligible": file in files,
                    "chosen": file in files,
                    "reason": "fastest" if file in files else "below 35 dB",
                }
                for file in (*files, "decoder.int8.onnx")
            ],
        }

    edit_manifest(tiny_bundle, select)
    rows = [" ".join(line.split()) for line in run_cli("inspect", tiny_bundle).out.splitlines()]

    assert "> decoder.float32.onnx 1.5 KB 12.5 us 34.5 dB fastest" in rows
    assert "decoder.int8.onnx 1.5 KB - 34.5 dB out: below 35 dB" in rows
    assert "Budget: images of at least 35 dB, latents within 0.02 of their span (rmse)." in rows


def test_bundle_of_everything_shows_no_selection(run_cli, tiny_bundle):
    assert "Budget" not in run_cli("inspect", tiny_bundle).out


PLAIN = {
    "kind": "picture",
    "input": {"scale": [1.0], "offset": [0.0]},
    "output": {"scale": [1.0], "offset": [0.0]},
    "likelihood": "bernoulli",
    "colour_order": None,
    "fit": None,
}


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({}, "pictures, input and output in [0, 1], bernoulli likelihood, other sizes: refused"),
        (
            {
                "input": {"scale": [2.0], "offset": [-1.0]},
                "likelihood": "gaussian",
                "fit": "crop",
            },
            "pictures, input in [-1, 1], output in [0, 1], gaussian likelihood, other sizes: crop",
        ),
        (
            {"kind": "array", "input": None, "output": None, "likelihood": "gaussian"},
            "arrays, input and output of no stated range, gaussian likelihood",
        ),
    ],
)
def test_what_the_values_mean_is_said_in_a_line(
    run_cli, tiny_bundle, edit_manifest, changes, shown
):
    edit_manifest(tiny_bundle, lambda d: d["model"].update(preprocessing=PLAIN | changes))

    assert f"Values: {shown}" in run_cli("inspect", tiny_bundle).out.splitlines()


def test_what_a_profile_is_for_is_not_said_of_one_of_its_files(run_cli, tiny_bundle, edit_manifest):
    note = "onnx float: the heads are one; written by tf2onnx, because it has a Cast"
    edit_manifest(tiny_bundle, lambda d: d["artifacts"][1]["lowering"].update(note=note))

    lines = block(run_cli("inspect", tiny_bundle).out, "decoder.float32.onnx")

    assert "profile onnx float; written by tf2onnx, because it has a Cast" in lines


def test_artifact_without_rewrites_says_so(run_cli, tiny_bundle, edit_manifest):
    bare = {"target": None, "applied": [], "refused": [], "note": ""}
    changes = {"lowering": bare, "float_operators": {}}
    edit_manifest(tiny_bundle, lambda d: d["artifacts"][1].update(changes))

    lines = block(run_cli("inspect", tiny_bundle).out, "decoder.float32.onnx")

    assert lines[2:] == [
        "in float none",
        "precision nothing is quantized",
        "target none: the graph is as the converter made it",
        "rewritten nothing",
    ]


def test_table_gives_parity_size_latency_and_times(run_cli, tiny_bundle):
    row = next(
        line
        for line in run_cli("inspect", tiny_bundle).out.splitlines()
        if line.split()[:3] == ["encoder", "onnx", "float32"]
    )
    size = (tiny_bundle / "encoder.float32.onnx").stat().st_size

    assert row.split()[3:] == [
        "passed",
        f"{size / 1000:.1f}",
        "KB",
        "exact",
        "12.5",
        "us",
        "8.25x",
        "-",
    ]


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"parity": None, "latency": None}, ["-", "-", "-", "-", "-"]),
        (
            {
                "parity": {
                    "passed": False,
                    "samples": 5,
                    "runtime": "r",
                    "metrics": [
                        {
                            "output": output,
                            "metric": "psnr_db",
                            "value": value,
                            "limit": 100.0,
                            "passed": False,
                            "margin": 0.5,
                            "tightest": value,
                        }
                        for output, value in (("z_mean", 40.06), ("z_log_var", 31.0))
                    ],
                },
                "latency": None,
            },
            ["FAILED", "31.0", "dB", "-", "-", "-"],
        ),
    ],
)
def test_table_says_what_failed_and_what_was_not_measured(
    run_cli, tiny_bundle, edit_manifest, changes, shown
):
    edit_manifest(tiny_bundle, lambda d: d["artifacts"][0].update(changes))

    row = next(
        line
        for line in run_cli("inspect", tiny_bundle).out.splitlines()
        if line.split()[:3] == ["encoder", "onnx", "float32"]
    )
    words = row.split()[3:]

    assert [w for i, w in enumerate(words) if i not in (1, 2)] == shown


def test_json_of_a_bundle_is_its_manifest(run_cli, tiny_bundle):
    ran = run_cli("inspect", tiny_bundle, "--json")

    assert read_manifest(ran.out, "stdout") == read_manifest(
        (tiny_bundle / "manifest.json").read_text(), "file"
    )


def test_bundle_without_calibration_says_nothing_of_it(run_cli, tiny_bundle, edit_manifest):
    edit_manifest(tiny_bundle, lambda d: d.update(calibration=None))

    assert "Calibration" not in run_cli("inspect", tiny_bundle).out


@pytest.mark.parametrize("name", ["[red]evil[/blue]", "[/]", "a[b]c", ":smile:"])
def test_names_in_a_manifest_are_not_taken_for_markup(run_cli, tiny_bundle, edit_manifest, name):
    def rename(document):
        document["model"]["name"] = name
        document["golden"]["source"] = document["calibration"]["source"] = name
        document["tools"] = {name: name}
        for record in document["artifacts"]:
            record["operators"] = record["float_operators"] = {name: 1}
            record["lowering"]["note"] = name
            record["lowering"]["applied"] = [{"name": name, "layers": [name]}]
            record["lowering"]["refused"] = [{"name": name, "layer": name, "reason": name}]
            record["quantization"]["note"] = name
            record["latency"]["machine"] = name
            record["oldest_runtime"]["name"] = name

    edit_manifest(tiny_bundle, rename)
    ran = run_cli("inspect", tiny_bundle)

    assert ran.code == 0
    assert ran.out.count(name) >= 10


def test_artifact_is_shown_with_its_tensors(run_cli, tiny_bundle):
    ran = run_cli("inspect", tiny_bundle / "encoder.float32.onnx")

    assert ran.code == 0
    rows = [line.split() for line in ran.out.splitlines()]
    assert ["image", "input", "float32", "(1,", "4,", "4,", "1)", "-", "-"] in rows
    assert ["z_log_var", "output", "float32", "(1,", "2)", "-", "-"] in rows
    assert "loaded by onnxruntime" in ran.out


def test_quantized_boundary_is_shown_with_its_scale(run_cli, make_tflite, tmp_path):
    import numpy as np

    (tmp_path / "a.tflite").write_bytes(
        make_tflite(
            {
                "z": ((1, 4), "int8", 0.5, -3),
                "out": ((4, 1), "int8", 0.5, -3),
                "shape": np.array([4, 1], np.int32),
            },
            [("RESHAPE", ["z", "shape"], ["out"])],
            {"run": ({"z": "z"}, {"reconstruction": "out"})},
        )
    )

    rows = [line.split() for line in run_cli("inspect", tmp_path / "a.tflite").out.splitlines()]

    assert ["z", "input", "int8", "(1,", "4)", "0.5", "-3"] in rows


def test_json_of_an_artifact_lists_its_tensors(run_cli, tiny_bundle):
    path = tiny_bundle / "decoder.float32.onnx"

    result = json.loads(run_cli("inspect", path, "--json").out)

    assert result["file"] == "decoder.float32.onnx"
    assert result["size_bytes"] == path.stat().st_size
    assert result["runtime"].startswith("onnxruntime ")
    assert result["inputs"] == [
        {"name": "z", "shape": [1, 2], "dtype": "float32", "scale": None, "zero_point": None}
    ]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone.onnx", "gone.onnx: cannot be read: No such file"),
        ("gone", "not an artifact; expected a file ending in .tflite, .onnx"),
        ("manifest.json", "not an artifact; expected a file ending in"),
    ],
)
def test_path_that_is_neither_is_refused(run_cli, tiny_bundle, name, message):
    assert message in run_cli("inspect", tiny_bundle / name).error


def test_directory_that_is_no_bundle_is_refused(run_cli, tmp_path):
    assert "so it is not a bundle" in run_cli("inspect", tmp_path).error


def test_damaged_bundle_is_refused(run_cli, tiny_bundle):
    (tiny_bundle / "golden.npz").write_bytes(b"")

    assert "golden.npz: has 0 bytes" in run_cli("inspect", tiny_bundle).error


def test_damaged_artifact_is_refused(run_cli, tmp_path):
    for name in ("a.onnx", "a.tflite"):
        (tmp_path / name).write_bytes(b"damaged")

        assert f"{name}: " in run_cli("inspect", tmp_path / name).error
