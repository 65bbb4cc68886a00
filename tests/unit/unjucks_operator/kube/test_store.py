"""The store against a model of an API server: watch events in order, duplicates, late answers to writes, relists, in any mix."""

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from unjucks_operator.kube.child import Child
from unjucks_operator.kube.resources import CONFIG_MAP
from unjucks_operator.kube.store import ChildStore

NAMES = ("a", "b", "c")
LABELS = ("left", "right", "")


def child(name: str, version: int, *, uid: str = "u", side: str = "left", namespace: str = "n") -> Child:
    return Child(
        resource=CONFIG_MAP,
        namespace=namespace,
        name=name,
        uid=uid,
        resource_version=version,
        labels={"side": side} if side else {},
        annotations={},
        deleting=False,
        signature="",
        posted_by=(),
    )


def store() -> ChildStore:
    return ChildStore(lambda found: found.labels.get("side"))


class ServerAndStore(RuleBasedStateMachine):
    """``history`` is what happened on the server: (version, name, state or None for a deletion)."""

    def __init__(self) -> None:
        super().__init__()
        self.version = 1
        self.truth: dict[str, Child] = {}
        self.history: list[tuple[int, str, Child | None]] = []
        self.watched = 0  # how much of the history the watch has delivered
        self.listed = 0
        self.store = store()
        self.uids = 0
        self.last_version: dict[str, tuple[str, int]] = {}

    @rule(name=st.sampled_from(NAMES), side=st.sampled_from(LABELS))
    def server_writes(self, name: str, side: str) -> None:
        self.version += 1
        known = self.truth.get(name)
        if known is None:
            self.uids += 1
        uid = known.uid if known else f"uid-{self.uids}"
        self.truth[name] = child(name, self.version, uid=uid, side=side)
        self.history.append((self.version, name, self.truth[name]))

    @precondition(lambda self: self.truth)
    @rule(data=st.data())
    def server_deletes(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.truth)))
        self.version += 1
        del self.truth[name]
        self.history.append((self.version, name, None))

    @precondition(lambda self: self.watched < len(self.history))
    @rule()
    def watch_delivers(self) -> None:
        self._deliver(self.watched)
        self.watched += 1

    @precondition(lambda self: self.watched > 0)
    @rule(back=st.integers(1, 5))
    def watch_reconnects_and_repeats(self, back: int) -> None:
        for position in range(max(0, self.watched - back), self.watched):
            if self.history[position][0] > self.listed:
                self._deliver(position)

    @precondition(lambda self: self.history)
    @rule(data=st.data())
    def an_answer_to_a_write_arrives(self, data: st.DataObject) -> None:
        """At once or arbitrarily late: any state that ever was."""
        states = [state for _, _, state in self.history if state is not None]
        if states:
            self.store.put(data.draw(st.sampled_from(states)))

    @rule()
    def bookmark(self) -> None:
        if self.watched == len(self.history):
            self.store.heard(self.version)

    @rule()
    def relist(self) -> None:
        before = {found.key: found for found in self.store}
        changes = self.store.replace(self.truth.values(), self.version)
        self.watched = len(self.history)
        self.listed = self.version
        after = {found.key: found for found in self.store}
        # The changes are exactly the difference, so whoever listens ends where the store is.
        for old, new in changes:
            key = (new or old).key  # type: ignore[union-attr]
            assert before.get(key) is old
            if new is None:
                del before[key]
            else:
                before[key] = new
        assert before == after
        self._require_truth()

    @invariant()
    def never_older(self) -> None:
        for found in self.store:
            uid, version = self.last_version.get(found.name, ("", 0))
            assert found.resource_version >= version or found.uid != uid
        self.last_version = {found.name: (found.uid, found.resource_version) for found in self.store}

    @invariant()
    def indexes_agree(self) -> None:
        everything = set(self.store)
        assert set(self.store.in_namespace("n")) == everything
        for side in ("left", "right"):
            assert set(self.store.indexed(side)) == {found for found in everything if found.labels.get("side") == side}
        assert len(self.store) == len(everything)

    @invariant()
    def what_was_heard_to_be_deleted_stays_away(self) -> None:
        heard = self.history[self.watched - 1][0] if self.watched else 0
        for found in self.store:
            gone = [
                version
                for version, name, state in self.history
                if name == found.name and state is None and found.resource_version < version <= heard
            ]
            assert not gone

    def teardown(self) -> None:
        while self.watched < len(self.history):
            self.watch_delivers()
        self._require_truth()

    def _deliver(self, position: int) -> None:
        version, name, state = self.history[position]
        if state is None:
            self.store.remove("n", name, version)
        else:
            self.store.put(state)
            self.store.heard(version)

    def _require_truth(self) -> None:
        assert {found.name: found.resource_version for found in self.store} == {
            name: found.resource_version for name, found in self.truth.items()
        }


ServerAndStore.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestServerAndStore = ServerAndStore.TestCase


def test_a_late_answer_does_not_raise_the_dead() -> None:
    kept = store()
    kept.put(child("a", 5))
    assert kept.remove("n", "a", 7) is not None
    assert kept.put(child("a", 5)) is None
    assert kept.put(child("a", 6)) is None
    assert kept.put(child("a", 8, uid="v")) is not None


def test_a_late_answer_does_not_raise_what_a_relist_did_not_have() -> None:
    kept = store()
    assert kept.replace([], 10) == []
    assert kept.put(child("a", 5)) is None
    assert len(kept) == 0


def test_a_deletion_of_an_older_state_leaves_the_newer_one() -> None:
    kept = store()
    newer = child("a", 9, uid="v")
    kept.put(newer)
    assert kept.remove("n", "a", 7) is None
    assert kept.get("n", "a") is newer


def test_a_relist_keeps_what_was_written_after_it() -> None:
    kept = store()
    old, fresh = child("old", 3), child("fresh", 12)
    kept.put(old)
    kept.put(fresh)
    assert kept.replace([], 10) == [(old, None)]
    assert list(kept) == [fresh]


def test_reset_forgets_versions_too() -> None:
    kept = store()
    kept.put(child("a", 100))
    kept.heard(200)
    assert [old.name for old, new in kept.reset() if old and new is None] == ["a"]
    assert kept.newest == 0
    assert kept.put(child("a", 3)) is not None


@pytest.mark.parametrize("namespace", [None, ""])
def test_cluster_scoped_children_have_no_namespace(namespace: str | None) -> None:
    kept = store()
    kept.put(replace(child("a", 1), namespace=""))
    assert kept.get(namespace, "a") is not None
    assert len(kept.in_namespace("")) == 1
