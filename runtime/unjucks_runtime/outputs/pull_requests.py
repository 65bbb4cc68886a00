"""Pull requests of GitHub and Gitea, merge requests of GitLab: one open request for a branch, found before it is made.

The endpoint comes from the operator's configuration and never from the tenant, so a tenant's token goes nowhere else. A request
that is there is left as people edited it: the push has updated it. Of two that are made at once the host refuses the second,
which is then found. Called by ``outputs.tasks`` after the push.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote, urlencode

import orjson

from unjucks_api.courier_protocol import GitProvider, PullRequest
from unjucks_api.reasons import Reason
from unjucks_runtime.courier.errors import CourierError
from unjucks_runtime.courier.git_transport import said_text, secret_bytes, secret_text
from unjucks_runtime.courier.net import GuardedPoolManager, Network, check_url, printable_url, read_body

_MAX_ANSWER = 4 * 1024 * 1024
_LABEL_COLOUR = "#8b5cf6"
_EXISTS = frozenset({409, 422})


@dataclass(frozen=True, slots=True)
class Opened:
    """A request as ``status.output.pullRequest`` shows it."""

    number: int
    state: str
    url: str

    @property
    def facts(self) -> dict[str, Any]:
        """For status."""
        return {"number": self.number, "state": self.state, "url": self.url}


class Api:
    """JSON over the guarded way out. ``header``: how the host wants the token."""

    def __init__(self, pool: GuardedPoolManager, network: Network, base: str, header: Mapping[str, str]) -> None:
        self._pool = pool
        self._network = network
        self._base = base.rstrip("/")
        self._header = dict(header)

    def call(
        self, method: str, path: str, body: Any = None, *, accept: frozenset[int] = frozenset()
    ) -> tuple[int, Any]:
        """(status, answer). A status of ``accept`` is no error. Raises CourierError: AuthenticationFailed, PublishFailed."""
        headers = self._header | {"Accept": "application/json"}
        data = None
        if body is not None:
            data = orjson.dumps(body)
            headers["Content-Type"] = "application/json"
        url = self._base + path
        response = self._pool.request(method, url, body=data, headers=headers, preload_content=False)
        what = f"{method} {printable_url(url)}"
        content = read_body(self._network, response, _MAX_ANSWER, what)
        if response.status in (401, 403):
            raise CourierError(
                Reason.AUTHENTICATION_FAILED,
                f"{what}: the token of the Secret was refused (HTTP {response.status}); it has to be allowed to open requests",
            )
        if response.status >= 400 and response.status not in accept:
            retryable = response.status >= 500 or response.status == 429
            raise CourierError(
                Reason.PUBLISH_FAILED, f"{what}: HTTP {response.status}: {_said(content)}", retryable=retryable
            )
        try:
            return response.status, orjson.loads(content) if content else None
        except ValueError:
            raise CourierError(
                Reason.PUBLISH_FAILED, f"{what}: the answer is no JSON; is the endpoint right?"
            ) from None


class Host(Protocol):
    """One kind of host."""

    def find(self, base: str, branch: str) -> Opened | None:
        """The open request from branch to base."""

    def create(self, base: str, branch: str, asked: PullRequest) -> Opened | None:
        """Make it; None when the host says that there is one."""


def ensure_request(asked: PullRequest, base: str, branch: str, secret: Mapping[str, str], network: Network) -> Opened:
    """The open request for the branch, made when there is none. Raises CourierError."""
    check_url(asked.api, ("https", "http") if asked.api.startswith("http://") else ("https",))
    token = secret_text(secret, "token", "bearerToken", "password")
    if not token:
        raise CourierError(
            Reason.AUTHENTICATION_FAILED,
            "the Secret has no key token (nor password): the API needs one for pull requests",
        )
    authority = secret_bytes(secret, "ca.crt", "caFile") or None
    pool = network.http(authority=authority, plain=asked.api.startswith("http://"))
    host = _HOSTS[asked.provider](Api(pool, network, asked.api, _HEADERS[asked.provider](token)), asked.repository)
    for _ in range(2):
        found = host.find(base, branch) or host.create(base, branch, asked)
        if found is not None:
            return found
    raise CourierError(
        Reason.PUBLISH_FAILED,
        f"{printable_url(asked.api)} says that a request from {branch} to {base} exists, and does not list it",
        retryable=True,
    )


class _GitHub:
    def __init__(self, api: Api, repository: str) -> None:
        self._api = api
        self._repository = repository
        self._path = f"/repos/{quote(repository)}"

    def find(self, base: str, branch: str) -> Opened | None:
        owner = self._repository.partition("/")[0]
        query = urlencode({"state": "open", "base": base, "head": f"{owner}:{branch}"})
        _, found = self._api.call("GET", f"{self._path}/pulls?{query}")
        mine = [it for it in _list(found) if _leads(it, base, branch)]
        return _opened(mine[0], "number", "html_url") if mine else None

    def create(self, base: str, branch: str, asked: PullRequest) -> Opened | None:
        body = {"title": asked.title, "body": asked.body, "head": branch, "base": base, "draft": asked.draft}
        status, made = self._api.call("POST", f"{self._path}/pulls", body, accept=_EXISTS)
        if status in _EXISTS:
            _refuse_unless_exists(made, branch)
            return None
        opened = _opened(made, "number", "html_url")
        if asked.labels:
            self._api.call("POST", f"{self._path}/issues/{opened.number}/labels", {"labels": asked.labels})
        return opened


class _Gitea:
    def __init__(self, api: Api, repository: str) -> None:
        self._api = api
        self._path = f"/repos/{quote(repository)}"

    def find(self, base: str, branch: str) -> Opened | None:
        # The list cannot be filtered by head; the one for two branches can be asked for, and is the newest of any state.
        wanted = f"{self._path}/pulls/{quote(base, safe='')}/{quote(branch, safe='')}"
        status, found = self._api.call("GET", wanted, accept=frozenset({404}))
        if status != 404 and _at(found, "state") == "open" and _leads(found, base, branch):
            return _opened(found, "number", "html_url")
        query = urlencode({"state": "open", "sort": "recentupdate", "limit": "50"})
        _, pulls = self._api.call("GET", f"{self._path}/pulls?{query}")
        mine = [it for it in _list(pulls) if _leads(it, base, branch)]
        return _opened(mine[0], "number", "html_url") if mine else None

    def create(self, base: str, branch: str, asked: PullRequest) -> Opened | None:
        title = f"WIP: {asked.title}" if asked.draft else asked.title
        body = {"title": title, "body": asked.body, "head": branch, "base": base}
        if asked.labels:
            body["labels"] = self._labels(asked.labels)  # type: ignore[assignment]
        status, made = self._api.call("POST", f"{self._path}/pulls", body, accept=_EXISTS)
        if status in _EXISTS:
            _refuse_unless_exists(made, branch)
            return None
        return _opened(made, "number", "html_url")

    def _labels(self, names: list[str]) -> list[int]:
        _, listed = self._api.call("GET", f"{self._path}/labels?limit=50")
        known = {str(it["name"]): int(it["id"]) for it in _list(listed) if "name" in it and "id" in it}
        for name in names:
            if name not in known:
                _, made = self._api.call("POST", f"{self._path}/labels", {"name": name, "color": _LABEL_COLOUR})
                known[name] = int(made["id"])
        return [known[name] for name in names]


class _GitLab:
    def __init__(self, api: Api, repository: str) -> None:
        self._api = api
        self._path = f"/projects/{quote(repository, safe='')}/merge_requests"

    def find(self, base: str, branch: str) -> Opened | None:
        query = urlencode({"state": "opened", "source_branch": branch, "target_branch": base})
        _, found = self._api.call("GET", f"{self._path}?{query}")
        mine = [
            it
            for it in _list(found)
            if (it.get("source_branch"), it.get("target_branch")) == (branch, base)
            and it.get("source_project_id") == it.get("target_project_id")
        ]
        return _opened(mine[0], "iid", "web_url") if mine else None

    def create(self, base: str, branch: str, asked: PullRequest) -> Opened | None:
        body = {
            "title": f"Draft: {asked.title}" if asked.draft else asked.title,
            "description": asked.body,
            "source_branch": branch,
            "target_branch": base,
            "labels": ",".join(asked.labels),
        }
        status, made = self._api.call("POST", self._path, body, accept=_EXISTS)
        if status in _EXISTS:
            _refuse_unless_exists(made, branch)
            return None
        return _opened(made, "iid", "web_url")


_HOSTS: dict[GitProvider, Callable[[Api, str], Host]] = {
    GitProvider.GITHUB: _GitHub,
    GitProvider.GITLAB: _GitLab,
    GitProvider.GITEA: _Gitea,
}
_HEADERS: dict[GitProvider, Callable[[str], dict[str, str]]] = {
    GitProvider.GITHUB: lambda token: {"Authorization": f"Bearer {token}", "X-GitHub-Api-Version": "2022-11-28"},
    GitProvider.GITLAB: lambda token: {"PRIVATE-TOKEN": token},
    GitProvider.GITEA: lambda token: {"Authorization": f"token {token}"},
}


def _refuse_unless_exists(answer: Any, branch: str) -> None:
    said = _said(orjson.dumps(answer))
    if "already exists" not in said.lower():
        raise CourierError(Reason.PUBLISH_FAILED, f"the request for {branch} was refused: {said}")


def _opened(answer: Any, number: str, url: str) -> Opened:
    try:
        shown = str(answer[url])
        shown = printable_url(shown) if shown.startswith(("https://", "http://")) else ""
        return Opened(int(answer[number]), "Open", shown)
    except (KeyError, TypeError, ValueError):
        raise CourierError(Reason.PUBLISH_FAILED, "the answer about the request lacks its number or URL") from None


def _list(answer: Any) -> list[Any]:
    return [item for item in answer if isinstance(item, dict)] if isinstance(answer, list) else []


def _at(answer: Any, *keys: str) -> Any:
    for key in keys:
        answer = answer.get(key) if isinstance(answer, dict) else None
    return answer


def _leads(request: Any, base: str, branch: str) -> bool:
    """Whether it is from branch to base in one repository: a fork may name its branch as it likes, and is somebody else's."""
    same = _at(request, "head", "repo", "id") == _at(request, "base", "repo", "id")
    return same and (_at(request, "head", "ref"), _at(request, "base", "ref")) == (branch, base)


def _said(content: bytes) -> str:
    """The host's own words, as far as they are its message."""
    try:
        told = orjson.loads(content)
    except ValueError:
        return ""
    parts = [told.get("message"), told.get("error"), told.get("errors")] if isinstance(told, dict) else [told]
    return said_text("; ".join(str(part) for part in parts if part))
