"""Write docs/onnx-coverage.md from the results: counts, then a table by operator."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

from benchmarks.coverage import gpu_page
from benchmarks.coverage.outcomes import BOUND, EDGEPACK, STATUSES, STOCK, shorten, status
from benchmarks.coverage.results import NETWORKS, Results, Row
from benchmarks.kit.documents import fill_template, markdown

_WORDS = Path(__file__).with_name("page.md")
_COLUMNS = ("operator", "passed", "expanded", "stock TVM", "left out", "failures and reasons")


def page(results: Results) -> str:
    every, environment = list(results.rows.values()), results.environment
    counted = [row for row in every if "left_out" not in row and EDGEPACK in row]
    refused = [row for row in counted if row[EDGEPACK].get("deep")]
    broken = broken_promises(counted)
    return fill_template(
        _WORDS,
        target=results.target,
        machine=environment["machine"],
        tools=", ".join(f"{name} {version}" for name, version in environment.items() if name != "machine"),
        every=len(every),
        counted=len(counted),
        counts=_counts(counted),
        left_out=_left_out(every),
        refused=len(refused),
        passed=len(counted) - len(refused),
        compiled=sum(status(row, EDGEPACK) in {"passed", "wrong"} for row in refused),
        broken=len(broken),
        promises="\n".join(f"- `{row['name']}`: {row[EDGEPACK].get('why', '')}" for row in broken),
        operators=_operators(every),
        gpu_counts=gpu_page.counts(counted),
        gpu_differences=gpu_page.differences(counted),
        gpu_networks=gpu_page.networks(results.networks.values()),
    )


def _counts(counted: list[Row]) -> str:
    ours, stock, bound = ([status(row, one) for row in counted] for one in (EDGEPACK, STOCK, BOUND))
    meanings = dict(STATUSES)
    if "not run" in stock:
        meanings["not run"] = "not in these results"
    rows = [
        [name, *(f"{each.count(name):,}" for each in (ours, stock, bound)), meaning]
        for name, meaning in meanings.items()
    ]
    columns = ("", "edgepack", "stock TVM, original cases", "stock TVM, same constants", "")
    return markdown(columns, rows, len(columns), tight=True)


def _left_out(every: list[Row]) -> str:
    left = Counter(row["left_out"] for row in every if "left_out" in row).most_common()
    rows = [(f"{count:,}", reason) for reason, count in left]
    return markdown(("cases", "reason"), rows, 2, tight=True)


def broken_promises(counted: Iterable[Row]) -> list[Row]:
    """Return cases that pass `check --deep` but do not compile."""
    return [
        row
        for row in counted
        if not row[EDGEPACK].get("deep")
        and status(row, EDGEPACK) not in {"passed", "wrong"}
        and row[EDGEPACK].get("step") != "run"
    ]


def _operators(every: list[Row]) -> str:
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
    return markdown(_COLUMNS, lines, len(_COLUMNS), tight=True)


def _share(rows: list[Row]) -> str:
    passed = sum(status(row, EDGEPACK) == "passed" for row in rows)
    return f"{passed} of {len(rows)}" if rows else ""


def _why(rows: list[Row]) -> str:
    """List the reasons, each with the number of cases."""
    reasons = Counter(
        f"{row[EDGEPACK]['status']}: {shorten(row[EDGEPACK].get('why', ''))}"
        for row in rows
        if EDGEPACK in row and status(row, EDGEPACK) != "passed"
    )
    left = Counter(f"left out: {row['left_out'].partition(':')[0]}" for row in rows if "left_out" in row)
    counted_reasons = [*reasons.most_common(), *left.most_common()]
    return "; ".join(f"{reason} ({count})" if count > 1 else reason for reason, count in counted_reasons)
