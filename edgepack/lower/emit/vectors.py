"""Functions that TVM's CUDA code calls and CUDA does not have: vectors of eight values, packed into a vector of four.

TVM keeps eight values of 32 bits in four of 64, and eight of 16 bits in four of 32, but gives all eight to CUDA's
function, which takes four.
"""

import re

_CALL = re.compile(r"\bmake_(u?int4|u?longlong4)\(")
_ARGUMENTS = 8
_FUNCTION = """\
template <class T> static __device__ {kind} make_{kind}(T a, T b, T c, T d, T e, T f, T g, T h) {{
  static_assert(8 * sizeof(T) == sizeof({kind}), "");
  T parts[8] = {{a, b, c, d, e, f, g, h}};
  {kind} whole;
  __builtin_memcpy(&whole, parts, sizeof(whole));
  return whole;
}}
"""


def complete(source: str) -> str:
    """Return the CUDA source with the functions that it calls."""
    called = {call[1] for call in _CALL.finditer(source) if _arguments(source, call.end()) == _ARGUMENTS}
    return "".join(_FUNCTION.format(kind=kind) for kind in sorted(called)) + source


def _arguments(source: str, start: int) -> int:
    """Return the number of arguments of a call whose first one starts there."""
    depth, count = 0, 1
    for token in re.compile(r"[()\[\],]").finditer(source, start):
        if token[0] == ",":
            count += depth == 0
        elif token[0] in "([":
            depth += 1
        elif depth:
            depth -= 1
        else:
            break
    return count
