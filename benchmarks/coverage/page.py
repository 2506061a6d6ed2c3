"""docs/onnx-coverage.md from the results: counts, then operator by operator."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from benchmarks.coverage.results import NETWORKS, Row
from benchmarks.kit.tables import markdown

STATUSES = {
    "passed": "compiled, run, and as expected",
    "refused": "not compiled; the error names the operator and the node",
    "failed": "not compiled or not run; an error that names no node",
    "wrong": "compiled and run, and not as expected",
    "crashed": "the process died",
    "timed out": "not done within the time limit",
}
EDGEPACK, STOCK, BOUND = "edgepack", "stock", "stock_bound"
_REASON_LENGTH = 140
_COLUMNS = ("operator", "passed", "expanded", "stock TVM", "left out", "what does not pass, and why")
_COMMON = (  # what every reason of its kind starts with
    r"^operator \w+ (\(opset \d+\) )?cannot be (compiled|imported|lowered)( in this form)?; ",
    r"^output \d+: \d+ of \d+ values are not as expected: ",
    r"^lowering phase [\w-]+ failed; ",
)


def page(rows: Iterable[Row], environment: dict[str, str], target: str) -> str:
    """The page as Markdown."""
    every = list(rows)
    counted = [row for row in every if "left_out" not in row and EDGEPACK in row]
    tools = ", ".join(f"{name} {version}" for name, version in environment.items() if name != "machine")
    parts = [
        _HEAD.format(target=target, machine=environment["machine"], tools=tools),
        *_counts(every, counted),
        *_promise(counted),
        *_operators(every),
    ]
    return "\n".join(parts) + "\n"


_HEAD = """\
<!-- Written by `make coverage`; do not edit. -->
# ONNX coverage

What of ONNX edgepack compiles, measured: the cases that the onnx package generates for each operator, and the light
models in its wheel, go through edgepack's own import, lowering and agent for {target} on {machine}, and their outputs
are compared with the expected ones, within each case's own tolerance. Stock TVM runs beside it: its importer and its
virtual machine with their defaults, on the cases as they are, and again with the same inputs bound as constants.
`edgepack check --deep MODEL.onnx` asks the same of a model of yours.

With {tools}. `make coverage` writes this page and [RESULTS.json](../benchmarks/coverage/RESULTS.json), one line a case."""


def _counts(every: list[Row], counted: list[Row]) -> Iterator[str]:
    stock = [status(row, STOCK) for row in counted]
    bound = [status(row, BOUND) for row in counted]
    ours = [status(row, EDGEPACK) for row in counted]
    yield f"\n## Counts\n\n{len(every):,} cases, of which {len(counted):,} count:\n"
    meanings = dict(STATUSES)
    if "not run" in stock:
        meanings["not run"] = "not in these results"
    rows = [
        [name, *(f"{each.count(name):,}" for each in (ours, stock, bound)), meaning]
        for name, meaning in meanings.items()
    ]
    columns = ("", "edgepack", "stock TVM, cases as they are", "stock TVM, same constants", "")
    yield from markdown(columns, rows, len(columns), tight=True)
    yield (
        "\nInputs that shape the computation (the shape of a Reshape, the axes of a reduction, `k` …: `SHAPING` in"
        "\n[cases.py](../benchmarks/coverage/cases.py)) are bound as constants, as exporters write them. Left out are:\n"
    )
    left = Counter(row["left_out"] for row in every if "left_out" in row).most_common()
    reasons = [(f"{count:,}", reason) for reason, count in left]
    yield from markdown(("cases", "left out because of"), reasons, 2, tight=True)


def status(row: Row, contestant: str) -> str:
    """What became of a case; where nothing was bound, `stock_bound` is `stock`."""
    result = row.get(contestant) or (row.get(STOCK) if contestant == BOUND else None)
    return str(result["status"]) if result else "not run"


def _promise(counted: list[Row]) -> Iterator[str]:
    """`check --deep` against what then happened."""
    broken = broken_promises(counted)
    refused = [row for row in counted if row[EDGEPACK].get("deep")]
    yield f"\n## What `check --deep` says\n\nIt refuses {len(refused):,} of the cases and lets {len(counted) - len(refused):,} pass."
    compiled = [row["name"] for row in refused if status(row, EDGEPACK) in {"passed", "wrong"}]
    yield f"Of those it refuses, {len(compiled)} compile; of those it lets pass, {len(broken)} do not compile."
    for row in broken:
        yield f"- `{row['name']}`: {row[EDGEPACK].get('why', '')}"


def broken_promises(counted: Iterable[Row]) -> list[Row]:
    """Cases that pass `check --deep` and do not compile."""
    return [
        row
        for row in counted
        if not row[EDGEPACK].get("deep")
        and status(row, EDGEPACK) not in {"passed", "wrong"}
        and row[EDGEPACK].get("step") != "run"
    ]


def _operators(every: list[Row]) -> Iterator[str]:
    yield (
        "\n## Operator by operator\n\nCases whose name ends in `_expanded` hold what ONNX defines the operator to be;"
        " they stand in their own column.\n"
    )
    groups = defaultdict(list)
    for row in every:
        groups[row["operator"]].append(row)
    lines = []
    for operator in sorted(groups, key=lambda name: (name != NETWORKS, name.lower())):
        rows = groups[operator]
        counted = [row for row in rows if EDGEPACK in row]
        plain = [row for row in counted if "_expanded" not in row["name"]]
        expanded = [row for row in counted if "_expanded" in row["name"]]
        best = sum("passed" in {status(row, STOCK), status(row, BOUND)} for row in counted)
        stock = f"{best} of {len(counted)}" if counted else ""
        left = str(len(rows) - len(counted) or "")
        lines.append([operator, _share(plain), _share(expanded), stock, left, _why(rows)])
    yield from markdown(_COLUMNS, lines, len(_COLUMNS), tight=True)


def _share(rows: list[Row]) -> str:
    passed = sum(status(row, EDGEPACK) == "passed" for row in rows)
    return f"{passed} of {len(rows)}" if rows else ""


def _why(rows: list[Row]) -> str:
    """The reasons, each with how many cases have it."""
    reasons = Counter(
        f"{row[EDGEPACK]['status']}: {shortened(row[EDGEPACK].get('why', ''))}"
        for row in rows
        if EDGEPACK in row and status(row, EDGEPACK) != "passed"
    )
    left = Counter(f"left out: {row['left_out'].partition(':')[0]}" for row in rows if "left_out" in row)
    found = [*reasons.most_common(), *left.most_common()]
    return "; ".join(f"{reason} ({count})" if count > 1 else reason for reason, count in found)


def shortened(why: str) -> str:
    """A reason without the names and figures of the one case it comes from."""
    for pattern in _COMMON:
        why = re.sub(pattern, "", why)
    text = re.sub(r"'[^']*'", "…", why)
    text = re.sub(r"(?<=\w)\[[\d, ]*\]", "[…]", text)
    text = text if len(text) <= _REASON_LENGTH else f"{text[:_REASON_LENGTH]}…"
    return text.replace("<", "&lt;")
