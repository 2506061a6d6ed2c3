"""The page's section about the emulated GPU: counts of cases, those that only a CPU computes, and the zoo's networks."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from benchmarks.coverage.outcomes import EDGEPACK, GPU, STATUSES, shorten, status
from benchmarks.coverage.results import Row
from benchmarks.kit.documents import markdown


def counts(counted: Sequence[Row]) -> str:
    """A table of outcomes on the CPU and on the emulated GPU."""
    cpu, gpu = ([status(row, one) for row in counted] for one in (EDGEPACK, GPU))
    names = [*STATUSES, *(["not run"] if "not run" in gpu else [])]
    rows = [[name, f"{cpu.count(name):,}", f"{gpu.count(name):,}"] for name in names]
    return markdown(("", "CPU", "emulated GPU"), rows, tight=True)


def differences(counted: Iterable[Row]) -> str:
    """A list of reasons of cases that pass on the CPU and not on the GPU."""
    reasons = defaultdict(list)
    for row in counted:
        outcome = status(row, GPU)
        if status(row, EDGEPACK) == "passed" and outcome not in {"passed", "not run"}:
            reasons[f"{outcome}: {shorten(row[GPU].get('why', ''))}"].append(row["name"])
    if not reasons:
        return "Every case that was run on it and passes on the CPU passes on the GPU, too."
    lines = [f"- {reason}: {_named(names)}" for reason, names in reasons.items()]
    return "\n".join(["Cases that pass on the CPU, but not on the GPU:", "", *lines])


def _named(names: Sequence[str], most: int = 12) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def networks(rows: Iterable[Row]) -> str:
    """A table of networks by precision: untuned, then with records."""
    table: dict[tuple[bool, str], dict[str, str]] = defaultdict(dict)
    for row in rows:
        table[row["tuned"], row["net"]][row["precision"]] = _cell(row)
    columns = ("fp32", "fp16", "int8")
    lines = [
        [net + (", records" if tuned else ""), *(table[tuned, net].get(each, "not run") for each in columns)]
        for tuned, net in sorted(table, key=lambda key: key[0])
    ]
    return markdown(("network", *columns), lines, 4, tight=True)


def _cell(row: Row) -> str:
    if "error" not in row:
        return f"{row['status']}: {shorten(row['why'])}"
    error = "not finite" if row["error"] is None else f"{row['error']:.1e}" if row["error"] else "0"
    same = f", {row['same']:.1%} equal" if row["precision"] == "int8" else ""
    wrong = "" if row["status"] == "passed" else f"{row['status']}: "
    return f"{wrong}{error}{same}; {row['run_s']:.2g} s"
