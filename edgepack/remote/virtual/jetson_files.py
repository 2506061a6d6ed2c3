"""The files of a virtual Jetson: its release, device tree, sensors, clocks, tools and CUDA libraries."""

import shutil
from pathlib import Path

from edgepack.remote.virtual.jetsons import NVPMODEL, TEGRASTATS, Jetson

DRIVER = "usr/lib/aarch64-linux-gnu/nvidia"
# Folders that are shown whole; of the others, each file.
_WHOLE = ("sys", "var/lib/nvpmodel", DRIVER)


def write(tree: Path, jetson: Jetson, libraries: Path, cores: int) -> dict[str, str]:
    """Write the board's files below ``tree``; returns where the board shows what: path on the board, source.

    Args:
        tree: Folder that is replaced.
        jetson: The board.
        libraries: Folder with the driver (``libcuda.so.1``, unless it is missing) and the CUDA runtime.
        cores: Number of CPU cores that the board has.
    """
    shutil.rmtree(tree, ignore_errors=True)
    for path, text in (_system(jetson) | _clocks(jetson, cores) | _sensors(jetson)).items():
        file = tree / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    for tool in ("usr/sbin/nvpmodel", "usr/bin/tegrastats"):
        (tree / tool).chmod(0o755)
    cuda = f"usr/local/cuda-{jetson.cuda}"
    _libraries(tree, jetson, libraries, cuda)
    whole = [*_WHOLE, cuda]
    files = (path.relative_to(tree) for path in sorted(tree.rglob("*")) if path.is_file())
    shown = [*whole, *(str(file) for file in files if not any(file.is_relative_to(top) for top in whole))]
    sources = {f"/{path}": str(tree / path) for path in shown}
    return sources | {"/usr/local/cuda": str(tree / cuda)}


def _system(jetson: Jetson) -> dict[str, str]:
    tree = "sys/firmware/devicetree/base"
    modes = (f"< POWER_MODEL ID={number} NAME={name} >" for number, name in enumerate(jetson.modes))
    tegrastats = TEGRASTATS.replace("@VALUES@", str(jetson.tegrastats_values))
    return {
        "etc/nv_tegra_release": f"{jetson.l4t}\n# KERNEL_VARIANT: oot\n"
        f"TARGET_USERSPACE_LIB_DIR=nvidia\nTARGET_USERSPACE_LIB_DIR_PATH={DRIVER}\n",
        f"{tree}/model": f"{jetson.model}\0",
        f"{tree}/compatible": "".join(f"{name}\0" for name in jetson.compatible),
        "etc/nvpmodel.conf": "\n".join((*modes, f"< PM_CONFIG DEFAULT={jetson.mode} >")) + "\n",
        "var/lib/nvpmodel/status": f"pmode:{jetson.mode:04}\n",
        "usr/sbin/nvpmodel": NVPMODEL,
        "usr/bin/tegrastats": tegrastats.replace("@GPU@", jetson.tegrastats_gpu),
        "etc/ld.so.conf.d/nvidia-tegra.conf": f"/{DRIVER}\n",
        "etc/ld.so.conf.d/000_cuda.conf": f"/usr/local/cuda-{jetson.cuda}/targets/{jetson.cuda_target}/lib\n",
    }


def _clocks(jetson: Jetson, cores: int) -> dict[str, str]:
    files: dict[str, str] = {}
    least, now, most = jetson.cpu_khz
    for core in range(cores):
        folder = f"sys/devices/system/cpu/cpu{core}/cpufreq"
        figures = {
            "scaling_governor": jetson.governor,
            "scaling_cur_freq": now,
            "scaling_min_freq": least,
            "scaling_max_freq": most,
            "cpuinfo_max_freq": most,
        }
        files |= {f"{folder}/{name}": f"{value}\n" for name, value in figures.items()}
    least, now, most = (khz * 1000 for khz in jetson.gpu_khz)
    folder = f"sys/class/devfreq/{jetson.devfreq}"
    figures = {"governor": "nvhost_podgov", "cur_freq": now, "min_freq": least, "max_freq": most}
    files |= {f"{folder}/{name}": f"{value}\n" for name, value in figures.items()}
    return files


def _sensors(jetson: Jetson) -> dict[str, str]:
    files: dict[str, str] = {}
    for number, name, temperature in jetson.zones:
        folder = f"sys/class/thermal/thermal_zone{number}"
        files |= {f"{folder}/type": f"{name}\n", f"{folder}/temp": f"{temperature}\n"}
    for number, cooling in enumerate(("pwm-fan", "cpufreq-cpu0")):
        folder = f"sys/class/thermal/cooling_device{number}"
        files |= {f"{folder}/type": f"{cooling}\n", f"{folder}/cur_state": "0\n"}
    monitor = "sys/class/hwmon/hwmon1"
    files[f"{monitor}/name"] = "ina3221\n"
    for number, rail in enumerate(jetson.rails, 1):
        files[f"{monitor}/in{number}_label"] = f"{rail.label}\n"
        files[f"{monitor}/in{number}_input"] = f"{rail.millivolts}\n"
        files[f"{monitor}/curr{number}_input"] = f"{rail.milliamperes}\n"
    # As the driver has it: the sum of the shunt voltages, in mV, which has no current of its own.
    files |= {f"{monitor}/in7_label": "sum of shunt voltages\n", f"{monitor}/in7_input": "5\n"}
    if (supply := jetson.input_rail) is not None:
        monitor = "sys/class/hwmon/hwmon2"
        files |= {
            f"{monitor}/name": "ina238\n",
            f"{monitor}/label": f"{supply.label}\n",
            f"{monitor}/in1_input": f"{supply.millivolts}\n",
            f"{monitor}/curr1_input": f"{supply.milliamperes}\n",
            f"{monitor}/power1_input": f"{supply.millivolts * supply.milliamperes}\n",  # microwatts
        }
    return files


def _libraries(tree: Path, jetson: Jetson, libraries: Path, cuda: str) -> None:
    (tree / DRIVER).mkdir(parents=True)
    folder = tree / cuda / "targets" / jetson.cuda_target / "lib"
    folder.mkdir(parents=True)
    (tree / cuda / "lib64").symlink_to(f"targets/{jetson.cuda_target}/lib")
    for library in libraries.iterdir():
        shutil.copy(
            library, (tree / DRIVER if library.name.startswith("libcuda.") else folder) / library.name
        )
