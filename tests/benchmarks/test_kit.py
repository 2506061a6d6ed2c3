"""Shared code of the benchmarks: command lines, programs, tables, cached files."""

import re
import sys
import time

import pytest

from benchmarks.kit import command, machine, nets, places
from benchmarks.kit.documents import markdown, plain
from benchmarks.kit.processes import ProcessFailed, last_line, run, run_until
from benchmarks.kit.statistics import median_and_range
from edgepack.errors import UsageError


def python(code):
    return [sys.executable, "-c", code]


def test_names_are_chosen_in_the_order_they_are_known_in():
    assert command.parse_names(" b,a", ["a", "b", "c"], "letters") == ["a", "b"]
    assert command.parse_names("", ["a", "b"], "letters") == ["a", "b"]


def test_a_slip_of_a_name_gets_the_near_one_and_others_the_list():
    with pytest.raises(UsageError, match="unknown nets: resnet81") as error:
        command.parse_names("resnet81", ["lstm", "resnet18"], "nets")
    assert error.value.next == "did you mean resnet18?"
    with pytest.raises(UsageError) as error:
        command.parse_names("x", ["lstm", "resnet18"], "nets")
    assert error.value.next == "choose from lstm, resnet18"


def test_a_network_is_one_of_the_zoo_or_a_file(tmp_path):
    (tmp_path / "own.onnx").touch()
    assert nets.network(str(tmp_path / "own.onnx")) == tmp_path / "own.onnx"
    with pytest.raises(UsageError, match="no such file"):
        nets.network(str(tmp_path / "none.onnx"))
    with pytest.raises(UsageError, match="no network resnet8; did you mean `resnet18`"):
        nets.network("resnet8")


@pytest.mark.parametrize(
    ("kind", "fits", "fails"),
    [
        (command.above(0), ["0.1", "5"], ["0", "-1", "inf", "nan", "x"]),
        (command.at_least(0), ["0", "2.5"], ["-0.1", "inf", ""]),
        (command.whole(1), ["1", "30"], ["0", "1.5", "x"]),
    ],
)
def test_numbers_have_bounds(kind, fits, fails):
    assert [kind(text) for text in fits] == [float(text) for text in fits]
    for text in fails:
        with pytest.raises(command.argparse.ArgumentTypeError, match="is not a"):
            kind(text)


@pytest.mark.parametrize(
    ("name", "core", "features", "level", "kind"),
    [
        ("AMD EPYC", "znver4", {"avx2", "avx512f", "avx512vnni"}, "x86-64-v4", "amd-epyc-znver4-avx512-vnni"),
        ("AMD EPYC", "znver3", {"avx", "avx2", "fma"}, "x86-64-v3", "amd-epyc-znver3-avx2"),
        (
            "Intel(R) Xeon(R) Platinum 8175M CPU @ 2.50GHz",
            "skylake_avx512",
            {"avx512f", "avx512bw"},
            "x86-64-v4",
            "intel-xeon-platinum-8175m-skylake-avx512-avx512",
        ),
        (
            "AMD Ryzen 9 5950X 16-Core Processor",
            "znver3",
            {"avx2"},
            "x86-64-v3",
            "amd-ryzen-9-5950x-znver3-avx2",
        ),
        (
            "12th Gen Intel(R) Core(TM) i7-12700",
            "alderlake",
            {"avx2", "avxvnni"},
            "x86-64-v3",
            "12th-gen-intel-core-i7-12700-alderlake-avx2-vnni",
        ),
        (
            "Intel(R) Atom(TM) CPU E3845 @ 1.91GHz",
            "silvermont",
            set(),
            "x86-64-v2",
            "intel-atom-e3845-silvermont-x86-64-v2",
        ),
        ("cortex-a76", "cortex_a76", {"neon", "dotprod"}, "cortex-a76", "cortex-a76-dotprod"),
    ],
)
def test_the_kind_of_a_cpu_is_its_name_its_core_and_its_vectors(name, core, features, level, kind):
    assert machine.kind(name, core, features, level) == kind


def test_this_machine_has_a_kind():
    found = machine.summary()
    assert found["kind"].startswith(re.sub(r"[^a-z0-9].*", "", found["cpu"].lower()))
    assert re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", found["kind"])
    assert found["core"] != "unknown"


def test_a_pattern_is_a_regular_expression():
    assert command.pattern("^test_conv") == "^test_conv"
    with pytest.raises(
        command.argparse.ArgumentTypeError, match=r"'\(' is not a regular expression: missing \)"
    ):
        command.pattern("(")


def test_an_error_ends_a_program_with_its_own_code_and_words(capsys):
    def wrong():
        raise UsageError("no such thing", next="another")

    def interrupted():
        raise KeyboardInterrupt

    assert command.finish(wrong) == 2
    assert "no such thing" in capsys.readouterr().err
    assert command.finish(interrupted) == 130
    assert command.finish(lambda: None) == 0


def test_a_programs_output_is_its_own_and_its_failure_has_its_last_words():
    assert run(python("print(input())"), text="given") == "given\n"
    with pytest.raises(ProcessFailed, match="exited with status 3; its last words: one\ntwo") as error:
        run(python("import sys; print('one'); print('two', file=sys.stderr); sys.exit(3)"))
    assert (error.value.how, last_line(error.value.said)) == ("exited with status 3", "two")
    with pytest.raises(ProcessFailed, match="died of SIGABRT"):
        run(python("import os; os.abort()"))
    with pytest.raises(ProcessFailed, match="did not end within") as error:
        run(python("import time; time.sleep(60)"), timeout_s=0.5)
    assert error.value.timed_out


def test_a_program_ends_by_itself_or_is_ended(tmp_path):
    with (tmp_path / "log").open("wb") as log:
        assert run_until(python("raise SystemExit(5)"), time.monotonic() + 60, log=log) == 5
        began = time.monotonic()
        assert run_until(python("import time; time.sleep(600)"), began + 0.5, log=log) is None
        asked = []
        forever = python("import time; time.sleep(600)")
        given_up = lambda: asked.append(1) or len(asked) > 2  # noqa: E731
        assert run_until(forever, began + 600, log=log, given_up=given_up, poll_s=0.05) is None
    assert len(asked) == 3
    assert time.monotonic() - began < 300


def test_tables_for_pages_and_for_the_terminal():
    assert markdown(["", "b"], [["x|y", "1\n2"]]) == "|  | b |\n| --- | ---: |\n| x\\|y | 1 2 |"
    assert markdown(["", "b"], [["x", ""]], 2, tight=True) == "| | b |\n|---|---|\n| x |  |"
    assert plain([("name", "n"), ("a", "10")]) == "name   n\na     10"
    assert plain([("name", "n"), ("a", "10")], right=2) == "name  n\na     10"


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([], "none"),
        ([None], "none"),
        ([1.0], "1.0"),
        ([3, 1, 2], "2.0 (1.0 to 3.0)"),
        ([1, None], "1.0 (1.0 to 1.0, 1 without)"),
    ],
)
def test_a_median_comes_with_its_range(values, shown):
    assert median_and_range(values, "{:.1f}") == shown


def test_what_is_made_once_is_whole_or_not_there(tmp_path):
    made = []

    def make(path):
        path.write_text("whole")
        made.append(path)
        if len(made) == 1:
            raise OSError("the disk is full")

    wanted = tmp_path / "kept" / "thing"
    with pytest.raises(OSError, match="full"):
        places.make_once(wanted, make)
    assert not wanted.exists()
    for _ in range(2):
        assert places.make_once(wanted, make).read_text() == "whole"
    assert len(made) == 2
    assert sorted(path.name for path in wanted.parent.iterdir()) == ["thing", "thing.lock"]
