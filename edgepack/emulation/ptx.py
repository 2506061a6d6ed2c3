"""Rewrite inline PTX assembly in CUDA source into calls of the functions in ``src/device/ptx.h``.

``mma.sync.aligned.m16n8k16... {%0, %1, ...}, ...;`` becomes ``emu_ptx_mma_sync_aligned_m16n8k16...(__LINE__, out0, ...)``
with the operands in PTX's order. Predicates and registers of a statement become variables of a block. Lines keep their
numbers.
"""

import re
from itertools import product

from edgepack.errors import EdgepackError

_BYTES = ("s8", "u8")


def _known() -> frozenset[str]:
    """Return the instructions that ``src/device/ptx.h`` has."""
    shapes = {"f16.f16.f16.f16": (8, 16), "f32.f16.f16.f32": (8, 16), "f32.bf16.bf16.f32": (8, 16)}
    shapes["f32.tf32.tf32.f32"] = (4, 8)
    floats = (f"m16n8k{k}.row.col.{types}" for types, ks in shapes.items() for k in ks)
    integers = (
        f"{shape}.row.col.{limit}s32.{a}.{b}.s32"
        for shape, limit, a, b in product(
            ("m8n8k16", "m16n8k16", "m16n8k32"), ("", "satfinite."), _BYTES, _BYTES
        )
    )
    return frozenset(
        (
            *(f"mma.sync.aligned.{rest}" for rest in (*floats, *integers)),
            *(
                f"ldmatrix.sync.aligned.m8n8.x{n}{t}.shared.b16"
                for n, t in product((1, 2, 4), ("", ".trans"))
            ),
            *(
                f"cp.async.{cache}.shared.global{prefetch}"
                for cache, prefetch in product(("ca", "cg"), ("", ".L2::64B", ".L2::128B", ".L2::256B"))
            ),
            *("cp.async.commit_group", "cp.async.wait_group", "cp.async.wait_all"),
            *(f"setp.{order}.{kind}" for order, kind in product(("eq", "ne"), ("b32", "u32", "s32"))),
            *("mov.b32", "mov.u32", "st.shared.u32", "st.shared.v2.u32", "st.shared.v4.u32"),
            *("ld.global.nc.f32", "ld.global.nc.L2::128B.f32"),
            *(f"dp4a.{a}.{b}" for a, b in product(("s32", "u32"), repeat=2)),
        )
    )


KNOWN = _known()

_ASSEMBLY = re.compile(
    r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\])*\"|\b(?P<asm>asm|__asm__)\s*(?:volatile\b|__volatile__\b)?\s*\(",
    re.DOTALL,
)
_SHARED_ADDRESS = re.compile(
    r"\b(?:unsigned\s+int|unsigned|uint32_t|uint|int)\s+(\w+)\s*=\s*(?=__cvta_generic_to_shared\s*\()"
)
_TOKEN = re.compile(r"\"(?:\\.|[^\"\\])*\"|[()\[\]{}]|::|:|,|;", re.DOTALL)
_OPERAND = re.compile(r"\s*\"[=+&]*[a-z]\"\s*(\(.*\))\s*", re.DOTALL)
_INSTRUCTION = re.compile(
    r"(?:@(?P<not>!?)(?P<predicate>%?\w+)\s+)?(?P<name>[a-z]\w*(?:(?:\.|::)\w+)*)\s*(?P<operands>.*)",
    re.DOTALL,
)
_REGISTERS = re.compile(r"\.reg\s+\.(\w+)\s+(.*)", re.DOTALL)
_TYPES = {
    "pred": "bool",
    "b32": "uint32_t",
    "u32": "uint32_t",
    "s32": "int32_t",
    "f32": "float",
    "b64": "uint64_t",
}


def rewrite(source: str) -> str:
    """Return the source with calls in the place of its inline assembly.

    Raises:
        EdgepackError: An instruction is not known, or a statement has a form that TVM does not write.
    """
    source = _SHARED_ADDRESS.sub(r"unsigned long long \1 = ", source)
    parts, position = [], 0
    for match in _ASSEMBLY.finditer(source):
        if match["asm"] and match.start() >= position:
            end, sections = _sections(source, match.end())
            line = source.count("\n", 0, match.start()) + 1
            call = _Statement(sections, f"line {line} of the CUDA source").text()
            parts += [source[position : match.start()], call, "\n" * source.count("\n", match.start(), end)]
            position = end
    return "".join((*parts, source[position:]))


def _sections(source: str, start: int) -> tuple[int, list[list[str]]]:
    """Return where an asm statement ends, after its semicolon, and its sections: lists of what commas separate."""
    sections, depth, begin = [[""]], 0, start
    for token in _TOKEN.finditer(source, start):
        kind = token[0]
        if depth == 0 and kind in (":", "::", ",", ")"):
            sections[-1][-1] += source[begin : token.start()]
            begin = token.end()
            if kind == ",":
                sections[-1].append("")
            elif kind == ")":
                end = re.compile(r"\s*;").match(source, begin)
                return (end.end() if end else begin), sections
            else:
                sections += [[""]] if kind == ":" else [[""], [""]]
        elif kind in "([{":
            depth += 1
        elif kind in ")]}":
            depth -= 1
    raise EdgepackError("inline assembly without an end in the CUDA source", next="report this")


class _Statement:
    """One asm statement."""

    def __init__(self, sections: list[list[str]], where: str) -> None:
        self.where = where
        code = "".join(sections[0])
        self.code = "".join(re.findall(r'"((?:\\.|[^"\\])*)"', code, re.DOTALL))
        self.code = re.sub(r"\\[nt]", " ", self.code).replace("%%", "%")
        self.operands = [
            self._expression(text) for section in sections[1:3] for text in section if text.strip()
        ]
        self.registers: dict[str, str] = {}

    def text(self) -> str:
        """Return the block of C++ that does the same."""
        lines = []
        for part in self.code.split(";"):
            statement = part.strip().lstrip("{} \t\n")
            if statement == "":
                continue
            if found := _REGISTERS.fullmatch(statement):
                lines += self._declare(found[1], found[2])
            else:
                lines.append(self._call(statement))
        return f"{{ {' '.join(lines)} }}" if lines else ";"

    def _expression(self, text: str) -> str:
        match = _OPERAND.fullmatch(text)
        if match is None:
            raise self._error(f"an operand of inline assembly has an unknown form: {text.strip()}")
        return match[1]

    def _declare(self, kind: str, names: str) -> list[str]:
        if kind not in _TYPES:
            raise self._error(f"it has no registers of type .{kind}")
        names_ = [name.strip() for name in names.split(",")]
        for name in names_:
            self.registers[name] = "emu_register_" + re.sub(r"\W", "", name)
        return [f"{_TYPES[kind]} {self.registers[name]};" for name in names_]

    def _call(self, statement: str) -> str:
        match = _INSTRUCTION.fullmatch(statement)
        if match is None:
            raise self._error(f"it cannot read the assembly {statement!r}")
        name = match["name"].replace(".shared::cta", ".shared")
        if name not in KNOWN:
            raise self._error(f"it has no instruction {match['name']}")
        function = "emu_ptx_" + re.sub(r"[.:]", "_", name)
        call = f"{function}({', '.join(['__LINE__', *self._operands(match['operands'])])});"
        if match["predicate"]:
            call = f"if ({match['not']}{self._operand(match['predicate'])}) {call}"
        return call

    def _operands(self, text: str) -> list[str]:
        """Return the operands in order; those of a vector or an address are written without its brackets."""
        return [self._operand(part) for part in re.split(r"[\s,{}\[\]]+", text) if part]

    def _operand(self, text: str) -> str:
        if text in self.registers:
            return self.registers[text]
        if re.fullmatch(r"%\d+", text) and int(text[1:]) < len(self.operands):
            return self.operands[int(text[1:])]
        if re.fullmatch(r"-?(?:0[xX][0-9a-fA-F]+|\d+)", text):
            return text
        raise self._error(f"it cannot read the operand {text!r} of inline assembly")

    def _error(self, why: str) -> EdgepackError:
        return EdgepackError(
            "the emulated GPU cannot run these kernels",
            where=self.where,
            why=why,
            next="use a schedule without it, or a real board",
        )
