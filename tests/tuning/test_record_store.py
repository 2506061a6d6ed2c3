"""Records are used only for the target and TVM version they were measured with."""

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tune_kit import target

from edgepack.errors import IntegrityError, LockedError
from edgepack.tuning import store as store_module
from edgepack.tuning.store import RECORDS, WORKLOADS, RecordStore, key, repair

_MEANINGFUL = {
    "tvm": st.fixed_dictionaries(
        {"mcpu": st.sampled_from(["skylake", "znver4"]), "num-cores": st.integers(1, 8)}
    ),
    "abi": st.fixed_dictionaries({"arch": st.just("x86_64"), "libc": st.sampled_from(["2.27", "2.36"])}),
    "cpu": st.fixed_dictionaries(
        {
            "name": st.sampled_from(["any", "other"]),
            "cores": st.integers(1, 8),
            "vector_bits": st.sampled_from([128, 256, 512]),
            "features": st.lists(st.sampled_from(["avx", "fma", "avx512vnni"]), max_size=3).map(tuple),
            "l1d_kib": st.sampled_from([32, 48]),
            "l2_kib": st.sampled_from([256, 1024]),
        }
    ),
}
_targets = st.fixed_dictionaries(_MEANINGFUL).map(lambda blocks: target(**blocks))


@given(_targets, _targets)
def test_two_targets_share_a_key_only_if_they_agree_in_everything_that_matters(one, other):
    same = all(getattr(one, block) == getattr(other, block) for block in ("tvm", "abi", "cpu", "gpu"))
    assert (key(one) == key(other)) == same


@given(_targets, st.text(max_size=20), st.integers(64, 4096), st.integers(1, 9))
def test_words_and_tuning_settings_do_not_change_the_key(one, title, memory, repeats):
    other = one.model_copy(
        update={
            "title": title,
            "memory_mib": memory,
            "tune": one.tune.model_copy(update={"repeats": repeats}),
        }
    )
    assert key(one) == key(other)


@settings(max_examples=20)
@given(one=_targets, other=_targets)
def test_folders_are_as_different_as_keys(tmp_path_factory, one, other):
    store = RecordStore(tmp_path_factory.mktemp("store"))
    assert (store.folder(one) == store.folder(other)) == (key(one) == key(other))
    assert json.loads((store.folder(one) / "key.json").read_text()) == key(one)


def test_the_order_of_keys_in_the_tvm_dict_means_nothing(tmp_path):
    one = target()
    other = one.model_copy(update={"tvm": dict(reversed(one.tvm.items()))})
    assert RecordStore(tmp_path).folder(one) == RecordStore(tmp_path).folder(other)


def test_another_tvm_gets_another_folder(tmp_path, monkeypatch):
    store = RecordStore(tmp_path)
    before = store.folder(target())
    monkeypatch.setattr(store_module, "version", lambda _: "0.28.0")
    assert store.folder(target()) != before


def test_a_folder_whose_key_was_changed_is_refused(tmp_path):
    store = RecordStore(tmp_path)
    path = store.folder(target()) / "key.json"
    changed = copy.deepcopy(key(target()))
    changed["cpu"]["vector_bits"] = 512
    path.write_text(json.dumps(changed))
    with pytest.raises(IntegrityError, match="do not belong to target"):
        store.folder(target())


def test_one_process_tunes_a_target_at_a_time(tmp_path):
    store = RecordStore(tmp_path)
    with store.lock(target()), pytest.raises(LockedError), store.lock(target()):
        pass
    with store.lock(target()) as folder:
        assert folder == store.folder(target())


@given(st.integers(0, 5), st.integers(0, 60))
def test_a_record_cut_off_by_a_crash_is_dropped_and_no_other(tmp_path_factory, whole, cut):
    folder = tmp_path_factory.mktemp("records")
    (folder / WORKLOADS).write_text('["a"]\n["b"]\n')
    lines = [json.dumps([i % 2, ["trace", [0.001 * i]]]) for i in range(whole + 1)]
    text = "".join(f"{line}\n" for line in lines[:-1])
    torn = lines[-1][: min(cut, len(lines[-1]) - 1)]
    (folder / RECORDS).write_text(text + torn)
    assert repair(folder) == (1 if torn else 0)
    assert (folder / RECORDS).read_text() == text


def test_a_torn_workload_takes_its_records_with_it(tmp_path):
    (tmp_path / WORKLOADS).write_text('["a"]\n["b')
    (tmp_path / RECORDS).write_text("[0, 1]\n[1, 2]\n")
    assert repair(tmp_path) == 1
    assert (tmp_path / WORKLOADS).read_text() == '["a"]\n'
    assert (tmp_path / RECORDS).read_text() == "[0, 1]\n"


def test_a_workload_damaged_in_the_middle_is_an_error(tmp_path):
    (tmp_path / WORKLOADS).write_text('["a\n["b"]\n')
    with pytest.raises(IntegrityError, match="workload"):
        repair(tmp_path)
    assert (tmp_path / WORKLOADS).read_text() == '["a\n["b"]\n'
