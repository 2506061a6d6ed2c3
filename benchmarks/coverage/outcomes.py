"""What the results call contestants and outcomes, and reasons in short."""

import re

from benchmarks.coverage.results import Row

STATUSES = {
    "passed": "compiled and run, with the expected outputs",
    "refused": "not compiled; the error names the operator and the node",
    "failed": "not compiled or not run; the error names no node",
    "wrong": "compiled and run, with unexpected outputs",
    "crashed": "the process died",
    "timed out": "not finished within the time limit",
}
EDGEPACK, GPU, STOCK, BOUND = "edgepack", "gpu", "stock", "stock_bound"
NETWORKS_ON_GPU = "networks"
_REASON_LENGTH = 140
_COMMON = (  # common prefixes of reasons
    r"^operator \w+ (\(opset \d+\) )?cannot be (compiled|imported|lowered)( in this form)?; ",
    r"^output \d+: \d+ of \d+ values are not as expected: ",
    r"^lowering phase [\w-]+ failed; ",
)


def status(row: Row, contestant: str) -> str:
    """Return the outcome of a case; if nothing was bound, `stock_bound` is the same as `stock`."""
    result = row.get(contestant) or (row.get(STOCK) if contestant == BOUND else None)
    return str(result["status"]) if result else "not run"


def shorten(why: str) -> str:
    """Remove names and figures of the individual case from a reason."""
    for pattern in _COMMON:
        why = re.sub(pattern, "", why)
    text = re.sub(r"'[^']*'", "…", why)
    text = re.sub(r"(?<=\w)\[[\d, ]*\]", "[…]", text)
    text = text if len(text) <= _REASON_LENGTH else f"{text[:_REASON_LENGTH]}…"
    return text.replace("<", "&lt;")
