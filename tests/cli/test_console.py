"""What goes where: one document on stdout, everything else on stderr, and an exit code that tells."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

import edgepack.cli
from edgepack import api
from edgepack.cli import main
from edgepack.cli.console import describe_execution, guard, progress, say
from edgepack.cli.live import LiveListener, PlainListener
from edgepack.config.recipe import Gates
from edgepack.diagnosis import Diagnosis
from edgepack.engine.events import Advanced, Scope, StageEnded, StageStarted
from edgepack.errors import (
    ConfigError,
    GateError,
    LockedError,
    ModelProblem,
    Problem,
    UnreachableError,
    UnsupportedError,
    UsageError,
)
from edgepack.pipeline.trace import Host, Placement, RecipeRef, RunStarted
from edgepack.spec.memory import MemoryPlan


def scope(stage, **place):
    return Scope(stage=stage, label=stage, **place)


def ended(stage, status, *, seconds=0.0, why=None, **place):
    return StageEnded(scope=scope(stage, **place), status=status, seconds=seconds, why=why)


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    for kind in ("CONFIG", "STATE", "DATA"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(tmp_path / kind.lower()))
    return tmp_path / "state"


@pytest.fixture
def run(capsys):
    """A command in this process: exit code, stdout, stderr."""

    def command(*args):
        with pytest.raises(SystemExit) as caught:
            main([str(arg) for arg in args])
        said = capsys.readouterr()
        return caught.value.code, said.out, said.err

    return command


def raising(error):
    def command():
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError([Problem("r.yaml", 1, 2, "unknown key")]), 2),
        (click.UsageError("no such option"), 2),
        (GateError("too slow"), 3),
        (UnreachableError("no route", where="pi", next="plug it in"), 4),
        (LockedError("busy"), 75),
        (KeyboardInterrupt(), 130),
        (click.Abort(), 130),
        (RuntimeError("surprise"), 1),
        (OSError(28, "No space left on device"), 1),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_every_error_has_its_code_and_with_json_one_document(error, code, as_json, capsys):
    assert guard(raising(error), as_json=as_json) == code
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    assert said.err
    if as_json:
        assert json.loads(said.out)["error"]["exit_code"] == code
    else:
        assert said.out == ""


def test_results_are_exit_codes_where_they_are_numbers():
    assert guard(lambda: 7, as_json=False) == 7
    assert guard(lambda: None, as_json=False) == 0
    assert guard(raising(click.exceptions.Exit(5)), as_json=False) == 5


def test_a_defect_is_kept_even_where_nothing_can_be_written(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    assert guard(raising(RuntimeError("surprise")), as_json=False) == 1
    assert "could not be saved" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "value"), [("trials", 0), ("trials", -1), ("minutes", 0.0)])
def test_a_budget_must_be_greater_than_zero(name, value):
    with pytest.raises(UsageError, match=re.escape(f"{name} must be greater than 0 (got {value})")):
        api.tune("recipe.yaml", **{name: value})


def test_interrupting_a_command_says_that_completed_stages_are_kept(capsys):
    assert guard(raising(KeyboardInterrupt()), as_json=False) == 130
    assert "completed stages are kept" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("run",), "Build only this target (may be repeated)."),
        (("run",), "Re-run this stage even if it is cached (may be repeated); `all` re-runs everything."),
        (("tune",), "Resumes the previous tuning run."),
        (("init",), "Target to build for (may be repeated)."),
        (("devices", "down"), "Also delete the board's files."),
    ],
)
def test_options_say_what_they_do(run, args, text):
    code, out, _ = run(*args, "--help")
    assert code == 0
    assert text in " ".join(out.split())


def test_a_mistake_on_the_command_line_is_a_document_too(run):
    for args in (("run", "--json"), ("run", "r.yaml", "--jsn", "--json"), ("targets", "--json", "nonsense")):
        code, out, err = run(*args)
        assert code == 2
        assert json.loads(out)["error"]["type"] == "UsageError"
        assert "Usage" in err


def test_what_user_code_prints_is_not_the_result(capsys):
    with progress() as listener:
        sys.stdout.write("epoch 1\n")
        listener(ended("train", "cached"))
    said = capsys.readouterr()
    assert said.out == ""
    assert "epoch 1" in said.err
    assert "train" in said.err


@pytest.mark.parametrize("as_json", [False, True])
def test_the_doctor_prints_once_and_says_whether_it_will_do(run, monkeypatch, as_json):
    fine = Diagnosis("cache", ok=True, required=True, detail="here")
    optional = Diagnosis("CUDA compiler", ok=False, required=False, detail="none", hint="install")
    broken = Diagnosis("tvm", ok=False, required=True, detail="none", hint="reinstall")
    for checks, expected in (([fine, optional], 0), ([fine, broken], 3)):
        monkeypatch.setattr(api, "doctor", lambda checks=checks: checks)
        code, out, err = run("doctor", *(["--json"] if as_json else []))
        assert code == expected
        if as_json:
            assert [f["name"] for f in json.loads(out)["checks"]] == [f.name for f in checks]
        else:
            assert ("tvm" in err) == (expected == 3)


@pytest.mark.parametrize(
    "args",
    [
        ("bundle", "inspect", "none.edgepack"),
        ("bundle", "inspect", "none.edgepack", "--json"),
        ("bundle", "verify", "none.edgepack"),
        ("bundle", "extract", "none.edgepack", "out"),
        ("deploy", "none.edgepack", "virtual:host"),
        ("bench", "none.edgepack", "virtual:host"),
        ("report", "none.json"),
        ("report", "n" * 300),
        ("compile", "n" * 300, "--target", "rpi4"),
        ("check", "none.yaml"),
        ("run", "none.yaml", "--json"),
        ("tune", "none.yaml"),
        ("package", "none.yaml"),
        ("compress", "none.yaml"),
        ("compile", "none.onnx", "--target", "rpi4"),
        ("compile", "none.yaml", "--target", "rpi4"),
        ("targets", "show", "none"),
        ("rollback", "tiny", "none"),
        ("devices", "info", "none", "--json"),
        ("devices", "trust", "none"),
        ("devices", "down"),
        ("devices", "down", "none"),
        ("devices", "up", "--virtual", "none"),
        ("devices", "up", "--virtual", "host", "--name", "../x"),
    ],
    ids=lambda args: " ".join(args)[:40],
)
def test_what_is_not_there_is_a_usage_error(run, args, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*args)
    assert code == 2, err
    assert "error" in err.lower()
    assert "internal" not in err
    if "--json" in args:
        assert json.loads(out)["error"]["exit_code"] == 2


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(run, shell):
    code, out, _ = run("completion", shell)
    assert code == 0
    assert "_EDGEPACK_COMPLETE" in out


def complete(words, position, **environment):
    done = subprocess.run(
        [sys.executable, "-m", "edgepack"],
        env={
            **os.environ,
            "_EDGEPACK_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(position),
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout, done.stderr


def test_names_of_targets_and_devices_complete(tmp_path):
    out, _ = complete("edgepack compile m.onnx --target rp", 4)
    assert {line.split(",")[1] for line in out.splitlines()} == {"rpi3", "rpi4", "rpi5"}
    folder = tmp_path / "config/edgepack"
    folder.mkdir(parents=True)
    (folder / "devices.yaml").write_text("edgepack: 1\ndevices:\n  kitchen: {host: pi, target: rpi4}\n")
    assert complete("edgepack devices info ki", 3)[0] == "plain,kitchen\n"
    (folder / "devices.yaml").write_text("nonsense: 1\n")
    assert complete("edgepack devices info ki", 3) == ("\n", "")


def test_brackets_in_what_a_stage_says_are_text(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    with LiveListener() as listener:
        listener(StageStarted(scope=scope("tune", target="rpi4", candidate="release"), why="first run"))
        listener(Advanced(text="connection lost ([/dev/null] is gone)", share=0.5))
        listener._progress.refresh()
        rendered = io.StringIO()
        listener._console.file = rendered
        listener._console.print(listener._progress.get_renderable())
    assert "[/dev/null] is gone" in rendered.getvalue().replace("\n", " ").replace("  ", " ")


HOSTILE = "\x1b[2Jpi\u202e\x9b31m\nerror: forged"


def test_what_a_terminal_would_obey_is_shown(capsys, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "400")
    guard(
        raising(UnreachableError(HOSTILE, where=HOSTILE, why=HOSTILE, state=HOSTILE, next=HOSTILE)),
        as_json=False,
    )
    guard(
        raising(UnsupportedError(HOSTILE, [ModelProblem("o", HOSTILE, HOSTILE, HOSTILE, HOSTILE)] * 2)),
        as_json=False,
    )
    guard(raising(ConfigError([Problem(HOSTILE, 1, 1, HOSTILE)])), as_json=False)
    guard(raising(click.UsageError(HOSTILE)), as_json=False)
    guard(raising(RuntimeError(HOSTILE)), as_json=False)
    say(HOSTILE)
    plain = PlainListener(sys.stderr)
    live = LiveListener()
    live._console.file = sys.stderr
    placed = {"target": HOSTILE, "candidate": HOSTILE}
    for listener in (plain, live):
        listener(StageStarted(scope=scope(HOSTILE, **placed), why=HOSTILE))
        listener(Advanced(text=HOSTILE))
        listener(ended(HOSTILE, "failed", why=HOSTILE, **placed))
    live._console.print(live._progress.get_renderable())
    said = capsys.readouterr()
    shown = re.sub(r"\x1b\[[0-9;]*m", "", said.out + said.err)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", shown)
    assert r"\x1b[2Jpi\u202e\x9b31m" in said.err
    assert said.out == r"\x1b[2Jpi\u202e\x9b31m\nerror: forged" + "\n"
    assert not re.search("^error: forged", shown, re.MULTILINE)


def test_commands_print_through_one_module():
    folder = Path(edgepack.cli.__file__).parent
    for path in folder.glob("*.py"):
        printed = re.findall(r"\bclick\.s?echo|(?<![\w.])print\(|std(?:out|err)\.write", path.read_text())
        assert not printed or path.name == "console.py", path


def test_the_time_that_is_left_is_said_with_the_progress(monkeypatch):
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr("time.monotonic", lambda: float(next(clock)))
    out = io.StringIO()
    listener = PlainListener(out)
    listener(StageStarted(scope=scope("train"), why="first run"))
    for epoch in (1, 2, 3):
        listener(Advanced(text=f"epoch {epoch}/9", share=epoch / 9))
    first, second, third = out.getvalue().splitlines()
    assert first == "  epoch 1/9"
    assert re.fullmatch(r"  epoch 2/9, about \d min left", second)
    assert third.startswith("  epoch 3/9, about")


def test_plain_progress_is_a_line_for_each_stage_that_ended():
    out = io.StringIO()
    listener = PlainListener(out)
    here = {"target": "rpi4", "candidate": "release"}
    listener(StageStarted(scope=scope("compile", **here), why="first run"))
    listener(ended("compile", "failed", seconds=1.25, why="no", **here))
    listener(ended("evaluate", "shared"))
    listener(ended("bench", "skipped", why="no device", target="rpi4", device="pi"))
    first, second = out.getvalue().splitlines()
    assert first.split() == ["✗", "compile", "rpi4", "release", "1.2", "s", "no"]
    assert second.split() == ["-", "bench", "rpi4", "skipped", "no", "device"]


def test_a_device_is_named_where_its_target_has_several():
    out = io.StringIO()
    listener = PlainListener(out)
    placements = tuple(Placement(target="rpi4", device=name) for name in ("pi", "pi2"))
    listener(
        RunStarted(
            run_id="r", started="now", until="bench", recipe=RecipeRef(name="r", version="1", digest="0"),
            gates=Gates(), tools={}, host=Host(system="Linux", machine="x86_64", cores=2, python="3.11"),
            placements=(*placements, Placement(target="rpi5", device="five")),
        )
    )  # fmt: skip
    listener(ended("deploy", "done", target="rpi4", candidate="release", device="pi2"))
    listener(ended("deploy", "done", target="rpi5", candidate="release", device="five"))
    first, second = out.getvalue().splitlines()
    assert first.split()[:5] == ["✓", "deploy", "rpi4", "release", "pi2"]
    assert "five" not in second


def test_bytes_sent_are_said_with_their_share():
    assert Advanced.sent(500_000, 2_000_000) == Advanced(text="500.0 kB of 2.0 MB sent", share=0.25)
    assert Advanced.sent(0, 0).share == 1.0


@pytest.mark.parametrize(
    ("reason", "memory", "lines"),
    [
        ("it calls tvm.contrib.random.normal", None, ["vm: it calls tvm.contrib.random.normal"]),
        (None, None, ["vm"]),
        (None, (9000, 64, 64, 0), ["vm", "9.0 kB of weights, 64 B of arena, 0 B for each thread"]),
        (
            None,
            (0, 128, 64, 9),
            ["vm", "0 B of weights, 128 B of arena (at least 64 B), 9 B for each thread"],
        ),
    ],
)
def test_what_runs_a_model_is_described(reason, memory, lines):
    keys = ("weights", "arena", "arena_least", "workspace")
    plan = None if memory is None else MemoryPlan(**dict(zip(keys, memory, strict=True)))
    assert describe_execution("vm", reason, plan) == lines
