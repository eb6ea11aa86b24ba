from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.environment import Environment, MachineState, read_environment, read_state

UNKNOWN = MachineState(
    governor=None, clock_mhz=None, temperature_c=None, load_average=None, throttled=None
)
X86_CPUINFO = """\
processor\t: 0
vendor_id\t: GenuineIntel
model\t\t: 167
model name\t: Some Xeon
cpu MHz\t\t: 2000.0

processor\t: 1
vendor_id\t: GenuineIntel
model\t\t: 167
model name\t: Some Xeon
cpu MHz\t\t: 3000.0
"""
PI_CPUINFO = """\
processor\t: 0
model name\t: ARMv7 Processor rev 3 (v7l)

Hardware\t: BCM2711
Model\t\t: Raspberry Pi 4 Model B Rev 1.4
"""


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture(autouse=True)
def _no_programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


def describe(root: Path) -> Environment:
    return read_environment(UNKNOWN, UNKNOWN, root)


def test_nothing_to_read_is_unknown_and_no_failure(tmp_path: Path) -> None:
    state = read_state(tmp_path)
    assert (state.governor, state.clock_mhz, state.temperature_c, state.throttled) == (None,) * 4
    assert describe(tmp_path).python


def test_nonsense_is_unknown_and_no_failure(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "proc/cpuinfo": "cpu MHz : fast\n::::\n\nModel",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "<unknown>",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "\n",
            "sys/class/thermal/thermal_zone0/temp": "hot",
            "sys/devices/platform/soc/soc:firmware/get_throttled": "perhaps",
        },
    )
    (tmp_path / "sys/class/thermal/thermal_zone1/temp").mkdir(parents=True)
    state = read_state(tmp_path)
    assert (state.governor, state.clock_mhz, state.temperature_c, state.throttled) == (None,) * 4


def test_a_load_average_that_the_system_does_not_give(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail() -> tuple[float, float, float]:
        raise OSError

    monkeypatch.setattr("os.getloadavg", fail)
    assert read_state(tmp_path).load_average is None


def test_x86_names_the_cpu_and_means_its_clocks(tmp_path: Path) -> None:
    write(tmp_path, {"proc/cpuinfo": X86_CPUINFO})
    assert describe(tmp_path).cpu_model == "Some Xeon"
    assert read_state(tmp_path).clock_mhz == 2500.0


def test_cpufreq_is_believed_before_cpuinfo(tmp_path: Path) -> None:
    cpu = "sys/devices/system/cpu"
    write(
        tmp_path,
        {
            "proc/cpuinfo": X86_CPUINFO,
            f"{cpu}/cpu0/cpufreq/scaling_cur_freq": "600000\n",
            f"{cpu}/cpu1/cpufreq/scaling_cur_freq": "1800000\n",
            f"{cpu}/cpu0/cpufreq/scaling_governor": "ondemand\n",
            f"{cpu}/cpu1/cpufreq/scaling_governor": "ondemand\n",
        },
    )
    state = read_state(tmp_path)
    assert state.clock_mhz == 1200.0
    assert state.governor == "ondemand"


def test_governors_that_differ_are_all_named(tmp_path: Path) -> None:
    for cpu, governor in (("cpu0", "powersave"), ("cpu1", "performance")):
        write(tmp_path, {f"sys/devices/system/cpu/{cpu}/cpufreq/scaling_governor": f"{governor}\n"})
    assert read_state(tmp_path).governor == "performance, powersave"


def test_a_board_is_named_before_its_core(tmp_path: Path) -> None:
    write(tmp_path, {"proc/cpuinfo": PI_CPUINFO})
    assert describe(tmp_path).cpu_model == "Raspberry Pi 4 Model B Rev 1.4"


def test_the_device_tree_names_a_board_that_cpuinfo_does_not(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "proc/cpuinfo": "processor\t: 0\nCPU part\t: 0xd0b\n",
            "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
        },
    )
    assert describe(tmp_path).cpu_model == "Raspberry Pi 5 Model B Rev 1.0"


def test_the_hottest_cpu_sensor_counts_and_a_battery_does_not(tmp_path: Path) -> None:
    zones = {"battery": "80000", "cpu-thermal": "51500", "x86_pkg_temp": "63000"}
    for index, (kind, temperature) in enumerate(zones.items()):
        zone = f"sys/class/thermal/thermal_zone{index}"
        write(tmp_path, {f"{zone}/type": f"{kind}\n", f"{zone}/temp": f"{temperature}\n"})
    assert read_state(tmp_path).temperature_c == 63.0


def test_a_lone_sensor_of_unknown_kind_is_better_than_none(tmp_path: Path) -> None:
    write(tmp_path, {"sys/class/thermal/thermal_zone0/temp": "40000\n"})
    assert read_state(tmp_path).temperature_c == 40.0


def test_throttling_from_sysfs(tmp_path: Path) -> None:
    # bits 0 and 2 now, 16 and 18 since boot
    write(tmp_path, {"sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n"})
    assert read_state(tmp_path).throttled == (
        "under-voltage now",
        "throttled now",
        "under-voltage since boot",
        "throttled since boot",
    )


def test_throttling_from_vcgencmd(tmp_path: Path) -> None:
    write(tmp_path, {"bin/vcgencmd": "#!/bin/sh\necho throttled=0x80000\n"})
    (tmp_path / "bin/vcgencmd").chmod(0o755)
    assert read_state(tmp_path).throttled == ("soft temperature limit since boot",)


def test_no_complaint_of_the_firmware_is_known_and_empty(tmp_path: Path) -> None:
    write(tmp_path, {"sys/devices/platform/soc/soc:firmware/get_throttled": "0\n"})
    assert read_state(tmp_path).throttled == ()


def test_a_vcgencmd_that_fails_is_unknown(tmp_path: Path) -> None:
    write(tmp_path, {"bin/vcgencmd": "#!/bin/sh\necho throttled=0x1\nexit 1\n"})
    (tmp_path / "bin/vcgencmd").chmod(0o755)
    assert read_state(tmp_path).throttled is None


def test_an_arm_system_on_an_x86_kernel_is_emulated(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    write(tmp_path, {"proc/cpuinfo": X86_CPUINFO})
    assert describe(tmp_path).emulated
    assert describe(tmp_path).machine.endswith("(emulated)")
    write(tmp_path, {"proc/cpuinfo": PI_CPUINFO})
    assert not describe(tmp_path).emulated


@pytest.mark.parametrize(
    "files",
    [
        {"proc/cpuinfo": "CPU part\t: 0xd0b\n\nModel\t\t: Raspberry Pi 5 (emulated)\n"},
        {"sys/devices/system/cpu/modalias": "cpu:type:x86,ven0000fam0006mod00CF:feature:,0000\n"},
        {"proc/self/status": "Name:\tpython3\nx86_Thread_features:\t\n"},
    ],
    ids=["description", "modalias", "status"],
)
def test_an_emulator_that_hides_the_cpu_is_seen_all_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, files: dict[str, str]
) -> None:
    write(tmp_path, files)
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert describe(tmp_path).emulated
    assert describe(tmp_path).machine.count("(emulated)") == 1
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert not describe(tmp_path).emulated


def test_an_arm_kernel_is_not_emulated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    write(tmp_path, {"sys/devices/system/cpu/modalias": "cpu:type:aarch64:feature:,0000,0001\n"})
    assert not describe(tmp_path).emulated


def test_the_machine_in_one_line() -> None:
    environment = Environment(
        cpu_model="Raspberry Pi 4",
        cores=4,
        architecture="aarch64",
        system="Linux 6.1",
        python="3.11.2",
        numpy="2.0",
        emulated=False,
        before=UNKNOWN,
        after=UNKNOWN,
    )
    assert environment.machine == "Raspberry Pi 4, 4 cores, Linux 6.1, aarch64"
