"""Labelled text: tokens, vocabulary, and errors with their line."""

import csv
import json
import pydoc_data.topics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepack.data import load_data
from edgepack.data.text import build_vocabulary, encode_bytes, encode_words, pad, words
from edgepack.errors import InputError
from edgepack.spec import Data, Text


def jsonl(tmp_path, rows):
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def load(tmp_path, kind="jsonl", **options):
    return load_data(Data(**{kind: Text(**{"file": f"t.{kind}", "length": 6, **options})}), tmp_path)


ROWS = [
    {"text": f"The {word} sat, again!", "label": label}
    for label, word in enumerate(["cat", "dog"])
    for _ in range(5)
]


def test_words_become_ids_of_the_training_splits_vocabulary(tmp_path):
    jsonl(tmp_path, ROWS)
    got = load(tmp_path)
    assert got.x_train.shape == (8, 6)
    assert got.x_train.dtype == np.int64
    assert got.classes == ("0", "1")
    assert got.vocabulary == ("<pad>", "<unk>", "!", ",", "again", "sat", "the", "cat", "dog")
    decoded = [got.vocabulary[i] for i in got.x_train[0]]
    assert decoded == ["the", "cat", "sat", ",", "again", "!"]


def test_the_vocabulary_does_not_look_at_the_test_split(tmp_path):
    jsonl(tmp_path, [{"text": f"unique{i}", "label": i % 2} for i in range(20)])
    got = load(tmp_path)
    assert len(got.vocabulary) == 2 + len(got.x_train)
    assert set(got.x_test[:, 0]) == {1}, "words of the test split alone are unknown"


def test_real_text_in_csv_with_quotes_and_newlines(tmp_path):
    topics = pydoc_data.topics.topics
    rows = [(text, "long" if len(text) > 3000 else "short") for text in topics.values()]
    with (tmp_path / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("body", "size"), *rows])
    got = load(tmp_path, "csv", text="body", label="size", length=64, vocabulary=500)
    assert got.classes == ("long", "short")
    assert len(got.x_train) + len(got.x_test) == len(topics)
    assert len(got.vocabulary) == 500
    assert 0 <= got.x_train.min() <= got.x_train.max() < 500


def test_numeric_labels_are_ordered_as_numbers(tmp_path):
    jsonl(tmp_path, [{"text": "a", "label": str(i)} for i in (10, 9, 10, 9, 2, 2)])
    assert load(tmp_path).classes == ("2", "9", "10")


def test_bytes_and_a_users_tokenizer(tmp_path):
    jsonl(tmp_path, ROWS)
    assert load(tmp_path, tokenizer="bytes").x_train[0].tolist() == [byte + 1 for byte in b"The ca"]
    with pytest.raises(InputError, match="the bytes tokenizer needs vocabulary: 257"):
        load(tmp_path, tokenizer="bytes", vocabulary=256)
    (tmp_path / "tok.py").write_text(
        "def lengths(text):\n    import string\n    return [len(word) for word in text.split()]\n"
        "def wild(text):\n    return [9999]\n"
        "def wrong(text):\n    return 'ids'\n"
        "def broken(text):\n    raise KeyError(text)\n"
    )
    assert load(tmp_path, tokenizer="tok:lengths").x_train[0].tolist() == [3, 3, 4, 6, 0, 0]
    for name in ("wild", "wrong"):
        with pytest.raises(InputError, match="must return a list of token ids from 0 to 4095") as caught:
            load(tmp_path, tokenizer=f"tok:{name}")
        assert caught.value.where == f"{tmp_path / 't.jsonl'}:1"
    with pytest.raises(InputError, match="tok:broken failed"):
        load(tmp_path, tokenizer="tok:broken")


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        ('{"text": "a", "label": 1}\n\n{"text": \n', 3, "not JSON"),
        ('{"text": "a", "label": 1}\n[1]\n', 2, "is a list, not an object"),
        ('{"txt": "a", "label": 1}\n', 1, "no key 'text'; did you mean 'txt'"),
        ('{"text": 3, "label": 1}\n', 1, "'text' is not text"),
        ('{"text": "a", "label": 1.5}\n', 1, "neither text nor a whole number"),
        ("[" * 100_000, 1, "not JSON"),
        (b'{"text": "a", "label": 1}\n{"text": "\xff"}', 2, "not UTF-8"),
    ],
)
def test_broken_jsonl_names_the_line(tmp_path, content, line, message):
    (tmp_path / "t.jsonl").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message) as caught:
        load(tmp_path)
    assert caught.value.where == f"{tmp_path / 't.jsonl'}:{line}"


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        ("text,lable\na,1\n", 1, "no column 'label'; did you mean 'lable'"),
        ("text,label\na,1\nb\n", 3, "does not have 2 fields"),
        ("text,label\na,1\nb,2,3\n", 3, "does not have 2 fields"),
        ('text,label\na,1\n"b,2\n', 3, "not CSV"),
        ("", 1, "no column 'text'"),
    ],
)
def test_broken_csv_names_the_line(tmp_path, content, line, message):
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        load(tmp_path, "csv")
    assert caught.value.where == f"{tmp_path / 't.csv'}:{line}"


def test_files_without_samples(tmp_path):
    with pytest.raises(InputError, match="no such data file"):
        load(tmp_path)
    (tmp_path / "t.jsonl").write_text("\n\n")
    with pytest.raises(InputError, match="no samples"):
        load(tmp_path)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(st.text(max_size=40), min_size=1, max_size=8), st.integers(2, 30), st.integers(1, 20))
def test_any_text_encodes_to_ids_in_range(texts, size, length):
    vocabulary = build_vocabulary(texts, size)
    assert len(vocabulary) <= size
    assert len(set(vocabulary)) == len(vocabulary)
    assert vocabulary == build_vocabulary(reversed(texts), size), "the order of texts does not matter"
    ids = {word: i for i, word in enumerate(vocabulary)}
    for text in texts:
        encoded = encode_words(text, ids)
        assert [vocabulary[i] for i in encoded] == [w if w in ids else "<unk>" for w in words(text)]
        assert len(pad(encoded, length)) == length
        assert pad(encoded, length)[: len(encoded)] == encoded[:length]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.text())
def test_bytes_can_be_read_back(text):
    ids = encode_bytes(text)
    assert all(1 <= i <= 256 for i in ids)
    assert bytes(i - 1 for i in ids).decode() == text
