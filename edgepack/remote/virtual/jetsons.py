"""What boards of the Jetson family show of themselves, as recorded from real ones: facts only, each with its source."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Supply:
    """A supply rail of the power monitor."""

    label: str
    millivolts: int
    milliamperes: int


@dataclass(frozen=True)
class Jetson:
    """A board as programs on it see it. Frequencies in kHz, temperatures in millidegrees."""

    model: str  # device tree
    compatible: tuple[str, ...]
    l4t: str  # first line of /etc/nv_tegra_release
    cuda: str  # the version in the name of its folder
    cuda_target: str  # the folder of its libraries below targets/
    runtime: str  # file name of the CUDA runtime
    modes: tuple[str, ...]  # nvpmodel's power modes by number
    mode: int
    governor: str
    cpu_khz: tuple[int, int, int]  # least, current, most
    devfreq: str  # name of the GPU's devfreq device
    gpu_khz: tuple[int, int, int]
    zones: tuple[tuple[int, str, int], ...]  # number, name, temperature
    rails: tuple[Supply, ...]  # of an INA3221, in this order
    input_rail: Supply | None  # of an INA238 at the board's supply
    nodes: tuple[str, ...]  # in /dev
    tegrastats_gpu: str  # what tegrastats prints of the GPU's load
    tegrastats_values: int  # how many numbers tegrastats prints per rail: now, average, most


# Release and date: a log of an AGX Orin with JetPack 7.2 (L4T R39.2, CUDA 13.2), as collected by reproducibility
# records on GitHub; the lines after it are the same on R38. Model and compatible: Linux,
# arch/arm64/boot/dts/nvidia/tegra234-p3768-0000+p3767-0005.dts. Modes: /etc/nvpmodel.conf of Orin Nano Super kits,
# where 15W caps the GPU at 612 MHz and the cores at 1,497.6 MHz. jetson_clocks --show of such a kit: schedutil, at least
# 729.6 MHz. Rails: tegra234-p3767.dtsi, power-sensor@40. Zones by their number: the thermal zones of tegra234, without
# those of the vision cluster (cv0 to cv2, 2 to 4), which cannot be read while it is off. Values: tegrastats of idle
# Orin Nano kits (it prints the product of voltage and current). GPU: /sys/class/devfreq/17000000.gpu (the nvgpu driver's nodes are below /dev/nvgpu).
ORIN = Jetson(
    model="NVIDIA Jetson Orin Nano Developer Kit",
    compatible=("nvidia,p3768-0000+p3767-0005", "nvidia,p3767-0005", "nvidia,tegra234"),
    l4t="# R39 (release), REVISION: 2.0, GCID: 45755727, BOARD: generic, EABI: aarch64, "
    "DATE: Mon Jun  1 09:28:48 PM UTC 2026",
    cuda="13.2",
    cuda_target="sbsa-linux",
    runtime="libcudart.so.13",
    modes=("15W", "25W", "MAXN_SUPER", "7W"),
    mode=0,
    governor="schedutil",
    cpu_khz=(729600, 729600, 1497600),
    devfreq="17000000.gpu",
    gpu_khz=(306000, 306000, 612000),
    zones=(
        (0, "cpu-thermal", 50031),
        (1, "gpu-thermal", 49031),
        (5, "soc0-thermal", 50000),
        (6, "soc1-thermal", 50250),
        (7, "soc2-thermal", 49031),
        (8, "tj-thermal", 50250),
    ),
    rails=(
        Supply("VDD_IN", 5088, 948),
        Supply("VDD_CPU_GPU_CV", 5080, 102),
        Supply("VDD_SOC", 5080, 290),
    ),
    input_rail=None,
    nodes=("nvgpu/igpu0/ctrl", "nvhost-gpu", "nvmap"),
    tegrastats_gpu="GR3D_FREQ 0% ",
    tegrastats_values=3,
)

# Release: /etc/nv_tegra_release of an AGX Thor kit with JetPack 7.0 (L4T R38.2, CUDA 13.0). Model and compatible:
# Linux, arch/arm64/boot/dts/nvidia/tegra264-p4071-0000+p3834-0008.dts, and readings of kits. nvpmodel -q of a new kit
# says 120W, mode 1; cores from 972 MHz to 2,601 MHz. GPU: /sys/class/devfreq/gpu-gpc-0, 315 to 1,575 MHz, as
# jetson_stats reads it (rbonghi/jetson_stats, jtop/core); the OpenRM driver makes /dev/nvidia0. Zones, rails and
# values: tegrastats of an idle kit (VDD_GPU, VDD_CPU_SOC_MSS and VIN_SYS_5V0 on the INA3221 at 2-0040, VIN on the
# INA238 at 2-0044); it prints no load of the GPU.
THOR = Jetson(
    model="NVIDIA Jetson AGX Thor Developer Kit",
    compatible=("nvidia,p4071-0000+p3834-0008", "nvidia,p3834-0008", "nvidia,tegra264"),
    l4t="# R38 (release), REVISION: 2.0, GCID: 41844464, BOARD: generic, EABI: aarch64, "
    "DATE: Fri Aug 22 00:55:42 UTC 2025",
    cuda="13.0",
    cuda_target="sbsa-linux",
    runtime="libcudart.so.13",
    modes=("MAXN", "120W", "90W", "70W"),
    mode=1,
    governor="schedutil",
    cpu_khz=(972000, 972000, 2601000),
    devfreq="gpu-gpc-0",
    gpu_khz=(315000, 315000, 1575000),
    zones=(
        (0, "cpu-thermal", 37343),
        (1, "gpu-thermal", 38875),
        (2, "soc012-thermal", 37468),
        (3, "soc345-thermal", 37406),
        (4, "tj-thermal", 38875),
    ),
    rails=(
        Supply("VDD_GPU", 12000, 164),
        Supply("VDD_CPU_SOC_MSS", 12000, 491),
        Supply("VIN_SYS_5V0", 5000, 1127),
    ),
    input_rail=Supply("VIN", 20000, 989),
    nodes=("nvidia0", "nvidiactl", "nvidia-uvm", "nvmap"),
    tegrastats_gpu="",
    tegrastats_values=2,
)


def with_fault(jetson: Jetson, fault: str | None) -> Jetson:
    """The board that has this fault."""
    if fault == "jetpack-6":  # L4T R36.4.3: CUDA 12.6 with its libraries in targets/aarch64-linux
        return replace(
            jetson,
            l4t="# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, "
            "DATE: Wed Jan  8 01:49:37 UTC 2025",
            cuda="12.6",
            cuda_target="aarch64-linux",
            runtime="libcudart.so.12",
        )
    if fault == "compute-capability":  # Linux, arch/arm64/boot/dts/nvidia/tegra194-p3509-0000+p3668-0000.dts
        return replace(
            jetson,
            model="NVIDIA Jetson Xavier NX Developer Kit",
            compatible=("nvidia,p3509-0000+p3668-0000", "nvidia,tegra194"),
        )
    if fault == "no-driver":
        return replace(jetson, nodes=())
    return jetson


NVPMODEL = """\
#!/bin/bash
# As on a Jetson, for reading only: the mode in /var/lib/nvpmodel/status, named by /etc/nvpmodel.conf.
case $1 in
  -q | --query) ;;
  -m | --mode) echo "nvpmodel: a virtual board has one power mode" >&2; exit 1 ;;
  *) echo "usage: nvpmodel -q" >&2; exit 1 ;;
esac
read -r status </var/lib/nvpmodel/status
number=$((10#${status#pmode:}))
while read -r line; do
  if [[ $line == "< POWER_MODEL ID=$number NAME="* ]]; then
    name=${line#*NAME=}
    printf 'NV Power Mode: %s\\n%s\\n' "${name% >}" "$number"
    exit 0
  fi
done </etc/nvpmodel.conf
exit 1
"""

TEGRASTATS = """\
#!/bin/bash
# One line per interval in the format of a Jetson's tegrastats, from the files that the board shows. Loads are 0.
interval=1000
while (($#)); do
  case $1 in
    --interval) interval=$2 ;;
    --logfile) exec >>"$2" ;;
    *) interval= ;;
  esac
  if ! [[ $interval =~ ^[1-9][0-9]*$ ]] || (($# < 2)); then
    echo "usage: tegrastats [--interval MILLISECONDS] [--logfile FILE]" >&2
    exit 1
  fi
  shift 2
done
printf -v pause '%d.%03d' $((interval / 1000)) $((interval % 1000))
values=@VALUES@

celsius() {
  local part
  printf -v part '%03d' $(($1 % 1000))
  while [[ $part == *0 ]]; do part=${part%0}; done
  printf '%s' "$(($1 / 1000))${part:+.$part}C"
}

rail() {
  line+=" $1"
  for ((i = 0, mark = 0; i < values; i++)); do
    if ((mark++)); then line+=/; else line+=" "; fi
    line+="$2mW"
  done
}

while :; do
  while read -r key kib _; do declare "kib_${key%:}=$kib"; done < <(grep -E '^(Mem|Swap)(Total|Available|Free|Cached):' /proc/meminfo)
  printf -v line '%(%m-%d-%Y %H:%M:%S)T RAM %d/%dMB (lfb 4x4MB) SWAP %d/%dMB (cached %dMB) CPU [' -1 \\
    $(((kib_MemTotal - kib_MemAvailable) / 1024)) $((kib_MemTotal / 1024)) \\
    $(((kib_SwapTotal - kib_SwapFree) / 1024)) $((kib_SwapTotal / 1024)) $((kib_SwapCached / 1024))
  separator=
  for file in /sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq; do
    line+="${separator}0%@$(($(<"$file") / 1000))"
    separator=,
  done
  line+="] @GPU@"
  separator=
  for zone in /sys/class/thermal/thermal_zone*; do
    name=$(<"$zone/type")
    line+="$separator${name%-thermal}@$(celsius "$(<"$zone/temp")")"
    separator=" "
  done
  for label in /sys/class/hwmon/hwmon*/in[1-3]_label; do
    number=${label##*/in}
    number=${number%_label}
    folder=${label%/*}
    rail "$(<"$label")" $(($(<"$folder/in${number}_input") * $(<"$folder/curr${number}_input") / 1000))
  done
  for label in /sys/class/hwmon/hwmon*/label; do
    if [[ -e $label ]]; then rail "$(<"$label")" $(($(<"${label%label}power1_input") / 1000)); fi
  done
  echo "$line"
  sleep "$pause"
done
"""
