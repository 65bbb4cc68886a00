"""The store of objects: versions decide, whatever the order of arrival."""

import itertools
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unjucks_operator.engine.store import TOMBSTONES, Manifest, ObjectKey, ResourceStore


def body(name: str, version: int, *, namespace: str = "", **spec: Any) -> Manifest:
    metadata: dict[str, Any] = {"name": name, "resourceVersion": str(version), "managedFields": [{"manager": "x"}]}
    if namespace:
        metadata["namespace"] = namespace
    return {"metadata": metadata, "spec": spec}


class Log:
    """Keeps what a subscriber is told."""

    def __init__(self, store: ResourceStore) -> None:
        self.told: list[tuple[ObjectKey, str, str]] = []
        store.subscribe(self.note)

    def note(self, key: ObjectKey, before: Manifest | None, after: Manifest | None) -> None:
        self.told.append((key, self.version(before), self.version(after)))

    @staticmethod
    def version(found: Manifest | None) -> str:
        return found["metadata"]["resourceVersion"] if found else "-"


@pytest.fixture
def store() -> ResourceStore:
    return ResourceStore()


def test_newer_replaces_older_and_never_the_other_way(store: ResourceStore) -> None:
    log = Log(store)
    assert store.put(body("a", 5))
    assert not store.put(body("a", 5))
    assert not store.put(body("a", 4))
    assert store.put(body("a", 10)), "versions are numbers, not text"
    assert log.told == [(("", "a"), "-", "5"), (("", "a"), "5", "10")]


def test_managed_fields_are_dropped_and_the_callers_object_is_left_alone(store: ResourceStore) -> None:
    given_body = body("a", 1)
    store.put(given_body)
    stored = store.get(("", "a"))
    assert stored is not None
    assert "managedFields" not in stored["metadata"]
    assert "managedFields" in given_body["metadata"]


def test_a_removed_object_is_not_revived_by_a_late_answer(store: ResourceStore) -> None:
    store.put(body("a", 5))
    assert store.remove(body("a", 8))
    assert not store.put(body("a", 7))
    assert ("", "a") not in store
    assert store.put(body("a", 9)), "a new object of that name"


def test_a_late_deletion_does_not_remove_the_successor(store: ResourceStore) -> None:
    store.put(body("a", 9))
    assert not store.remove(body("a", 8))
    assert ("", "a") in store


def test_a_deletion_that_comes_first_holds(store: ResourceStore) -> None:
    assert not store.remove(body("a", 8))
    assert not store.put(body("a", 5))
    assert len(store) == 0


def test_tombstones_are_bounded(store: ResourceStore) -> None:
    for number in range(TOMBSTONES + 10):
        store.remove(body(f"n-{number}", number + 1))
    assert len(store._tombstones) == TOMBSTONES


def test_ghosts_go_and_what_is_newer_than_the_list_stays(store: ResourceStore) -> None:
    for name, version in (("kept", 3), ("ghost", 4), ("born-later", 11)):
        store.put(body(name, version))
    assert store.drop_ghosts([("", "kept")], 10) == [("", "ghost")]
    assert sorted(store.keys()) == [("", "born-later"), ("", "kept")]
    assert not store.put(body("ghost", 4)), "a stale event does not bring it back"


def test_lacks_tells_missing_from_stale_from_deleted(store: ResourceStore) -> None:
    store.put(body("a", 5))
    store.remove(body("gone", 7))
    assert store.lacks(("", "a"), 5) is None
    assert store.lacks(("", "a"), 6) == "stale"
    assert store.lacks(("", "b"), 1) == "missing"
    assert store.lacks(("", "gone"), 7) is None
    assert store.lacks(("", "gone"), 8) == "missing"


def test_after_a_restored_backup_everything_starts_anew(store: ResourceStore) -> None:
    store.put(body("a", 500))
    store.remove(body("b", 501))
    log = Log(store)
    store.reset()
    assert log.told == [(("", "a"), "500", "-")]
    assert store.put(body("a", 20))
    assert store.put(body("b", 21))
    assert store.newest() == 21


def test_namespaces_keep_names_apart(store: ResourceStore) -> None:
    store.put(body("a", 1, namespace="x"))
    store.put(body("a", 2, namespace="y"))
    assert sorted(store.keys()) == [("x", "a"), ("y", "a")]
    assert len(list(store)) == 2


@given(st.lists(st.sampled_from(["put", "delete"]), min_size=1, max_size=6), st.integers(0, 10_000))
def test_any_order_of_arrival_ends_in_the_same_state(history: list[str], seed: int) -> None:
    """One object's life, with its events shuffled and repeated: the end is that of the last event."""
    events = list(enumerate(history, start=1))
    shuffled = list(itertools.chain(events, events))
    random.Random(seed).shuffle(shuffled)
    store = ResourceStore()
    for version, kind in shuffled:
        (store.put if kind == "put" else store.remove)(body("a", version))
    last_version, last_kind = events[-1]
    found = store.get(("", "a"))
    if last_kind == "put":
        assert found is not None
        assert found["metadata"]["resourceVersion"] == str(last_version)
    else:
        assert found is None
