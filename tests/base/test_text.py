"""Suggestions for misspelt names."""

import ast
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import edgepack
from edgepack.base.text import did_you_mean, near_miss, nearest, suggestion

STAGES = ("train", "load", "prune-channels", "export", "quantize-static", "tune", "compile", "bench")
NAMES = st.lists(st.text("abcdeFG-_", min_size=1, max_size=12), min_size=1, max_size=8, unique_by=str.lower)


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("prune", "prune-channels"), ("prune-chanels", "prune-channels"), ("Tune", "tune"), ("tun", "tune"),
        ("exprot", "export"), ("quant", "quantize-static"), ("zebra", None), ("", None), ("co", None),
    ],
)  # fmt: skip
def test_a_misspelling_and_a_prefix(word, meant):
    assert nearest(word, STAGES) == meant


def test_misspellings_with_repeated_letters():
    assert nearest("FFFFF", ("FFGFFF", "a")) == "FFGFFF"
    assert nearest("babababb", ("abababab",)) == "abababab"
    assert nearest("ab", ("cb",)) is None


def test_letter_case_counts_if_it_distinguishes_names():
    assert nearest("Conv_1", ("conv_1", "Conv_10")) == "Conv_10"
    assert nearest("conv_1", ("Conv_2", "conv_2")) == "conv_2"
    assert nearest("CONV", ("conv2d", "relu")) == "conv2d"


@given(NAMES, st.data())
def test_a_known_name_with_one_letter_off_finds_a_known_name_at_least_as_near(names, data):
    name = data.draw(st.sampled_from(names).filter(lambda name: len(name) > 4))
    at = data.draw(st.integers(0, len(name) - 1))
    assert nearest(name[:at] + name[at + 1 :], names) in names


@given(st.text(max_size=20), NAMES)
def test_messages_list_the_known_names(word, names):
    said = near_miss(word, names)
    meant = nearest(word, names)
    assert (f"did you mean `{meant}`?" in said) if meant else all(name in said for name in names)
    assert suggestion(word, names, otherwise="look") == (f"did you mean {meant}?" if meant else "look")


def test_suggestions_are_not_parsed_from_messages():
    assert did_you_mean("rpi4") == "; did you mean `rpi4`?"
    assert did_you_mean("rpi4", quote="'") == "; did you mean 'rpi4'?"
    assert did_you_mean(None) == ""


def test_suggestions_are_worded_in_one_place():
    package = Path(edgepack.__file__).parent
    written = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "did you mean" in node.value
    }
    assert written == {"base/text.py"}


COMMAND = re.compile(r"(?:^|[:,;`] ?|&& )(?:edgepack|ssh|ssh-keygen|ssh-copy-id|git|rm|mv|python -m) ")
QUOTING = ("quote(", "shlex.quote(", "shlex.join(")
CHECKED = {"name", "kind", "port", "trust"}  # of a pattern that needs no quotes, or quoted before


def test_a_next_step_with_a_command_can_be_pasted():
    """What it names, such as a file with blanks in its name, is quoted for a shell."""
    wrong = []
    for path in sorted(Path(edgepack.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.keyword) or node.arg != "next":
                continue
            for text in (each for each in ast.walk(node.value) if isinstance(each, ast.JoinedStr)):
                words = "".join(
                    str(part.value) if isinstance(part, ast.Constant) else "X" for part in text.values
                )
                if COMMAND.search(words):
                    named = (
                        ast.unparse(part.value)
                        for part in text.values
                        if isinstance(part, ast.FormattedValue)
                    )
                    loose = [
                        n for n in named if not n.startswith(QUOTING) and n.rpartition(".")[2] not in CHECKED
                    ]
                    wrong += [f"{path.name}:{node.value.lineno}: {each}" for each in loose]
    assert not wrong
