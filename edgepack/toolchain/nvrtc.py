"""Compile CUDA source to a cubin with NVRTC's C API, from the nvidia-cuda-nvrtc wheel: no toolkit, no GPU.

NVRTC comes without headers. TVM's generated code includes two headers of libcu++ but uses only a few names, which
are defined here.
"""

import ctypes
import importlib.util
from pathlib import Path

from edgepack.errors import EdgepackError

_CSTDINT = """
namespace cuda { namespace std {
typedef signed char int8_t; typedef short int16_t; typedef int int32_t; typedef long long int64_t;
typedef unsigned char uint8_t; typedef unsigned short uint16_t; typedef unsigned int uint32_t;
typedef unsigned long long uint64_t;
} }
"""
_TYPE_TRAITS = """
namespace cuda { namespace std {
template <class T, T v> struct integral_constant { static constexpr T value = v; };
template <class A, class B> struct is_same : integral_constant<bool, false> {};
template <class A> struct is_same<A, A> : integral_constant<bool, true> {};
template <class A, class B> inline constexpr bool is_same_v = is_same<A, B>::value;
template <class T> struct is_floating_point
    : integral_constant<bool, is_same_v<T, float> || is_same_v<T, double>> {};
template <class T> struct is_integral : integral_constant<bool, false> {};
#define EDGEPACK_INTEGRAL(T) template <> struct is_integral<T> : integral_constant<bool, true> {};
EDGEPACK_INTEGRAL(bool) EDGEPACK_INTEGRAL(char) EDGEPACK_INTEGRAL(signed char) EDGEPACK_INTEGRAL(unsigned char)
EDGEPACK_INTEGRAL(short) EDGEPACK_INTEGRAL(unsigned short) EDGEPACK_INTEGRAL(int) EDGEPACK_INTEGRAL(unsigned int)
EDGEPACK_INTEGRAL(long) EDGEPACK_INTEGRAL(unsigned long)
EDGEPACK_INTEGRAL(long long) EDGEPACK_INTEGRAL(unsigned long long)
template <class T> struct is_signed : integral_constant<bool, (T(-1) < T(0))> {};
template <class T> struct is_unsigned : integral_constant<bool, is_integral<T>::value && (T(0) < T(-1))> {};
template <bool C, class T = void> struct enable_if {};
template <class T> struct enable_if<true, T> { typedef T type; };
template <bool C, class A, class B> struct conditional { typedef A type; };
template <class A, class B> struct conditional<false, A, B> { typedef B type; };
} }
"""
HEADERS = {"cuda/std/cstdint": _CSTDINT, "cuda/std/type_traits": _TYPE_TRAITS}


def library() -> Path | None:
    """Return the path of NVRTC in the nvidia-cuda-nvrtc wheel; None if it is not installed."""
    spec = importlib.util.find_spec("nvidia")
    for root in (spec.submodule_search_locations or ()) if spec else ():
        libraries = sorted(Path(root).glob("cu*/lib/libnvrtc.so.*"))
        if libraries:
            return libraries[-1]
    return None


def compile_cubin(code: str, arch: str, path: Path) -> bytes:
    """Compile CUDA source for a real architecture such as ``sm_87``.

    Raises:
        EdgepackError: NVRTC cannot be loaded, does not support the architecture, or rejects the code.
    """
    try:
        # NVRTC loads its builtins by file name; loading them first avoids LD_LIBRARY_PATH.
        for builtins in sorted(path.parent.glob("libnvrtc-builtins.so.*")):
            ctypes.CDLL(str(builtins), mode=ctypes.RTLD_GLOBAL)
        nvrtc = ctypes.CDLL(str(path))
    except OSError as error:
        raise EdgepackError(
            f"NVRTC cannot be loaded: {path}", why=str(error), next="pip install 'edgepack[cuda]'"
        ) from error
    program = ctypes.c_void_p()
    sources = (ctypes.c_char_p * len(HEADERS))(*(text.encode() for text in HEADERS.values()))
    names = (ctypes.c_char_p * len(HEADERS))(*(name.encode() for name in HEADERS))
    status = nvrtc.nvrtcCreateProgram(
        ctypes.byref(program), code.encode(), b"kernels.cu", len(HEADERS), sources, names
    )
    if status:
        raise EdgepackError(f"NVRTC cannot start (status {status})", where=str(path))
    try:
        flags = [f"--gpu-architecture={arch}", "--std=c++17", "-default-device"]
        options = (ctypes.c_char_p * len(flags))(*(flag.encode() for flag in flags))
        if nvrtc.nvrtcCompileProgram(program, len(flags), options):
            log = _read(nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog, program)
            raise EdgepackError(
                f"NVRTC cannot compile the model's kernels for {arch}",
                why=log.rstrip(b"\0").decode(errors="replace").strip(),
                next="install the CUDA toolkit (nvcc): NVRTC lacks its headers, which fp16 kernels need",
            )
        return _read(nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN, program)
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def _read(
    size: "ctypes._NamedFuncPointer", content: "ctypes._NamedFuncPointer", program: ctypes.c_void_p
) -> bytes:
    length = ctypes.c_size_t()
    size(program, ctypes.byref(length))
    buffer = ctypes.create_string_buffer(length.value)
    content(program, buffer)
    return buffer.raw
