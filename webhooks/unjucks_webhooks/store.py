"""The approvers in their Secret: read, judged, and written back under the version that was read, before anything is answered.

    read ──► judge ──► nothing to store: answer
                  └──► store under that version ──► stored: answer      somebody was faster: from the start
                                               └──► no answer: refuse; whether the code counts as used is then not known

Two replicas that get the same code at once read the same version, and the API server lets one of them store. A process that is
killed in between has answered nobody. Called by ``approve`` (codes) and ``command`` (enrolment).
"""

import asyncio
import base64
import random
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, TypeVar

from unjucks_api import names
from unjucks_api.approvals import KEY_BYTES
from unjucks_webhooks import approvers
from unjucks_webhooks.approvers import Approver, Decision
from unjucks_webhooks.kube import Manifest

_TRIES: Final = 12
_PREFIX: Final = "approver."
_T = TypeVar("_T")


class StoreError(Exception):
    """The Secret is missing, broken, or too much in demand; the message says what to do and holds nothing of its content."""


class Secrets(Protocol):
    """What is needed of the API server; ``kube.Kube``."""

    async def get_secret(self, namespace: str, name: str) -> Manifest | None: ...

    async def replace_secret(self, secret: Manifest) -> bool: ...

    async def create_secret(self, secret: Manifest) -> bool: ...


class ApprovalStore:
    """See the module's text. ``now`` gives seconds since 1970."""

    def __init__(self, kube: Secrets, namespace: str, now: Callable[[], float]) -> None:
        self._kube = kube
        self._namespace = namespace
        self._now = now
        self._turns = asyncio.Lock()
        self._jitter = random.Random()  # noqa: S311  spreads retries, no secret

    async def use(self, user: str, code: str, note: Mapping[str, Any]) -> tuple[Decision, bytes]:
        """Judge and use up a code; also the key that seals records. Raises StoreError and KubeError: nothing is approved then."""

        def step(content: dict[str, bytes]) -> Decision:
            stored = content.get(approvers.key_of(user))
            approver = approvers.load(stored) if stored is not None else None
            if approver is not None and approver.user != user:
                approver = None
            decision = approvers.judge(approver, code, self._now(), note)
            if decision.state is not None:
                content[approvers.key_of(user)] = decision.state.dump()
            return decision

        decision, content = await self._change(step)
        return decision, self._key(content)

    async def key(self) -> bytes:
        """The key that seals records."""
        secret = await self._kube.get_secret(self._namespace, names.APPROVALS_SECRET)
        return self._key(self._content(secret))

    async def enrol(self, user: str, *, replace: bool) -> tuple[Approver, tuple[str, ...]]:
        """A new approver with fresh recovery codes. Raises StoreError when there is one and ``replace`` is not set."""
        made, codes = approvers.enrol(user, self._now(), secrets.token_bytes)

        def step(content: dict[str, bytes]) -> None:
            if approvers.key_of(user) in content and not replace:
                raise StoreError(
                    f"{user} is enrolled already; --replace gives a new secret and makes the old one worthless"
                )
            content[approvers.key_of(user)] = made.dump()

        await self._ensure()
        await self._change(step)
        return made, codes

    async def revoke(self, user: str) -> None:
        """The user can approve no longer. Raises StoreError when there is none of that name."""

        def step(content: dict[str, bytes]) -> None:
            self._known(content, user)
            del content[approvers.key_of(user)]

        await self._change(step)

    async def renew_recovery_codes(self, user: str) -> tuple[str, ...]:
        """Ten new recovery codes instead of the old ones."""

        def step(content: dict[str, bytes]) -> tuple[str, ...]:
            changed, codes = approvers.with_new_recovery_codes(self._known(content, user), secrets.token_bytes)
            content[approvers.key_of(user)] = changed.dump()
            return codes

        return (await self._change(step))[0]

    async def unlock(self, user: str) -> None:
        """Forget the failed tries."""

        def step(content: dict[str, bytes]) -> None:
            content[approvers.key_of(user)] = approvers.unlocked(self._known(content, user)).dump()

        await self._change(step)

    async def all(self) -> list[Approver]:
        """Everybody who is enrolled, by name."""
        content = self._content(await self._kube.get_secret(self._namespace, names.APPROVALS_SECRET))
        found = [approvers.load(value) for key, value in content.items() if key.startswith(_PREFIX)]
        return sorted(found, key=lambda approver: approver.user)

    # --- inside -----------------------------------------------------------------------------------------------------------

    async def _change(self, step: Callable[[dict[str, bytes]], _T]) -> tuple[_T, dict[str, bytes]]:
        """Apply ``step`` to the content and store it if that changed it; again from the start when somebody was faster.

        Within this process everybody waits for the turn, so that only other replicas can be faster.
        """
        async with self._turns:
            return await self._compare_and_set(step)

    async def _compare_and_set(self, step: Callable[[dict[str, bytes]], _T]) -> tuple[_T, dict[str, bytes]]:
        for attempt in range(_TRIES):
            secret = await self._kube.get_secret(self._namespace, names.APPROVALS_SECRET)
            before = self._content(secret)
            content = dict(before)
            try:
                result = step(content)
            except ValueError as error:
                raise StoreError(
                    f"Secret {self._namespace}/{names.APPROVALS_SECRET} holds a broken record ({error}); enrol the user again"
                ) from None
            if content == before:
                return result, content
            assert secret is not None
            secret["data"] = {key: base64.b64encode(value).decode() for key, value in content.items()}
            if await self._kube.replace_secret(secret):
                return result, content
            await asyncio.sleep(self._jitter.uniform(0, 0.01 * 2 ** min(attempt, 5)))
        raise StoreError("too many approvals at once; try again in a moment")

    async def _ensure(self) -> None:
        """Make the Secret when there is none: the operator does that too, whoever is first."""
        if await self._kube.get_secret(self._namespace, names.APPROVALS_SECRET) is not None:
            return
        labels = {names.LABEL_NAME: names.PART_OF, names.LABEL_PART_OF: names.PART_OF}
        key = base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()
        await self._kube.create_secret(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "type": "Opaque",
                "metadata": {"name": names.APPROVALS_SECRET, "namespace": self._namespace, "labels": labels},
                "data": {names.APPROVALS_KEY: key},
            }
        )

    def _content(self, secret: Manifest | None) -> dict[str, bytes]:
        if secret is None:
            raise StoreError(
                f"there is no Secret {self._namespace}/{names.APPROVALS_SECRET}; the operator makes it when it starts with the "
                "webhooks enabled"
            )
        try:
            return {key: base64.b64decode(value, validate=True) for key, value in (secret.get("data") or {}).items()}
        except ValueError:
            raise StoreError(f"Secret {self._namespace}/{names.APPROVALS_SECRET} is not readable") from None

    def _key(self, content: Mapping[str, bytes]) -> bytes:
        key = content.get(names.APPROVALS_KEY, b"")
        if len(key) < KEY_BYTES:
            raise StoreError(
                f"Secret {self._namespace}/{names.APPROVALS_SECRET} has no usable {names.APPROVALS_KEY}; restart the operator"
            )
        return key

    def _known(self, content: Mapping[str, bytes], user: str) -> Approver:
        stored = content.get(approvers.key_of(user))
        if stored is None:
            raise StoreError(f"{user} is not enrolled; `unjucks-webhooks list` shows who is")
        return approvers.load(stored)
