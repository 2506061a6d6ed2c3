"""ARM predictions: encodings, disassembly, loops and llvm-mca's output; and the whole benchmark on small programs."""

import json
import os
import struct

import pytest

from benchmarks.arm import __main__ as arm
from benchmarks.arm import counter, loops, mca, measure, page, tools
from benchmarks.kit.command import finish
from edgepack.errors import EdgepackError, UsageError
from edgepack.toolchain.zig import compile_c

# As written by llvm-objdump: a kernel that jumps to its body, whose parallel part has no symbol either, and
# a shared error helper. Two nested loops, and one with a branch inside.
DISASSEMBLY = """
model.so:	file format elf64-littleaarch64

Disassembly of section .text:

0000000000001000 <__tvm_ffi_conv>:
    1000:      	cbz	x1, 0x100c <__tvm_ffi_conv+0xc>
    1004:      	adrp	x0, 0x9000
    1008:      	b	0x2010 <__tvm_ffi_last+0x10>
    100c:      	bl	0x2000 <__tvm_ffi_last>
    1010:      	b	0x1004 <__tvm_ffi_conv+0x4>

0000000000002000 <__tvm_ffi_last>:
    2000:      	mov	w8, #0x10               // =16
    2004:      	ldr	x0, [x1]
    2008:      	add	x0, x0, #0x24
    200c:      	ret
    2010:      	adrp	x0, 0x2000 <__tvm_ffi_last>
    2014:      	add	x0, x0, #0x20
    2018:      	blr	x8
    201c:      	ret
    2020:      	mov	x9, #0x0                // =0
    2024:      	mov	x10, #0x0               // =0
    2028:      	ldp	q0, q1, [x2], #0x20
    202c:      	fmla	v4.4s, v0.4s, v2.s[0]
    2030:      	fmla	v5.4s, v1.4s, v2.s[0]
    2034:      	subs	x10, x10, #0x1
    2038:      	b.ne	0x2028 <__tvm_ffi_last+0x28>
    203c:      	add	x9, x9, #0x1
    2040:      	cmp	x9, #0x8
    2044:      	b.lt	0x2024 <__tvm_ffi_last+0x24>
    2048:      	cbz	x3, 0x2050 <__tvm_ffi_last+0x50>
    204c:      	fmadd	s0, s1, s2, s0
    2050:      	sub	x3, x3, #0x1
    2054:      	cbnz	x3, 0x2048 <__tvm_ffi_last+0x48>
    2058:      	ret
"""


def _loops():
    code = loops.parse(DISASSEMBLY.splitlines())
    return [loop for kernel, body in code.items() for loop in loops.innermost(kernel, body)]


def _need(find):
    """Requires Debian packages: skipped without, but not in CI."""
    try:
        return find()
    except UsageError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(error.render())
        pytest.skip(error.render())


def test_functions_without_a_symbol_belong_to_who_refers_to_them():
    code = loops.parse(DISASSEMBLY.splitlines())
    assert [i.address for i in code["last"]] == [0x2000, 0x2004, 0x2008, 0x200C]
    assert {0x1000, 0x2010, 0x2020, 0x2058} <= {i.address for i in code["conv"]}
    assert code["conv"][-1].mnemonic == "ret"
    assert code["last"][0].operands == "w8, #0x10"  # without the comment


def test_innermost_loops_are_back_edges_without_another_inside():
    found = [(loop.body[0].address, loop.body[-1].address, loop.straight) for loop in _loops()]
    assert (0x2028, 0x2038, True) in found
    assert (0x2048, 0x2054, False) in found
    assert not any(start == 0x2024 for start, _, _ in found)


def test_loops_are_weighed_by_what_ran():
    runs = {("m.so", address): 80 for address in range(0x2028, 0x203C, 4)}
    runs |= {("m.so", address): 3 for address in range(0x2048, 0x2058, 4)}
    found = loops.weigh(_loops(), runs, "m.so")
    assert [(loop.body[0].address, loop.iterations, loop.executed) for loop in found] == [
        (0x2028, 80, 400),
        (0x2048, 3, 12),
    ]
    assert loops.weigh(_loops(), runs, "other.so") == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fmla v4.4s, v0.4s, v2.s[0]", ("fma", 4)),
        ("fmla v4.2s, v0.2s, v2.2s", ("fma", 2)),
        ("fmadd s0, s1, s2, s0", ("fma", 1)),
        ("sdot v0.4s, v1.16b, v2.4b[1]", ("dot", 16)),
        ("smlal2 v0.4s, v1.8h, v2.8h", ("mlal", 4)),
        ("fmul v0.4s, v1.4s, v2.4s", ("", 0)),
        ("ldr q0, [x1]", ("", 0)),
    ],
)
def test_multiply_adds_of_an_instruction(text, expected):
    mnemonic, _, operands = text.partition(" ")
    assert mca.macs(loops.Instruction(0, mnemonic, operands)) == expected


def test_a_loop_becomes_assembly_whose_branch_goes_nowhere():
    loop = next(loop for loop in _loops() if loop.straight and mca.work(loop)[1])
    assert mca.work(loop) == ("fma", 8)
    lines = mca.assembly(loop).splitlines()
    assert lines[1] == "fmla v4.4s, v0.4s, v2.s[0]"
    assert lines[-1] == "b.ne ."


def test_llvm_mca_json():
    region = {"Name": "loop-0", "SummaryView": {"Iterations": 200, "TotalCycles": 820, "IPC": 2.1}}
    text = json.dumps({"CodeRegions": [region], "TargetInfo": {"Resources": ["N1UnitB", "N1UnitL.0"]}})
    assert mca.parse(text) == ("N1", {"loop-0": 4.1})
    for bad in ("", "[]", "{}", json.dumps({"CodeRegions": [], "TargetInfo": {"Resources": []}})):
        with pytest.raises(EdgepackError, match="unexpected output of llvm-mca"):
            mca.parse(bad)


# Encodings from the Arm Architecture Reference Manual, as llvm-mc assembles them.
@pytest.mark.parametrize(
    ("word", "kind"),
    [
        (0x4E22CC20, "fp32 multiply-add"),  # fmla v0.4s, v1.4s, v2.4s
        (0x4F821020, "fp32 multiply-add"),  # fmla v0.4s, v1.4s, v2.s[0]
        (0x4FA25820, "fp32 multiply-add"),  # fmls v0.4s, v1.4s, v2.s[3]
        (0x1F020C20, "fp32 multiply-add"),  # fmadd s0, s1, s2, s3
        (0x4E829420, "int8 dot product"),  # sdot v0.4s, v1.16b, v2.16b
        (0x6F82E020, "int8 dot product"),  # udot v0.4s, v1.16b, v2.4b[0]
        (0x0E628020, "int multiply-add"),  # smlal v0.4s, v1.4h, v2.4h
        (0x4F422020, "int multiply-add"),  # smlal2 v0.4s, v1.8h, v2.h[0]
        (0x6E22DC20, "other vector and fp"),  # fmul v0.4s, v1.4s, v2.4s
        (0x4E22D420, "other vector and fp"),  # fadd v0.4s, v1.4s, v2.4s
        (0x3DC00020, "load and store"),  # ldr q0, [x1]
        (0xA9BF7BFD, "load and store"),  # stp x29, x30, [sp, #-16]!
        (0x54FFFFE1, "branch"),  # b.ne
        (0xD65F03C0, "branch"),  # ret
        (0x8B020020, "integer"),  # add x0, x1, x2
        (0xF1000421, "integer"),  # subs x1, x1, #1
    ],
)
def test_kinds_of_instructions(word, kind):
    assert counter.kind(word) == kind


MAPS = """\
400000-401000 r--p 00000000 fe:00 1   /lib/a file.so
410000-412000 r--p 00001000 fe:00 1   /lib/a file.so
500000-501000 r--p 00000000 fe:00 2   /tmp/model.so
"""


def test_profiles_add_up_and_subtract_by_place():
    first = struct.pack("<3Q2I", 0x410010, 5, 2, 0x8B020020, 0xD65F03C0)
    first += struct.pack("<3Q1I", 0x410010, 2, 1, 0x8B020020)  # translated again
    second = struct.pack("<3Q2I", 0x410010, 9, 2, 0x8B020020, 0xD65F03C0)
    second += struct.pack("<3Q1I", 0x999000, 1, 1, 0x4E22CC20)
    fewer, more = (counter.profile(data, MAPS) for data in (first, second))
    assert fewer.runs == {("/lib/a file.so", 0x10010): 7, ("/lib/a file.so", 0x10014): 5}
    between = more - fewer
    assert between.total == 2 + 4 + 1
    assert between.by_file() == {"a file.so": 6, "(no file)": 1}
    kinds = between.by_kind()
    assert (kinds["integer"], kinds["branch"], kinds["fp32 multiply-add"]) == (2, 4, 1)
    assert (fewer + more).total == fewer.total + more.total


# Without a libc: a child that loops 1,000 times for each argument, and a parent that waits for it.
LOOP = """
__asm__(".globl _start\\n_start: ldr x19, [sp]\\nmov x0, 1000\\nmul x19, x19, x0\\n"
        "mov x0, 17\\nmov x1, 0\\nmov x2, 0\\nmov x3, 0\\nmov x4, 0\\nmov x8, 220\\nsvc 0\\n" /* fork */
        "cbz x0, 1f\\n"
        "mov x0, -1\\nmov x1, 0\\nmov x2, 0\\nmov x3, 0\\nmov x8, 260\\nsvc 0\\nb 2f\\n" /* wait4 */
        "1: fmla v0.4s, v1.4s, v2.4s\\nsubs x19, x19, 1\\nb.ne 1b\\n"
        "2: mov x0, 0\\nmov x8, 94\\nsvc 0\\n"); /* exit_group */
"""


def test_instructions_are_counted_one_by_one(tmp_path):
    _need(tools.qemu)
    source, program = tmp_path / "loop.c", tmp_path / "loop"
    source.write_text(LOOP)
    compile_c([source], program, "aarch64", "2.31", ("-static", "-nostdlib", "-ffreestanding"))
    counted = [
        counter.count([str(program), *words], cpu="cortex-a72", root=tmp_path, environment={})
        for words in ((), ("a", "b", "c"))
    ]
    # Ten up to the fork and the branch after it, in both; the loop; eight of the parent's; three to end, in both.
    assert [profile.total for profile in counted] == [2 * 11 + 3 * n + 7 + 2 * 3 for n in (1000, 4000)]
    between = counted[1] - counted[0]
    assert between.total == 3 * 3000
    assert set(between.runs.values()) == {3000}
    assert between.by_kind()["fp32 multiply-add"] == 3000
    assert between.by_file() == {program.name: 3 * 3000}


def test_a_marked_part_is_counted_alone(tmp_path):
    _need(tools.qemu)
    source, program = tmp_path / "marked.c", tmp_path / "marked"
    mark = "mov x0, 0\\nmov x8, 156\\nsvc 0\\n"
    loop = "mov x19, 500\\n1: subs x19, x19, 1\\nb.ne 1b\\n"
    source.write_text(
        f'__asm__(".globl _start\\n_start: {loop}{mark}{loop}{mark}{loop}fmul s0, s1, s2\\n{mark}{loop}'
        'mov x0, 0\\nmov x8, 94\\nsvc 0\\n");'
    )
    compile_c([source], program, "aarch64", "2.31", ("-static", "-nostdlib", "-ffreestanding"))
    counted = counter.count([str(program)], cpu="cortex-a72", root=tmp_path, environment={})
    assert counted.total == 1 + 2 * 500 + 1 + 3  # between the second mark and the third, with its own call
    assert counted.by_kind()["other vector and fp"] == 1


def test_a_program_with_threads_is_refused(tmp_path, monkeypatch):
    _need(tools.qemu)
    source, program = tmp_path / "threads.c", tmp_path / "threads"
    # CLONE_VM, FS, FILES, SIGHAND, THREAD, SYSVSEM: both share the stack, and neither uses it
    source.write_text(
        '__asm__(".globl _start\\n_start: mov x0, 0xf00\\nmovk x0, 5, lsl 16\\nmov x1, sp\\nmov x2, 0\\n"'
        '"mov x3, 0\\nmov x4, 0\\nmov x8, 220\\nsvc 0\\nmov x0, 0\\nmov x8, 94\\nsvc 0\\n");'
    )
    compile_c([source], program, "aarch64", "2.31", ("-static", "-nostdlib", "-ffreestanding"))
    with pytest.raises(EdgepackError, match="2 threads"):
        counter.count([str(program)], cpu="cortex-a72", root=tmp_path, environment={})


def test_a_program_that_fails_is_told(tmp_path):
    _need(tools.qemu)
    with pytest.raises(EdgepackError, match="qemu-aarch64 failed"):
        counter.count([str(tmp_path / "none")], cpu="cortex-a72", root=tmp_path, environment={})


def test_a_core_without_dot_products_has_no_prediction_for_them():
    _need(lambda: tools.llvm("llvm-mca"))
    step = loops.Instruction
    body = (step(0, "sdot", "v0.4s, v1.16b, v2.16b"), step(4, "subs", "x0, x0, #0x1"), step(8, "b.ne", "0x0"))
    with pytest.raises(EdgepackError, match="llvm-mca"):
        mca.predict([loops.InnerLoop("k", body)], "cortex-a72")


def test_predictions_stay_below_the_peak():
    _need(lambda: tools.llvm("llvm-mca"))
    straight = [loop for loop in _loops() if loop.straight and mca.work(loop)[1]]
    for core, model, peak in (("cortex-a72", "A57", 4), ("cortex-a76", "A57", 4), ("neoverse-n1", "N1", 8)):
        (found,) = mca.predict(straight, core)
        assert (found.model, found.kind, found.macs) == (model, "fma", 8)
        assert found.peak == pytest.approx(peak, rel=0.02)
        assert 0 < found.share <= 1.01
        assert found.cycles >= 2 * 4 / peak  # two multiply-adds, each waiting for its own last value
    assert mca.predict([], "cortex-a72") == []


def test_missing_programs_are_named_with_their_package(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(tools, "_PLACES", (str(tmp_path),))
    with pytest.raises(UsageError) as error:
        tools.qemu()
    assert error.value.next == "apt-get install qemu-user"
    with pytest.raises(UsageError, match="llvm-mca of LLVM 16"):
        tools.llvm("llvm-mca")
    with pytest.raises(UsageError) as error:
        arm.main(["--out", str(tmp_path)])
    assert "apt-get install" in error.value.next
    monkeypatch.setattr("sys.argv", ["arm", "--out", str(tmp_path)])
    assert finish(arm.main) == UsageError.exit_code
    assert "apt-get install" in capsys.readouterr().err
    assert not (tmp_path / "arm.json").exists()


def test_a_qemu_without_plugins_is_refused(monkeypatch, tmp_path):
    program = tmp_path / "qemu-aarch64"
    program.write_text("#!/bin/sh\necho no such option here\n")
    program.chmod(0o755)
    monkeypatch.setattr(tools, "_PLACES", (str(tmp_path),))
    with pytest.raises(UsageError, match="cannot load plugins"):
        tools.qemu()


def _cell():
    row = {"core": "cortex-a72", "model": "A57", "kernel": "conv", "iterations": 1000, "instructions": 5}
    row |= {"executed_share": 0.5, "kind": "fma", "macs": 8, "cycles": 4.0, "peak_macs_per_cycle": 4.0}
    other = {"core": "cortex-a72", "kernel": "odd", "executed_share": 0.1, "iterations": 3, "instructions": 9}
    kinds = {"fp32 multiply-add": 2000, "integer": 8000}
    found = {"version": "1", "instructions": 10_000, "by_kind": kinds, "by_file": {}, "relative_error": 0.0}
    found |= {"model_bytes": 10**6, "runtime_bytes": 10**6, "notes": "0 of 1 kernels tuned"}
    return {
        "net": "n",
        "title": "N",
        "target": "rpi4",
        "macs": 16_000,
        "contenders": {"edgepack": found},
        "failures": {"onnxruntime": "it broke:\nbadly"},
        "loops": [{**row, "share_of_peak": 0.5}, {**other, "skipped": "it branches within"}],
    }


def test_a_summary_weighs_loops_by_their_iterations():
    found = measure.summary(_cell(), "cortex-a72")
    assert found == {"executed_share": 0.5, "macs_share": 0.5, "cycles": 4000.0, "share_of_peak": 0.5}
    assert measure.summary(_cell(), "cortex-a76") is None


def test_the_page_says_that_it_predicts_and_what_failed():
    document = {"tools": {"qemu": "7.2", "llvm": "19"}, "cells": [_cell()]}
    text = page.page(document, top=5)
    assert "Prediction, not measurement." in text
    assert "- N for rpi4, onnxruntime: it broke: badly" in text
    assert "| `conv` | cortex-a72 (A57 model) | 50.0% | 5 | 8 | 4.0 | 50% |" in text
    assert "it branches within" in text
    assert "| N | rpi4 | 0.01 | 20% | 0.62 | 2.0 | failed |" in text
    for table in (block for block in text.split("\n\n") if block.startswith("|")):
        assert len({line.count("|") for line in table.strip().splitlines()}) == 1


@pytest.mark.slow
def test_the_smallest_net_from_end_to_end(tmp_path, capsys):
    _need(arm.needs)
    if os.geteuid() != 0:
        pytest.skip("the aarch64 userland needs root to be built")
    assert arm.main(["--nets", "autoencoder", "--targets", "rpi5", "--out", str(tmp_path)]) == 0
    (cell,) = json.loads((tmp_path / "arm.json").read_text())["cells"]
    assert cell["failures"] == {}
    for name in ("edgepack", "onnxruntime"):
        found = cell["contenders"][name]
        assert found["instructions"] == sum(found["by_kind"].values()) == sum(found["by_file"].values())
        # A vector multiply-add does four: fewer than MACs / 4 of them would be no inference of this net.
        assert found["by_kind"]["fp32 multiply-add"] >= cell["macs"] / 4
        assert found["relative_error"] < 1e-3
    assert {row["core"] for row in cell["loops"]} == {"cortex-a76", "neoverse-n1"}
    for core in ("cortex-a76", "neoverse-n1"):
        summary = measure.summary(cell, core)
        assert 0.9 < summary["macs_share"] < 1.1
        assert 0 < summary["share_of_peak"] <= 1.01
    shown = capsys.readouterr().out
    assert "Prediction, not measurement." in shown
    assert (tmp_path / "arm.md").read_text() == shown.removesuffix("\n")
