"""`info`: properties of a board, read from /proc and /sys below a root."""

import json
import os
import platform
import shutil
import subprocess

import pytest

PI = {
    "/proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0",
    "/proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd evtstrm crc32 cpuid\nCPU implementer\t: 0x41\nCPU part\t: 0xd08\n",
    "/proc/meminfo": "MemTotal:        3884336 kB\nMemFree: 1 kB\nMemAvailable:    3400000 kB\n",
    "/proc/loadavg": "0.25 0.10 0.05 1/200 4242\n",
    "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand\n",
    "/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "600000\n",
    "/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": "1800000\n",
    "/sys/devices/system/cpu/cpu1/cpufreq/scaling_governor": "ondemand\n",
    "/sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "1800000\n",
    "/sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",
    "/sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "/sys/class/thermal/thermal_zone0/temp": "82277\n",
    "/sys/class/hwmon/hwmon0/name": "cpu_thermal\n",
    "/sys/class/hwmon/hwmon1/name": "rpi_volt\n",
    "/sys/class/hwmon/hwmon1/in0_lcrit_alarm": "1\n",
}
JETSON = {
    "/proc/device-tree/model": "NVIDIA Jetson AGX Orin Developer Kit\0",
    "/etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081\n# more\n",
    "/proc/cpuinfo": "CPU implementer\t: 0x41\nCPU part\t: 0xd42\n\nCPU implementer\t: 0x41\nCPU part\t: 0xd42\n",
    "/usr/local/cuda-12.6/lib64/libcudart.so.12": "",
    "/sys/class/thermal/cooling_device0/type": "pwm-fan\n",
    "/sys/class/thermal/cooling_device0/cur_state": "3\n",
    "/sys/class/thermal/cooling_device1/type": "cpufreq-cpu0\n",
    "/sys/class/thermal/cooling_device1/cur_state": "2\n",
    "/sys/class/thermal/thermal_zone0/type": "cv0-thermal\n",  # sleeps: it has no temperature to read
    "/var/lib/nvpmodel/status": "pmode:0002\n",
    "/etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=MAXN >\nCPU_ONLINE CORE_0 1\n< POWER_MODEL ID=2 NAME=MODE_30W >\n",
    "/sys/class/devfreq/17000000.gpu/governor": "nvhost_podgov\n",
    "/sys/class/devfreq/17000000.gpu/cur_freq": "306000000\n",
    "/sys/class/devfreq/17000000.gpu/max_freq": "612000000\n",
    "/sys/class/devfreq/15340000.vic/cur_freq": "115200000\n",  # not the GPU
    "/sys/class/hwmon/hwmon0/name": "pwmfan\n",
    "/sys/class/hwmon/hwmon1/name": "ina3221\n",
    "/sys/class/hwmon/hwmon1/in1_label": "VDD_GPU_SOC\n",
    "/sys/class/hwmon/hwmon1/in1_input": "19000\n",
    "/sys/class/hwmon/hwmon1/curr1_input": "160\n",
    "/sys/class/hwmon/hwmon1/in2_label": "NC\n",  # not connected
    "/sys/class/hwmon/hwmon1/in2_input": "0\n",
    "/sys/class/hwmon/hwmon1/curr2_input": "0\n",
    "/sys/class/hwmon/hwmon1/in7_label": "sum of shunt voltages\n",
    "/sys/class/hwmon/hwmon2/name": "ina238\n",
    "/sys/class/hwmon/hwmon2/label": "VIN\n",
    "/sys/class/hwmon/hwmon2/power1_input": "16802000\n",
}


def plant(root, files):
    for path, text in files.items():
        target = root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    return root


def probe(bundle, *words):
    done = bundle.run("info", *words)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_this_machine(bundle, tmp_path):
    told = probe(bundle, "--work-dir", tmp_path)
    assert told["protocol"] == 1
    assert told["arch"] == platform.machine()
    assert told["libc"] == " ".join(platform.libc_ver())
    assert told["kernel"] == platform.release()
    assert told["emulation"] is None
    assert {"avx2", "fma"} <= set(told["features"])
    assert told["memory_total_kib"] > told["memory_available_kib"] > 0
    assert told["disk"]["free_bytes"] > 0
    assert told["cuda"]["driver"] is False


def test_a_raspberry_pi_that_throttles(bundle, tmp_path):
    told = probe(bundle, "--root", plant(tmp_path, PI))
    assert told["board"] == "Raspberry Pi 4 Model B Rev 1.4"
    assert told["cpu"] == "Cortex-A72"
    assert told["features"] == ["fp", "asimd", "evtstrm", "crc32", "cpuid"]
    assert (told["memory_total_kib"], told["memory_available_kib"]) == (3884336, 3400000)
    state = told["state"]
    assert state["governor"] == ["ondemand", "ondemand"]
    assert state["frequency_khz"] == [600000, 1800000]
    assert state["temperature"] == [{"zone": "cpu-thermal", "celsius": 82.277}]
    assert state["throttling"] == {"raspberry_pi_flags": 0x50005, "undervoltage": True, "events": 0}
    assert state["load_1min"] == pytest.approx(0.25)


def test_a_jetson_with_its_cuda(bundle, tmp_path):
    told = probe(bundle, "--root", plant(tmp_path, JETSON))
    assert told["cpu"] == "Cortex-A78AE"
    assert told["cuda"]["l4t"] == "# R36 (release), REVISION: 4.3, GCID: 38968081"
    assert told["cuda"]["runtimes"] == ["/usr/local/cuda-12.6/lib64/libcudart.so.12"]
    assert told["state"]["throttling"]["cooling"] == ["cpufreq-cpu0"]  # the fan is no throttling
    assert told["state"]["temperature"] == []
    assert told["state"]["power_mode"] == "MODE_30W"
    assert told["state"]["power"] == [
        {"rail": "VDD_GPU_SOC", "milliwatts": 3040},
        {"rail": "VIN", "milliwatts": 16802},
    ]
    gpu = {"name": "17000000.gpu", "governor": "nvhost_podgov"}
    assert told["state"]["gpu"] == [{**gpu, "frequency_khz": 306000, "frequency_max_khz": 612000}]


def test_the_device_tree_is_also_read_below_sys(bundle, tmp_path):
    model = {"/sys/firmware/devicetree/base/model": "NVIDIA Jetson AGX Thor Developer Kit\0"}
    told = probe(bundle, "--root", plant(tmp_path, model))
    assert told["board"] == "NVIDIA Jetson AGX Thor Developer Kit"
    assert (told["state"]["power_mode"], told["state"]["power"], told["state"]["gpu"]) == (None, [], [])


def test_a_board_without_state_files(bundle, tmp_path):
    told = probe(bundle, "--root", tmp_path, "--work-dir", tmp_path / "nowhere")
    assert (told["board"], told["cpu"], told["features"]) == (None, None, [])
    assert told["disk"]["free_bytes"] is None
    assert told["state"]["load_1min"] is None


def test_a_board_without_the_runtime_is_probed_all_the_same(bundle, tmp_path):
    (tmp_path / "bin").mkdir()
    shutil.copy(bundle.agent, tmp_path / "bin/agent")
    done = subprocess.run([tmp_path / "bin/agent", "info"], capture_output=True, check=True)
    told = json.loads(done.stdout)["runtime"]
    assert told["tvm_ffi"] is None
    assert "libtvm_ffi.so" in told["error"]


def test_emulation_is_seen(arm_bundle):
    told = probe(arm_bundle)
    assert (told["arch"], told["emulation"]) == ("aarch64", "qemu-user")
    assert "asimd" in told["features"]
    assert told["cpu"] is None  # /proc/cpuinfo is the host's


def test_a_root_of_any_length_is_read_or_refused_but_never_overrun(sanitized, tmp_path):
    """Paths below the root are built in buffers of a fixed size."""
    plant(tmp_path, PI | JETSON)
    for length in (0, 400, 440, 460, 480, 500, 512, 600, 3071, 3072, 3073, 3500, 3584, 4096, 100_000):
        root = str(tmp_path).ljust(length, "/")
        done = subprocess.run([sanitized, "info", "--root", root], capture_output=True, check=False)
        assert done.returncode == (0 if length <= 3072 else 2), done.stderr.decode()
        told = json.loads(done.stdout)
        if length <= 3072:
            assert told["cuda"]["runtimes"] == ["/usr/local/cuda-12.6/lib64/libcudart.so.12"]
            assert told["state"]["governor"] == ["ondemand", "ondemand"]


def test_a_fifo_among_the_kernels_files_does_not_block(bundle, tmp_path):
    for path in PI | JETSON:
        target = tmp_path / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(target)
    told = json.loads(bundle.run("info", "--root", tmp_path, timeout=20).stdout)
    assert (told["board"], told["cpu"]) == (None, None)


def test_absurd_figures_of_a_board_are_left_out_or_bounded(sanitized, tmp_path):
    most = str(2**63 - 1)
    files = {path: most if text.strip().isdigit() else text for path, text in (PI | JETSON).items()}
    for core in (0, 1):
        files[f"/sys/devices/system/cpu/cpu{core}/thermal_throttle/core_throttle_count"] = most
    done = subprocess.run(
        [sanitized, "info", "--root", plant(tmp_path, files)], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout)["state"]["throttling"]["events"] == 2**63 - 1
