from __future__ import annotations

import dataclasses

import pytest

from vae_edge import doctor
from vae_edge.doctor import Status, examine, is_fit
from vae_edge.machine import HOST_PACKAGES, Libc, Machine

DEVICE = {"numpy": "2.4.0", "pillow": "12.0", "ai-edge-litert": "2.3.0", "onnxruntime": "1.30.0"}
EVERYTHING = {**DEVICE, **dict.fromkeys(HOST_PACKAGES, "1.2.3")}
BOUNDS = {"numpy": "1.26.4", "pillow": "11", "ai-edge-litert": "1.1.2", "onnxruntime": "1.19"}
# Raspberry Pi OS (64-bit), bookworm, in a virtual environment that is activated.
PI = Machine(
    python=(3, 11, 2),
    executable="/home/pi/vae/bin/python",
    system="Linux",
    architecture="aarch64",
    bits=64,
    libc=Libc(name="glibc", version=(2, 36)),
    installed=EVERYTHING,
    lower_bounds=BOUNDS,
    package_manager="apt-get",
    memory_bytes=4_000_000_000,
)
PI_32 = dataclasses.replace(PI, architecture="armv7l", bits=32)
PI_SYSTEM = dataclasses.replace(
    PI,
    executable="/usr/bin/python3",
    in_environment=False,
    externally_managed=True,
    pip_on_path=True,
)
ALPINE = dataclasses.replace(
    PI, architecture="x86_64", libc=Libc(name="musl"), package_manager="apk"
)
TFLITE = {"numpy": "1.26.4", "pillow": "12.0", "tflite-runtime": "2.14.0"}
CLASH = {"tflite-runtime": "AttributeError: _ARRAY_API not found"}


def without(*packages, of=EVERYTHING):
    return {name: version for name, version in of.items() if name not in packages}


def examined(machine=PI, **changes):
    findings = examine(dataclasses.replace(machine, **changes))
    by_name = {finding.what: finding for finding in findings}
    assert len(by_name) == len(findings)
    return by_name


def fit(machine=PI, **changes):
    return is_fit(examine(dataclasses.replace(machine, **changes)))


def test_whole_machine_lacks_nothing():
    findings = examined()

    assert {f.status for f in findings.values()} == {Status.OK}
    assert {f.remedy for f in findings.values()} == {None}
    assert list(findings) == [
        "Python",
        "processor",
        "C library",
        "memory",
        "numpy",
        "pillow",
        "ai-edge-litert",
        "onnxruntime",
        "host packages",
    ]
    assert fit()


def test_details_are_the_versions():
    findings = examined()

    assert findings["Python"].detail == "3.11.2"
    assert findings["processor"].detail == "aarch64, 64-bit Python, Linux"
    assert findings["C library"].detail == "glibc 2.36"
    assert findings["memory"].detail == "4,000 MB"
    assert findings["numpy"].detail == "2.4.0"
    assert findings["onnxruntime"].detail == "1.30.0"
    assert findings["host packages"].detail.startswith("tensorflow 1.2.3, keras 1.2.3, ")


@pytest.mark.parametrize(
    ("python", "detail"),
    [
        ((3, 9, 2), "3.9.2: too old"),
        ((3, 10, 0), "3.10.0"),
        ((3, 13, 5), "3.13.5"),
        ((3, 14, 0), "3.14.0: too new"),
    ],
)
def test_python_outside_the_supported_range_is_broken(python, detail):
    finding = examined(python=python, installed={})["Python"]

    assert finding.detail == detail
    assert finding.status is (Status.BROKEN if "too" in detail else Status.OK)
    assert not fit(python=(3, 14, 0))


def test_wrong_python_comes_with_the_newest_right_one_on_the_path():
    make = "{} -m venv ~/vae-edge && ~/vae-edge/bin/pip install vae-edge"

    def remedy(*others):
        return examined(python=(3, 14, 0), other_pythons=others)["Python"].remedy

    assert remedy("python3.12", "python3.10") == make.format("python3.12")
    assert remedy() == "install Python 3.10 to 3.13, then: " + make.format("python3.13")


def test_runtimes_have_no_wheel_for_a_python_that_is_too_new():
    finding = examined(python=(3, 14, 0), installed={}, other_pythons=("python3.13",))

    assert finding["ai-edge-litert"].detail == "has wheels for Python 3.10 to 3.13 only"
    assert finding["onnxruntime"].remedy.startswith("python3.13 -m venv")


@pytest.mark.parametrize("package", ["ai-edge-litert", "onnxruntime", "numpy", "pillow"])
def test_missing_package_comes_with_its_command(package):
    finding = examined(installed=without(package))[package]

    assert finding.status is Status.MISSING
    assert finding.detail == "not installed"
    assert finding.remedy == f"pip install {package}"


@pytest.mark.parametrize(
    ("lacking", "expected"),
    [
        (("onnxruntime",), True),
        (("ai-edge-litert",), True),
        (("ai-edge-litert", "onnxruntime"), False),
        (("numpy",), False),
        (("pillow",), False),
        (HOST_PACKAGES, True),
    ],
)
def test_one_runtime_is_enough(lacking, expected):
    assert fit(installed=without(*lacking)) is expected


def test_missing_host_packages_are_optional():
    finding = examined(installed={**DEVICE, "onnx": "1.17"})["host packages"]

    assert finding.status is Status.OPTIONAL
    assert finding.detail == (
        "onnx 1.17; not installed: tensorflow, keras, tf2onnx, scikit-learn, matplotlib"
    )
    assert finding.remedy == "pip install 'vae-edge[host]'"


class TestCommandForThisMachine:
    def remedy(self, **changes):
        return examined(installed=without("onnxruntime"), **changes)["onnxruntime"].remedy

    def test_pip_of_the_interpreter_where_the_shell_has_another(self):
        assert self.remedy(pip_on_path=False) == (
            "/home/pi/vae/bin/python -m pip install onnxruntime"
        )

    def test_path_with_a_blank_is_quoted(self):
        assert self.remedy(pip_on_path=False, executable="/my env/python") == (
            "'/my env/python' -m pip install onnxruntime"
        )

    def test_environment_without_pip_gets_it_first(self):
        python = "/home/pi/vae/bin/python"
        assert self.remedy(pip=False) == (
            f"{python} -m ensurepip && {python} -m pip install onnxruntime"
        )

    def test_python_of_the_system_gets_an_environment(self):
        """Its pip refuses to install anything: externally managed (PEP 668)."""
        assert self.remedy(**self.changes(PI_SYSTEM)) == (
            "/usr/bin/python3 -m venv ~/vae-edge && ~/vae-edge/bin/pip install vae-edge onnxruntime"
        )

    def test_environment_gets_vae_edge_from_where_this_one_came(self):
        changes = self.changes(PI_SYSTEM, source="/home/pi/my files/vae_edge.whl")
        assert self.remedy(**changes) == (
            "/usr/bin/python3 -m venv ~/vae-edge && "
            "~/vae-edge/bin/pip install '/home/pi/my files/vae_edge.whl' onnxruntime"
        )
        host = examined(installed=DEVICE, **changes)["host packages"].remedy
        assert host.endswith("pip install '/home/pi/my files/vae_edge.whl[host]'")

    def test_debian_without_venv_gets_that_first(self):
        changes = self.changes(PI_SYSTEM, ensurepip=False)
        assert self.remedy(**changes).startswith(
            "sudo apt-get install python3-venv && /usr/bin/python3 -m venv"
        )

    def test_environment_of_an_externally_managed_python_is_free(self):
        assert self.remedy(externally_managed=True) == "pip install onnxruntime"

    @staticmethod
    def changes(machine, **more):
        names = ("executable", "in_environment", "externally_managed")
        return {name: getattr(machine, name) for name in names} | more


class TestThirtyTwoBits:
    def test_old_python_can_use_tflite_runtime(self):
        findings = examined(PI_32, installed={})

        assert findings["processor"].status is Status.OPTIONAL
        assert findings["processor"].detail == (
            "armv7l, 32-bit Python, Linux: LiteRT and ONNX Runtime have no 32-bit wheels, "
            "but tflite-runtime has"
        )
        assert findings["ai-edge-litert"].detail == "has no 32-bit wheel"
        assert findings["ai-edge-litert"].remedy == "pip install tflite-runtime 'numpy<2'"
        assert findings["onnxruntime"].remedy.startswith("install a 64-bit system")

    def test_runs_with_tflite_runtime(self):
        finding = examined(PI_32, installed=TFLITE)["ai-edge-litert"]

        assert finding.status is Status.OPTIONAL
        assert finding.detail == "has no 32-bit wheel; tflite-runtime 2.14.0 serves instead"
        assert finding.remedy is None
        assert fit(PI_32, installed=TFLITE)

    def test_new_python_has_no_runtime(self):
        findings = examined(PI_32, python=(3, 13, 5), installed={})

        assert findings["processor"].status is Status.BROKEN
        assert findings["processor"].remedy == (
            "install a 64-bit system (on a Raspberry Pi: Raspberry Pi OS (64-bit)), or with Python "
            "3.10 or 3.11: python3.11 -m venv ~/vae-edge && ~/vae-edge/bin/pip install vae-edge "
            "tflite-runtime 'numpy<2'"
        )
        assert "tflite-runtime" not in findings["ai-edge-litert"].remedy

    def test_32_bit_system_on_a_64_bit_kernel_is_recognised(self):
        """The machine calls itself aarch64, and what is in the package index for that fails."""
        changes = self.mixed(installed={})
        findings = examined(PI, **changes)

        assert findings["processor"].detail.startswith(
            "aarch64, 32-bit Python, Linux on a 64-bit kernel: LiteRT and ONNX Runtime have no"
        )
        assert findings["ai-edge-litert"].remedy == "pip install tflite-runtime 'numpy<2'"
        assert findings["onnxruntime"].remedy.startswith("install a 64-bit system")

    def test_environment_there_is_made_without_what_the_kernels_name_would_demand(self):
        changes = self.mixed(installed={}, in_environment=False, externally_managed=True)

        assert examined(PI, **changes)["ai-edge-litert"].remedy == (
            "/home/pi/vae/bin/python -m venv ~/vae-edge && "
            "~/vae-edge/bin/pip install --no-deps vae-edge && "
            "~/vae-edge/bin/pip install typer rich pillow tflite-runtime 'numpy<2'"
        )

    def test_processor_of_the_first_pis_has_no_runtime(self):
        finding = examined(PI_32, architecture="armv6l", installed={})["processor"]

        assert finding.status is Status.BROKEN
        assert "tflite-runtime" not in finding.remedy

    @staticmethod
    def mixed(**more):
        return {"architecture": "aarch64", "bits": 32} | more


class TestTfliteRuntime:
    def test_with_numpy_2_is_broken(self):
        installed = {**TFLITE, "numpy": "2.0.0"}
        findings = examined(installed=installed, failures=CLASH)

        assert findings["numpy"].status is Status.BROKEN
        assert findings["numpy"].detail == "2.0.0: tflite-runtime was built for numpy 1"
        assert findings["numpy"].remedy == "pip install 'numpy<2'"
        assert findings["ai-edge-litert"].status is Status.MISSING
        assert not fit(installed=installed, failures=CLASH)

    def test_with_numpy_2_does_no_harm_beside_litert(self):
        installed = {**EVERYTHING, "tflite-runtime": "2.14.0"}
        findings = examined(installed=installed, failures=CLASH)

        assert findings["numpy"].status is Status.OPTIONAL
        assert findings["numpy"].remedy == "pip uninstall tflite-runtime"
        assert findings["tflite-runtime"].status is Status.OPTIONAL
        assert fit(installed=installed, failures=CLASH)

    def test_with_numpy_1_is_well_and_serves_for_litert(self):
        findings = examined(installed=TFLITE)

        assert findings["numpy"].status is Status.OK
        assert findings["ai-edge-litert"].status is Status.OPTIONAL
        assert findings["ai-edge-litert"].detail == (
            "not installed; tflite-runtime 2.14.0 serves instead"
        )
        assert findings["ai-edge-litert"].remedy == "pip install ai-edge-litert"
        assert findings["onnxruntime"].status is Status.MISSING

    def test_on_a_new_python_is_broken(self):
        findings = examined(python=(3, 12, 1), installed=TFLITE, failures=CLASH)

        finding = findings["tflite-runtime"]
        assert finding.status is Status.BROKEN
        assert finding.detail.endswith("; it has wheels for Python 3.10 and 3.11 only")
        assert finding.remedy == "pip install ai-edge-litert"


class TestCLibrary:
    def test_musl_has_no_wheels(self):
        findings = examined(ALPINE, installed=without("ai-edge-litert", "onnxruntime"))

        assert findings["C library"].status is Status.BROKEN
        assert findings["C library"].remedy.startswith("use a system with glibc")
        assert findings["onnxruntime"].detail == "has no wheel for musl (Alpine), only for glibc"
        assert "pip install" not in findings["onnxruntime"].remedy

    def test_musl_with_a_runtime_from_elsewhere_is_well(self):
        findings = examined(ALPINE, installed=without("ai-edge-litert"))

        assert findings["C library"].status is Status.OPTIONAL
        assert fit(ALPINE, installed=without("ai-edge-litert"))

    @pytest.mark.parametrize(
        ("glibc", "litert", "onnxruntime"),
        [
            ((2, 36), "pip install ai-edge-litert", "pip install onnxruntime"),
            ((2, 27), "pip install ai-edge-litert", "pip install onnxruntime"),
            (
                (2, 26),
                "pip install 'ai-edge-litert<2'",
                "use the .tflite artifacts, with: pip install 'ai-edge-litert<2'",
            ),
        ],
    )
    def test_old_glibc_gets_what_was_built_for_it(self, glibc, litert, onnxruntime):
        findings = examined(installed={}, libc=Libc(name="glibc", version=glibc))

        assert findings["ai-edge-litert"].remedy == litert
        assert findings["onnxruntime"].remedy == onnxruntime

    def test_glibc_too_old_for_everything_is_broken(self):
        libc = Libc(name="glibc", version=(2, 12))
        findings = examined(installed={}, libc=libc)

        assert findings["C library"].status is Status.BROKEN
        assert findings["C library"].detail == (
            "glibc 2.12: ai-edge-litert needs glibc 2.17 or newer; here is glibc 2.12; "
            "onnxruntime needs glibc 2.27 or newer; here is glibc 2.12"
        )
        assert not fit(installed={}, libc=libc)

    def test_other_systems_have_none_to_speak_of(self):
        mac = dataclasses.replace(PI, system="Darwin", architecture="arm64", libc=Libc(name=""))
        findings = examined(mac, installed={})

        assert "C library" not in findings
        assert findings["ai-edge-litert"].remedy == "pip install ai-edge-litert"


def test_processor_that_no_wheel_is_for_is_broken():
    findings = examined(architecture="riscv64", installed={})

    assert findings["processor"].status is Status.BROKEN
    assert findings["onnxruntime"].detail == "has no wheel for riscv64"
    assert "pip install" not in findings["onnxruntime"].remedy


class TestWhatCannotBeImported:
    def finding(self, reason, package="onnxruntime", **changes):
        return examined(failures={package: reason}, **changes)[package]

    def test_is_broken_and_installed_anew(self):
        finding = self.finding("ImportError: half of it is gone")

        assert finding.status is Status.BROKEN
        assert finding.detail == "1.30.0 cannot be imported: ImportError: half of it is gone"
        assert finding.remedy == "pip install --force-reinstall onnxruntime"

    @pytest.mark.parametrize(
        ("manager", "library", "remedy"),
        [
            ("apt-get", "libstdc++.so.6", "sudo apt-get install libstdc++6"),
            ("apt-get", "libgomp.so.1", "sudo apt-get install libgomp1"),
            ("dnf", "libgomp.so.1", "sudo dnf install libgomp"),
            ("apt-get", "libnever-heard-of.so.3", "install libnever-heard-of"),
        ],
    )
    def test_missing_library_is_the_systems(self, manager, library, remedy):
        reason = f"ImportError: {library}: cannot open shared object file: No such file"

        assert self.finding(reason, package_manager=manager).remedy == remedy

    def test_processor_that_lacks_instructions_gets_an_older_release(self):
        finding = self.finding("importing it ended the process (SIGILL)")

        assert finding.status is Status.BROKEN
        assert finding.remedy.endswith(": pip install 'onnxruntime<1.30.0'")

    def test_older_libstdcxx_gets_an_older_release(self):
        reason = "/lib/libstdc++.so.6: version `GLIBCXX_3.4.32' not found"

        assert self.finding(reason).remedy == (
            "the system's libstdc++ is too old for it. An older release: "
            "pip install 'onnxruntime<1.30.0'"
        )

    def test_package_that_was_built_for_numpy_1_is_upgraded(self):
        finding = self.finding("A module that was compiled using NumPy 1.x cannot be run")

        assert finding.remedy == "pip install --upgrade onnxruntime"

    def test_one_broken_runtime_leaves_the_other(self):
        assert fit(failures={"onnxruntime": "gone"})
        assert not fit(failures={"onnxruntime": "gone", "ai-edge-litert": "gone"})
        assert not fit(failures={"numpy": "gone"})

    def test_tflite_runtime_serves_where_litert_cannot_be_imported(self):
        installed = {**DEVICE, "tflite-runtime": "2.14.0", "numpy": "1.26.4"}
        finding = examined(installed=installed, failures={"ai-edge-litert": "gone"})

        assert finding["ai-edge-litert"].status is Status.OPTIONAL
        assert finding["ai-edge-litert"].detail == (
            "cannot be imported (gone); tflite-runtime 2.14.0 serves instead"
        )


@pytest.mark.parametrize(
    ("version", "status"),
    [
        ("1.19.0", Status.OK),
        ("1.19", Status.OK),
        ("1.20.0rc1", Status.OK),
        ("2", Status.OK),
        ("1.18.9", Status.BROKEN),
        ("1.9.10", Status.BROKEN),
    ],
)
def test_package_older_than_the_lower_bound_is_broken(version, status):
    finding = examined(installed={**EVERYTHING, "onnxruntime": version})["onnxruntime"]

    assert finding.status is status
    if status is Status.BROKEN:
        assert finding.detail == f"{version}: older than 1.19, the oldest that is supported"
        assert finding.remedy == "pip install --upgrade onnxruntime"


@pytest.mark.parametrize(("megabytes", "status"), [(511, Status.OPTIONAL), (512, Status.OK)])
def test_little_memory_is_told(megabytes, status):
    assert examined(memory_bytes=megabytes * 1_000_000)["memory"].status is status
    assert fit(memory_bytes=megabytes * 1_000_000)


def test_unknown_memory_is_not_spoken_of():
    assert "memory" not in examined(memory_bytes=None)


def test_keras_on_another_backend_cannot_export():
    by_variable = examined(keras_backend="jax", keras_backend_from="KERAS_BACKEND")
    by_file = examined(keras_backend="torch", keras_backend_from="/root/.keras/keras.json")

    assert by_variable["Keras backend"].status is Status.BROKEN
    assert by_variable["Keras backend"].remedy == "export KERAS_BACKEND=tensorflow"
    assert by_file["Keras backend"].remedy == (
        """sed -i 's/"backend": *"torch"/"backend": "tensorflow"/' /root/.keras/keras.json"""
    )
    assert fit(keras_backend="jax", keras_backend_from="KERAS_BACKEND")
    assert "Keras backend" not in examined(
        installed=DEVICE, keras_backend="jax", keras_backend_from="KERAS_BACKEND"
    )


@pytest.mark.parametrize(
    ("changes", "package", "remedy"),
    [
        ({"installed": {}}, "onnxruntime", "pip install onnxruntime"),
        (
            {"installed": {}, "pip_on_path": False},
            "ai-edge-litert",
            "-m pip install ai-edge-litert",
        ),
        (
            {"installed": {}, "architecture": "armv7l", "bits": 32},
            "ai-edge-litert",
            "pip install tflite-runtime 'numpy<2'",
        ),
        ({}, "onnxruntime", "sudo apt-get install libgomp1"),
    ],
)
def test_runner_names_the_command_for_this_machine(monkeypatch, changes, package, remedy):
    machine = dataclasses.replace(PI, **changes)
    monkeypatch.setattr(doctor, "this_machine", lambda *, imports: machine)
    reason = "libgomp.so.1: cannot open shared object file"

    assert doctor.runtime_remedy(package, reason).endswith(remedy)
