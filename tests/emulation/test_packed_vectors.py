"""The packed vectors of eight values that edgepack adds to TVM's code hold the values in their order."""

import numpy as np
import pytest
from launching import HEAD, Launcher

from edgepack.lower.emit.vectors import complete


@pytest.mark.parametrize(
    ("whole", "part", "dtype"),
    [
        ("uint4", "half", "float16"),
        ("longlong4", "int", "int32"),
        ("ulonglong4", "float", "float32"),
    ],
)
def test_parts_keep_their_order(whole, part, dtype, tmp_path):
    parts = ", ".join(f"x[{i}]" for i in range(8))
    source = complete(f"{HEAD}kernel({whole}* y, {part}* x) {{ *y = make_{whole}({parts}); }}")
    x = np.arange(8).astype(dtype)
    y, _ = Launcher(tmp_path).run(source, "kernel", [np.zeros_like(x), x])
    assert y.tolist() == x.tolist()
