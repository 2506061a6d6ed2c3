"""Innermost loops of a compiled model, extracted from its disassembly and weighted by execution counts.

A branch to an earlier address of the same kernel is a back edge, and the code between the two is a loop. A loop is
innermost if it contains no other loop, and straight if its only branch is the one at its end: then an iteration is
exactly its instructions. Code for failed checks is after a kernel's end and also jumps back; it is never executed, so
it has no weight.

A kernel's body, and the parts of it that run on the thread pool, are functions without a symbol after all
others. They belong to the kernel that calls them, jumps to them, or takes their address (ADRP and ADD, or ADR).
"""

import bisect
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.arm import tools
from benchmarks.arm.counter import Place

_LABEL = re.compile(r"^([0-9a-f]+) <(.+)>:$")
_LINE = re.compile(r"^\s*([0-9a-f]+):\s+(\S+)(?:\s+(.*?))?\s*$")
_TARGET = re.compile(r"0x([0-9a-f]+)(?: <[^>]*>)?$")
_ADDRESS = re.compile(r"^(x\d+), 0x([0-9a-f]+)")
_OFFSET = re.compile(r"^x\d+, (x\d+), #0x([0-9a-f]+)$")
_BRANCHES = ("b", "bl", "blr", "br", "ret", "cbz", "cbnz", "tbz", "tbnz")


@dataclass(frozen=True)
class Instruction:
    """One line of a disassembly."""

    address: int
    mnemonic: str
    operands: str

    @property
    def is_branch(self) -> bool:
        """Whether it may transfer control."""
        return self.mnemonic in _BRANCHES or self.mnemonic.startswith("b.")

    @property
    def target(self) -> int | None:
        """Target of a direct branch; None for other instructions, calls and indirect branches."""
        if not self.is_branch or self.mnemonic in {"bl", "blr", "br", "ret"}:
            return None
        match = _TARGET.search(self.operands)
        return int(match.group(1), 16) if match else None


@dataclass(frozen=True)
class InnerLoop:
    """An innermost loop."""

    kernel: str
    body: tuple[Instruction, ...]
    iterations: int = 0  # execution count of its last instruction
    executed: int = 0  # instructions over all iterations

    @property
    def straight(self) -> bool:
        """Whether the last instruction is its only branch."""
        return not any(instruction.is_branch for instruction in self.body[:-1])


def disassemble(library: Path) -> dict[str, list[Instruction]]:
    """Disassemble the kernels of a compiled model, by name.

    Raises:
        EdgepackError: llvm-objdump cannot read the file.
    """
    argv = [tools.llvm("llvm-objdump"), "--disassemble", "--no-show-raw-insn", str(library)]
    return parse(tools.output(argv).splitlines())


def parse(lines: Iterable[str]) -> dict[str, list[Instruction]]:
    """Parse the kernels in llvm-objdump's output, including the functions that belong to them."""
    code: list[Instruction] = []
    names: dict[int, str] = {}  # by the function's start address
    for line in lines:
        if label := _LABEL.match(line):
            names[int(label.group(1), 16)] = label.group(2).removeprefix("__tvm_ffi_")
        elif match := _LINE.match(line):
            address, mnemonic, operands = match.groups()
            code.append(Instruction(int(address, 16), mnemonic, (operands or "").partition("//")[0].strip()))
    owners = _owners(code, names)
    starts = sorted(owners)
    functions: dict[str, list[Instruction]] = {}
    for instruction in code:
        functions.setdefault(owners[_start(starts, instruction.address)], []).append(instruction)
    return functions


def _owners(code: list[Instruction], names: dict[int, str]) -> dict[int, str]:
    """Map the start address of each function to its kernel: its own symbol, or that of the first reference to it."""
    places = {instruction.address for instruction in code}
    symbols = sorted(names)
    referrer: dict[int, int] = {}
    for at, to in _references(code, symbols):
        if to in places and to not in names:
            referrer.setdefault(to, at)
    starts = sorted({*names, *referrer})
    owners = {}
    for first in starts:
        start, seen = first, set()
        while start not in names:
            seen.add(start)
            start = _start(starts, referrer[start])
            if start in seen:  # referenced only by its own loops
                start = _start(symbols, start)
        owners[first] = names[start]
    return owners


def _start(starts: list[int], address: int) -> int:
    return starts[bisect.bisect_right(starts, address) - 1]


def _references(code: Iterable[Instruction], symbols: list[int]) -> Iterator[tuple[int, int]]:
    """Yield source and target address of calls, jumps out of a function, and address computations."""
    pages: dict[str, int] = {}
    for step in code:
        if step.mnemonic in {"adr", "adrp"} and (match := _ADDRESS.match(step.operands)):
            register, address = match.group(1), int(match.group(2), 16)
            if step.mnemonic == "adr":
                yield step.address, address
            else:
                pages[register] = address
        elif step.mnemonic == "add" and (match := _OFFSET.match(step.operands)) and match.group(1) in pages:
            yield step.address, pages[match.group(1)] + int(match.group(2), 16)
        elif step.mnemonic in {"b", "bl"} and (match := _TARGET.search(step.operands)):
            address = int(match.group(1), 16)
            if step.mnemonic == "bl" or _start(symbols, step.address) != _start(symbols, address):
                yield step.address, address
        if step.is_branch:
            pages.clear()
        elif step.mnemonic != "adrp":
            pages.pop(step.operands.partition(",")[0], None)  # overwritten


def innermost(kernel: str, code: list[Instruction]) -> Iterator[InnerLoop]:
    """Yield the innermost loops of a kernel, ordered by their ends."""
    places = {instruction.address: index for index, instruction in enumerate(code)}
    edges = [
        (places[instruction.target], index)
        for index, instruction in enumerate(code)
        if instruction.target in places and places[instruction.target] <= index
    ]
    for start, end in edges:
        inside = any(start <= s and e <= end and (s, e) != (start, end) for s, e in edges)
        if not inside:
            yield InnerLoop(kernel, tuple(code[start : end + 1]))


def weigh(loops: Iterable[InnerLoop], runs: Mapping[Place, int], file: str) -> list[InnerLoop]:
    """Return the executed loops with their iterations, by executed instructions in descending order."""
    executed = []
    for loop in loops:
        times = [runs.get((file, instruction.address), 0) for instruction in loop.body]
        if times[-1]:
            executed.append(InnerLoop(loop.kernel, loop.body, times[-1], sum(times)))
    return sorted(executed, key=lambda loop: -loop.executed)
