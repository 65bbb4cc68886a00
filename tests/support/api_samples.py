"""Objects that the API accepts and refuses, each pair for one rule. Used twice: against the models and against a real API server.

A pair's two objects differ in what the rule is about and in nothing else. ``message`` is what a user must read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

Body = dict[str, Any]
DIGEST: Final = "sha256:" + "0123456789abcdef" * 4


@dataclass(frozen=True, slots=True)
class Pair:
    """``good`` is accepted; ``bad`` is refused at ``field`` with ``message``. With ``old``: both are updates of that object."""

    id: str
    kind: str
    good: Body
    bad: Body
    field: str
    message: str
    name: str = "sample"
    bad_name: str = ""
    old: Body | None = None


def body(kind: str, spec: Mapping[str, Any], name: str = "sample") -> Body:
    """A whole object of that kind."""
    metadata: Body = {"name": name}
    if kind != "Tenant":
        metadata["namespace"] = "default"
    return {"apiVersion": "unjucks.io/v1alpha1", "kind": kind, "metadata": metadata, "spec": dict(spec)}


def owner(**member: object) -> Body:
    """A Tenant's spec with one owner."""
    return {"members": {"owners": [member]}}


def registry(**spec: object) -> Body:
    """A registry's spec with an inline source."""
    return {"inline": {"files": {"_templates/a/b/c.njk": "x"}}, **spec}


def remote(source: str = "http", interval: str | None = "10m", **fields: object) -> Body:
    """A registry's spec with a fetched source and what it needs; ``fields`` are the source's own."""
    needed: dict[str, Body] = {
        "http": {"url": "https://example.com/t.tgz"},
        "git": {"url": "https://example.com/t.git"},
        "oci": {"url": "oci://example.com/t"},
        "bucket": {"endpoint": "https://s3.example.com", "bucketName": "templates"},
        "sourceRef": {"kind": "GitRepository", "name": "t"},
    }
    return {source: needed[source] | fields} | ({"interval": interval} if interval else {})


def job(**spec: object) -> Body:
    """A job's spec with everything that is needed."""
    return {
        "registryRef": {"name": "platform"},
        "template": {"generator": "api", "action": "crud"},
        "output": {"configMap": {"name": "out"}},
        **spec,
    }


def output(name: str) -> Body:
    """A job's spec with that ConfigMap as its output."""
    return job(output={"configMap": {"name": name}})


def git_output(**fields: object) -> Body:
    """A job's spec with that branch as its output."""
    return job(output={"git": {"url": "https://git.example/acme/orders.git", "secretRef": {"name": "push"}, **fields}})


def source(**fields: object) -> Body:
    """A job's spec with variables from one object."""
    return job(variablesFrom=[{"kind": "Secret", "name": "db", **fields}])


def template(**fields: object) -> Body:
    """A job's spec with other words in ``template``."""
    return job(template={"generator": "api", "action": "crud", **fields})


def egress(**rule: object) -> Body:
    """A Tenant's spec with one destination."""
    return {"network": {"egressTo": [{"ports": [443], **rule}]}}


_LONG = "a" * 64
_NOT_CANONICAL = (
    "an address range is its first address and its length, in the shortest spelling: 203.0.113.0/24, 198.51.100.7/32, "
    "2001:db8::/32; not with host bits, leading zeros or an IPv4 address inside IPv6"
)
_NEVER_OPEN = (
    "this range is never open to tenants: it is loopback, link-local, a metadata service, multicast, reserved or a tunnel; "
    "name addresses outside of the cluster"
)

CEL_PAIRS: Final = (
    Pair(
        "tenant-name-length",
        "Tenant",
        {},
        {},
        "",
        "the name of a Tenant has at most 56 lower-case letters, digits and '-', as tenant-<name> names a namespace",
        name="t" * 56,
        bad_name="t" * 57,
    ),
    Pair(
        "tenant-name-dots",
        "Tenant",
        {},
        {},
        "",
        "the name of a Tenant has at most 56 lower-case letters, digits and '-', as tenant-<name> names a namespace",
        name="acme-example",
        bad_name="acme.example",
    ),
    *(
        Pair(
            f"tenant-namespace-{word}",
            "Tenant",
            {"namespaces": [{"name": f"x-{word}"}]},
            {"namespaces": [{"name": word}]},
            "spec.namespaces[0].name",
            "this namespace belongs to the cluster or the platform; choose one that is neither default, unjucks-system "
            "nor starts with kube- or openshift-",
        )
        for word in ("default", "unjucks-system", "kube-system", "kube-anything", "openshift-monitoring")
    ),
    *(
        Pair(
            f"tenant-egress-spelling-{number}",
            "Tenant",
            egress(cidr=good),
            egress(cidr=bad),
            "spec.network.egressTo[0].cidr",
            _NOT_CANONICAL,
        )
        for number, (good, bad) in enumerate(
            (
                ("203.0.113.0/24", "203.0.113.7/24"),
                ("203.0.113.7/32", "203.0.113.7"),
                ("203.0.113.0/24", "203.0.113.000/24"),
                ("203.0.113.0/24", "0xcb.0.113.0/24"),
                ("198.51.100.0/24", "::ffff:198.51.100.0/120"),
                ("198.51.100.0/24", "::ffff:c633:6400/120"),
                ("2001:db8::/32", "2001:DB8::/32"),
                ("2001:db8::/32", "2001:db8:0::/32"),
                ("2001:db8::/32", "2001:db8::1/32"),
                ("2001:db8:1::/48", "2001:db8:1::%eth0/48"),
                ("0.0.0.0/0", "0.0.0.0/00"),
            )
        )
    ),
    *(
        Pair(
            f"tenant-egress-never-{number}",
            "Tenant",
            egress(cidr=good),
            egress(cidr=bad),
            "spec.network.egressTo[0].cidr",
            _NEVER_OPEN,
        )
        for number, (good, bad) in enumerate(
            (
                ("128.0.0.0/1", "169.254.169.254/32"),
                ("168.0.0.0/7", "169.254.0.0/16"),
                ("126.0.0.0/7", "127.0.0.1/32"),
                ("128.0.0.0/1", "224.0.0.0/4"),
                ("100.100.100.201/32", "100.100.100.200/32"),
                ("::/0", "::/96"),
                ("fd00:ec1::/32", "fd00:ec2::254/128"),
                ("2000::/3", "fe80::/10"),
                ("2000::/3", "2002:a9fe:a9fe::/48"),
            )
        )
    ),
    Pair(
        "tenant-egress-one-destination",
        "Tenant",
        egress(cidr="203.0.113.0/24"),
        egress(cidr="203.0.113.0/24", namespace="acme-build"),
        "spec.network.egressTo[0]",
        "a destination is either a cidr or a namespace: write one of the two",
    ),
    Pair(
        "tenant-egress-some-destination",
        "Tenant",
        egress(namespace="acme-build"),
        egress(),
        "spec.network.egressTo[0]",
        "a destination is either a cidr or a namespace: write one of the two",
    ),
    Pair(
        "tenant-member-namespace-needed",
        "Tenant",
        owner(kind="ServiceAccount", name="ci", namespace="acme-build"),
        owner(kind="ServiceAccount", name="ci"),
        "spec.members.owners[0].namespace",
        "a member of kind ServiceAccount needs the namespace it lives in",
    ),
    *(
        Pair(
            f"tenant-member-namespace-refused-{kind}",
            "Tenant",
            owner(kind=kind, name="ada"),
            owner(kind=kind, name="ada", namespace="acme-build"),
            "spec.members.owners[0].namespace",
            "only a member of kind ServiceAccount has a namespace; leave it out for User and Group",
        )
        for kind in ("User", "Group")
    ),
    *(
        Pair(
            f"tenant-member-reserved-{role}",
            "Tenant",
            {"members": {role: [{"kind": "Group", "name": "engineers"}]}},
            {"members": {role: [{"kind": "Group", "name": "system:masters"}]}},
            f"spec.members.{role}[0].name",
            "names that start with system: belong to Kubernetes itself; name a user, group or service account of your own",
        )
        for role in ("owners", "editors", "viewers")
    ),
    Pair(
        "tenant-renderers-order",
        "Tenant",
        {"renderers": {"min": 2, "max": 2}},
        {"renderers": {"min": 3, "max": 2}},
        "spec.renderers.min",
        "min must not be greater than max",
    ),
    *(
        Pair(
            f"tenant-label-name-{number}",
            "Tenant",
            {"labels": {"team.a_b-c": "x"}},
            {"labels": {key: "x"}},
            "spec.labels",
            "a label is named with at most 63 letters, digits, '-', '_' and '.', and has no prefix of its own",
        )
        for number, key in enumerate(("unjucks.io/tenant", "-team", "team-", _LONG, ""))
    ),
    *(
        Pair(
            f"tenant-member-of-the-cluster-{number}",
            "Tenant",
            owner(kind="ServiceAccount", name="robot", namespace=good),
            owner(kind="ServiceAccount", name="robot", namespace=bad),
            "spec.members.owners[0].namespace",
            "service accounts of the cluster and of the platform are no members; name one that belongs to people's programs",
        )
        for number, (good, bad) in enumerate(
            (
                ("ci", "kube-system"),
                ("mykube-system", "kube-public"),
                ("unjucks", "unjucks-system"),
                ("shift", "openshift-x"),
            )
        )
    ),
    *(
        Pair(
            f"tenant-{part}-rotation-{name}",
            "Tenant",
            {part: {"rotation": {"every": "720h"}}},
            {part: {"rotation": {"every": every}}},
            f"spec.{part}.rotation.every",
            "a password is replaced after 1h at the earliest and after 8760h, one year, at the latest",
        )
        for part in ("database", "cache")
        for name, every in (("short", "59m"), ("long", "8761h"))
    ),
    Pair(
        "tenant-region-moved",
        "Tenant",
        {"region": "eu-1"},
        {"region": "us-1"},
        "spec.region",
        "a tenant stays in its region; make a new Tenant in the other one and move its content",
        old={"region": "eu-1"},
    ),
    Pair(
        "tenant-region-taken-away",
        "Tenant",
        {"region": "eu-1"},
        {},
        "spec.region",
        "a tenant stays in its region; make a new Tenant in the other one and move its content",
        old={"region": "eu-1"},
    ),
    Pair(
        "tenant-database-taken-away",
        "Tenant",
        {"database": {"mode": "Shared"}, "tier": "professional"},
        {"database": {"mode": "None"}, "tier": "professional"},
        "spec.database.mode",
        "a tenant that has a database keeps it: mode cannot change to None; make a new Tenant without a database instead",
        old={"database": {"mode": "Shared"}},
    ),
    Pair(
        "tenant-database-taken-away-from-the-default",
        "Tenant",
        {"database": {"mode": "Shared"}},
        {"database": {"mode": "None"}},
        "spec.database.mode",
        "a tenant that has a database keeps it: mode cannot change to None; make a new Tenant without a database instead",
        old={},
    ),
    Pair(
        "registry-no-source",
        "TemplateRegistry",
        {"configMapRef": {"name": "templates"}},
        {},
        "spec",
        "set exactly one source: inline, configMapRef, http, git, oci, bucket or sourceRef",
    ),
    Pair(
        "registry-two-sources",
        "TemplateRegistry",
        registry(),
        registry(configMapRef={"name": "templates"}),
        "spec",
        "set exactly one source: inline, configMapRef, http, git, oci, bucket or sourceRef",
    ),
    Pair(
        "registry-interval-needed",
        "TemplateRegistry",
        remote("git"),
        remote("git", None),
        "spec.interval",
        "interval is needed: how often the source is looked at, for example 10m",
    ),
    *(
        Pair(
            f"registry-{field}-of-inline",
            "TemplateRegistry",
            remote("bucket") | {field: value},
            registry(**{field: value}),
            "spec",
            "interval, timeout and ignore belong to sources that are fetched: http, git, oci, bucket and sourceRef",
        )
        for field, value in (("interval", "10m"), ("timeout", "30s"), ("ignore", "docs/"))
    ),
    *(
        Pair(
            f"registry-interval-{value}",
            "TemplateRegistry",
            remote("oci", "10s"),
            remote("oci", value),
            "spec.interval",
            "an interval is between 10s and 24h",
        )
        for value in ("9s", "25h")
    ),
    *(
        Pair(
            f"registry-timeout-{value}",
            "TemplateRegistry",
            remote("oci") | {"timeout": "10m"},
            remote("oci") | {"timeout": value},
            "spec.timeout",
            "a timeout of a source is between 1s and 10m",
        )
        for value in ("0s", "11m")
    ),
    *(
        Pair(
            f"registry-http-url-{number}",
            "TemplateRegistry",
            remote("http", url="https://example.com:8443/a?b=c"),
            remote("http", url=url),
            "spec.http.url",
            "the URL starts with https:// and holds neither blanks nor credentials",
        )
        for number, url in enumerate(
            ("http://example.com/t", "https://u:p@example.com/t", "https://example.com/a b", "file:///etc/x")
        )
    ),
    *(
        Pair(
            f"registry-git-url-{number}",
            "TemplateRegistry",
            remote("git", url="ssh://git@example.com:2222/a/t.git", secretRef={"name": "s"}),
            remote("git", url=url, secretRef={"name": "s"}),
            "spec.git.url",
            "the URL is https://host/path or ssh://user@host/path, without a password",
        )
        for number, url in enumerate(
            (
                "http://example.com/t",
                "git@example.com:a/t.git",
                "ssh://git:p@example.com/t",
                "https://u@example.com/t",
                "ext::sh -c x",
            )
        )
    ),
    Pair(
        "registry-git-ssh-secret",
        "TemplateRegistry",
        remote("git", url="ssh://git@example.com/t.git", secretRef={"name": "s"}),
        remote("git", url="ssh://git@example.com/t.git"),
        "spec.git",
        "a repository over ssh needs secretRef with identity and known_hosts",
    ),
    *(
        Pair(
            f"registry-git-verify-{number}",
            "TemplateRegistry",
            remote("git", ref={"semver": "1.x"}, verify={"mode": "TagAndHEAD", "secretRef": {"name": "s"}}),
            remote("git", ref=ref, verify={"mode": "Tag", "secretRef": {"name": "s"}}),
            "spec.git",
            "verify.mode Tag and TagAndHEAD need ref.tag or ref.semver, without ref.commit and ref.name",
        )
        for number, ref in enumerate(({"branch": "main"}, {"tag": "v1", "commit": "a" * 40}))
    ),
    *(
        Pair(
            f"registry-git-ref-{number}",
            "TemplateRegistry",
            remote("git", ref={"branch": "release/1.x"}),
            remote("git", ref={"branch": name}),
            "spec.git.ref.branch",
            "a name of a branch or tag starts with a letter or digit, holds letters, digits and . _ / + @ # = -, but not '..', and "
            "does not end in .lock",
        )
        for number, name in enumerate(("-x", "a..b", "a b", "a.lock", "a~1"))
    ),
    *(
        Pair(
            f"registry-oci-url-{number}",
            "TemplateRegistry",
            remote("oci", url="oci://example.com:5000/a/t"),
            remote("oci", url=url),
            "spec.oci.url",
            "the URL is oci://host/repository, without a tag",
        )
        for number, url in enumerate(("https://example.com/t", "oci://example.com/t:v1", "oci://u:p@example.com/t"))
    ),
    *(
        Pair(
            f"registry-bucket-endpoint-{number}",
            "TemplateRegistry",
            remote("bucket", endpoint="https://s3.example.com:9000"),
            remote("bucket", endpoint=url),
            "spec.bucket.endpoint",
            "the endpoint is https://host, with a port if it needs one, and no path",
        )
        for number, url in enumerate(
            ("http://s3.example.com", "https://s3.example.com/path", "https://u@s3.example.com")
        )
    ),
    *(
        Pair(
            f"registry-inline-path-{number}",
            "TemplateRegistry",
            {"inline": {"files": {"a/{{ name }}/.b..c/d.njk": ""}}},
            {"inline": {"files": {path: ""}}},
            "spec.inline.files",
            "each path is relative, has at most 512 characters, and no part that is empty, '.' or '..'",
        )
        for number, path in enumerate(("", "/a", "a//b", "a/", ".", "a/./b", "..", "../a", "a/../b", "a\\b", "a" * 513))
    ),
    Pair(
        "registry-inline-size",
        "TemplateRegistry",
        {"inline": {"files": {f"f{number}": "x" * 131072 for number in range(4)}}},
        {"inline": {"files": {**{f"f{number}": "x" * 131072 for number in range(4)}, "g": "y"}}},
        "spec.inline.files",
        "the files are more than 512 KiB together; use another source for larger sets",
    ),
    Pair(
        "registry-inline-size-in-bytes",
        "TemplateRegistry",
        {"inline": {"files": {f"f{number}": "ü" * 65536 for number in range(4)}}},
        {"inline": {"files": {f"f{number}": "ü" * 65537 for number in range(4)}}},
        "spec.inline.files",
        "the files are more than 512 KiB together; use another source for larger sets",
    ),
    *(
        Pair(
            f"registry-path-{number}",
            "TemplateRegistry",
            registry(path="./templates/a..b"),
            registry(path=path),
            "spec.path",
            "path is relative to the source and stays inside it: it neither starts with '/' nor holds '..' or a backslash",
        )
        for number, path in enumerate(("/templates", "..", "../x", "a/..", "a/../b", "a\\b"))
    ),
    Pair(
        "registry-name",
        "TemplateRegistry",
        registry(),
        registry(),
        "",
        "the name of a TemplateRegistry is at most 63 characters, so that it can be a label",
        name="r" * 63,
        bad_name="r" * 64,
    ),
    Pair(
        "job-name",
        "GenerationJob",
        job(),
        job(),
        "",
        "the name of a GenerationJob is at most 63 characters, so that it can be a label",
        name="j" * 63,
        bad_name="j" * 64,
    ),
    Pair(
        "job-output-needed",
        "GenerationJob",
        {key: value for key, value in job(dryRun=True).items() if key != "output"},
        {key: value for key, value in job(dryRun=False).items() if key != "output"},
        "spec.output",
        "say where the files go with output, or set dryRun: true",
    ),
    Pair(
        "job-output-empty",
        "GenerationJob",
        output("orders"),
        job(output={}),
        "spec.output",
        "set exactly one output: configMap, secret, git, oci or bucket",
    ),
    Pair(
        "job-output-both",
        "GenerationJob",
        output("orders"),
        job(output={"configMap": {"name": "a"}, "secret": {"name": "b"}}),
        "spec.output",
        "set exactly one output: configMap, secret, git, oci or bucket",
    ),
    Pair(
        "job-output-ours",
        "GenerationJob",
        output("my-unjucks-renderer"),
        output("unjucks-renderer"),
        "spec.output.configMap.name",
        "names that start with unjucks- belong to the platform; choose another",
    ),
    Pair(
        "job-git-folder",
        "GenerationJob",
        git_output(path="services/orders"),
        git_output(path="services/.git"),
        "spec.output.git.path",
        ".git and .unjucks are no folders for generated files",
    ),
    Pair(
        "job-git-branch",
        "GenerationJob",
        git_output(branch="unjucks/orders-1.0"),
        git_output(branch="unjucks/orders..1"),
        "spec.output.git.branch",
        "a branch has no two dots in a row, and ends neither with a dot nor with .lock",
    ),
    Pair(
        "job-git-secret-ours",
        "GenerationJob",
        git_output(secretRef={"name": "push"}),
        git_output(secretRef={"name": "unjucks-renderer"}),
        "spec.output.git.secretRef.name",
        "names that start with unjucks- belong to the platform; choose another",
    ),
    Pair(
        "job-output-root-ca",
        "GenerationJob",
        output("kube-root-ca"),
        output("kube-root-ca.crt"),
        "spec.output.configMap.name",
        "kube-root-ca.crt belongs to Kubernetes; choose another name",
    ),
    Pair(
        "job-variables-from-our-secret",
        "GenerationJob",
        source(name="renderer"),
        source(name="unjucks-renderer"),
        "spec.variablesFrom[0].name",
        "names that start with unjucks- belong to the platform; choose another",
    ),
    Pair(
        "job-variables-target-without-key",
        "GenerationJob",
        source(valuesKey="url", targetPath="database.url"),
        source(targetPath="database.url"),
        "spec.variablesFrom[0].valuesKey",
        "targetPath puts one value in its place: say with valuesKey which one",
    ),
    *(
        Pair(
            f"job-timeout-{text}",
            "GenerationJob",
            job(timeout="59m60s"),
            job(timeout=text),
            "spec.timeout",
            "a timeout is between 1s and 1h",
        )
        for text in ("0s", "2h", "1h1s", "61m")
    ),
    *(
        Pair(
            f"job-{key}",
            "GenerationJob",
            job(ttl={key: "8760h"}),
            job(ttl={key: "8760h1s"}),
            f"spec.ttl.{key}",
            "a lifetime is at most 8760h, one year",
        )
        for key in ("afterSuccess", "afterFailure")
    ),
    Pair(
        "job-check-writes-nothing",
        "GenerationJob",
        job(mode="Check"),
        job(mode="Check", dryRun=True),
        "spec.mode",
        "mode Check compares with an output and writes nothing: set output, and leave dryRun out",
    ),
    Pair(
        "job-check-has-no-conflicts",
        "GenerationJob",
        job(mode="Update", onConflict="Markers"),
        job(mode="Check", onConflict="Markers"),
        "spec.onConflict",
        "mode Check writes nothing, so nothing can be in conflict: leave onConflict out",
    ),
    Pair(
        "job-drift-of-nothing",
        "GenerationJob",
        job(driftDetection={"interval": "30m"}),
        job(driftDetection={"interval": "30m"}, dryRun=True),
        "spec.driftDetection",
        "driftDetection looks at what was published: set output, and leave dryRun and mode Check out",
    ),
    Pair(
        "job-drift-of-a-check",
        "GenerationJob",
        job(driftDetection={"interval": "30m"}, mode="Update"),
        job(driftDetection={"interval": "30m"}, mode="Check"),
        "spec.driftDetection",
        "driftDetection looks at what was published: set output, and leave dryRun and mode Check out",
    ),
    Pair(
        "job-schedule-and-ttl",
        "GenerationJob",
        job(schedule={"cron": "0 3 * * *"}),
        job(schedule={"cron": "0 3 * * *"}, ttl={"afterSuccess": "24h"}),
        "spec.ttl",
        "a scheduled job runs again and again, so it cannot be deleted when it ends: leave ttl out",
    ),
    Pair(
        "job-drift-interval",
        "GenerationJob",
        job(driftDetection={"interval": "1m"}),
        job(driftDetection={"interval": "59s"}),
        "spec.driftDetection.interval",
        "an interval is between 1m and 168h, one week",
    ),
    Pair(
        "job-starting-deadline",
        "GenerationJob",
        job(schedule={"cron": "0 3 * * *", "startingDeadline": "168h"}),
        job(schedule={"cron": "0 3 * * *", "startingDeadline": "30s"}),
        "spec.schedule.startingDeadline",
        "a starting deadline is between 1m and 168h, one week",
    ),
    *(
        Pair(
            f"job-retry-{key}",
            "GenerationJob",
            job(retry={"backoff": {key: "1h"}}),
            job(retry={"backoff": {key: "61m"}}),
            f"spec.retry.backoff.{key}",
            "a pause between attempts is between 1s and 1h",
        )
        for key in ("duration", "cap")
    ),
)

SCHEMA_PAIRS: Final = (
    Pair("tenant-tier", "Tenant", {"tier": "enterprise"}, {"tier": "gold"}, "spec.tier", "supported values"),
    Pair(
        "tenant-no-namespace",
        "Tenant",
        {"namespaces": [{"name": "a"}]},
        {"namespaces": []},
        "spec.namespaces",
        "at least 1",
    ),
    Pair(
        "tenant-namespace-spelling",
        "Tenant",
        {"namespaces": [{"name": "acme-1"}]},
        {"namespaces": [{"name": "Acme"}]},
        "spec.namespaces[0].name",
        "should match",
    ),
    Pair(
        "tenant-namespace-twice",
        "Tenant",
        {"namespaces": [{"name": "a"}, {"name": "b"}]},
        {"namespaces": [{"name": "a"}, {"name": "a"}]},
        "spec.namespaces[1]",
        "Duplicate value",
    ),
    Pair(
        "tenant-namespaces-many",
        "Tenant",
        {"namespaces": [{"name": f"n{number}"} for number in range(20)]},
        {"namespaces": [{"name": f"n{number}"} for number in range(21)]},
        "spec.namespaces",
        "must have at most 20 items",
    ),
    Pair(
        "tenant-member-without-name",
        "Tenant",
        owner(kind="User", name="a"),
        owner(kind="User"),
        "spec.members.owners[0].name",
        "Required value",
    ),
    Pair("tenant-cpu", "Tenant", {"quota": {"cpu": "500m"}}, {"quota": {"cpu": "4 cores"}}, "spec.quota.cpu", "match"),
    Pair(
        "tenant-cpu-number",
        "Tenant",
        {"quota": {"cpu": 4}},
        {"quota": {"cpu": -4}},
        "spec.quota.cpu",
        "greater than or equal to 0",
    ),
    Pair(
        "tenant-memory",
        "Tenant",
        {"quota": {"memory": "8Gi"}},
        {"quota": {"memory": "8GB"}},
        "spec.quota.memory",
        "match",
    ),
    Pair("tenant-label", "Tenant", {"labels": {"a": ""}}, {"labels": {"a": "b c"}}, "spec.labels.a", "should match"),
    Pair(
        "tenant-jobs",
        "Tenant",
        {"quota": {"jobs": {"concurrent": 1}}},
        {"quota": {"jobs": {"concurrent": 0}}},
        "spec.quota.jobs.concurrent",
        "greater than or equal to 1",
    ),
    Pair(
        "registry-undefined",
        "TemplateRegistry",
        registry(engine={"undefined": "Empty"}),
        registry(engine={"undefined": "Ignore"}),
        "spec.engine.undefined",
        "supported values",
    ),
    Pair(
        "registry-no-files",
        "TemplateRegistry",
        registry(),
        {"inline": {"files": {}}},
        "spec.inline.files",
        "at least 1 properties",
    ),
    Pair(
        "registry-one-file-too-large",
        "TemplateRegistry",
        {"inline": {"files": {"a": "x" * 131072}}},
        {"inline": {"files": {"a": "x" * 131073}}},
        "spec.inline.files.a",
        "may not be more than 131072",
    ),
    Pair(
        "registry-many-files",
        "TemplateRegistry",
        {"inline": {"files": {f"f{number}": "" for number in range(128)}}},
        {"inline": {"files": {f"f{number}": "" for number in range(129)}}},
        "spec.inline.files",
        "must have at most 128 items",
    ),
    Pair(
        "job-registry",
        "GenerationJob",
        job(),
        {key: value for key, value in job().items() if key != "registryRef"},
        "spec.registryRef",
        "Required value",
    ),
    Pair(
        "job-generator",
        "GenerationJob",
        template(),
        template(generator="../x"),
        "spec.template.generator",
        "should match",
    ),
    Pair(
        "job-digest",
        "GenerationJob",
        template(digest=DIGEST),
        template(digest="sha256:1"),
        "spec.template.digest",
        "should match",
    ),
    Pair(
        "job-source-kind",
        "GenerationJob",
        source(),
        source(kind="Pod"),
        "spec.variablesFrom[0].kind",
        "supported values",
    ),
    Pair(
        "job-target",
        "GenerationJob",
        source(valuesKey="k", targetPath="a.b_2"),
        source(valuesKey="k", targetPath="a..b"),
        "spec.variablesFrom[0].targetPath",
        "should match",
    ),
    Pair("job-timeout-form", "GenerationJob", job(timeout="1h"), job(timeout="1 hour"), "spec.timeout", "should match"),
    Pair(
        "job-variables-list",
        "GenerationJob",
        job(variables={"a": [1]}),
        job(variables=[1]),
        "spec.variables",
        "must be of type object",
    ),
)

PAIRS: Final = CEL_PAIRS + SCHEMA_PAIRS

FULL: Final[Mapping[str, Body]] = {
    "Tenant": {
        "displayName": "Acme Corporation",
        "tier": "professional",
        "region": "eu-west-1",
        "namespaces": [{"name": "acme-build"}, {"name": "acme-legacy", "adopt": True}],
        "members": {
            "owners": [{"kind": "User", "name": "ada@acme.example"}],
            "editors": [{"kind": "Group", "name": "acme-engineers"}],
            "viewers": [{"kind": "ServiceAccount", "name": "ci", "namespace": "acme-build"}],
        },
        "quota": {
            "cpu": "4",
            "memory": "8Gi",
            "ephemeralStorage": "8Gi",
            "pods": 10,
            "jobs": {"concurrent": 5, "perHour": 500},
        },
        "network": {
            "ingressFrom": [{"namespace": "ingress-nginx", "ports": [8080], "protocol": "TCP"}],
            "egressTo": [
                {"cidr": "203.0.113.0/24", "ports": [443]},
                {"namespace": "acme-legacy", "ports": [53], "protocol": "UDP"},
            ],
        },
        "database": {
            "mode": "Shared",
            "directAccess": True,
            "rotation": {"every": "720h"},
            "reclaimPolicy": "Retain",
        },
        "cache": {"enabled": True, "directAccess": True, "rotation": {"every": "720h"}},
        "renderers": {"min": 0, "max": 5, "execution": "Pooled"},
        "dataPolicy": {"maximumClassification": "Confidential", "onFinding": "Block"},
        "labels": {"tier": "gold"},
        "costCenter": "CC-1042",
        "team": "platform",
        "environment": "production",
        "suspend": False,
        "protected": False,
        "deletionPolicy": "Retain",
    },
    "TemplateRegistry": {
        "inline": {"files": {"_templates/api/crud/any/{{ name }}.ts.njk": "export const {{ name }} = 1\n"}},
        "pin": "v1.0.0",
        "revisionHistoryLimit": 3,
        "path": ".",
        "engine": {"undefined": "ErrorOnUse", "trimBlocks": False, "lstripBlocks": False, "autoescape": True},
        "variables": {"schema": {"type": "object", "properties": {"org": {"type": "string", "default": "acme"}}}},
        "policy": {"onInvalidTemplate": "ServeValid"},
        "classification": "Internal",
        "suspend": True,
    },
    "GenerationJob": {
        "registryRef": {"name": "platform"},
        "template": {"generator": "api", "action": "crud", "digest": DIGEST},
        "variables": {
            "entity": "Order",
            "fields": [{"name": "id", "type": "uuid"}],
            "deep": {"a": {"b": [None, 1.5, True]}},
        },
        "variablesFrom": [
            {"kind": "ConfigMap", "name": "org-defaults"},
            {"kind": "Secret", "name": "db", "valuesKey": "url", "targetPath": "database.url", "optional": True},
        ],
        "dryRun": False,
        "output": {"configMap": {"name": "orders-api", "immutable": True}},
        "execution": "Isolated",
        "timeout": "1m30s",
        "suspend": False,
        "cancel": False,
        "ttl": {"afterSuccess": "24h", "afterFailure": "168h"},
        "mode": "Update",
        "onConflict": "Markers",
        "prune": "Remove",
        "retry": {"limit": 5, "backoff": {"duration": "5s", "factor": 3, "cap": "2m"}},
        "trigger": {"onTemplateChange": "Run"},
        "driftDetection": {"interval": "30m", "onDrift": "Repair"},
        "dependsOn": [{"name": "org-base"}, {"name": "team-base"}],
        "matrix": {"parameters": {"region": ["eu", "us"], "tier": [1, 2]}, "path": "{region}/{tier}", "parallelism": 4},
        "provenance": {"enabled": True},
    },
}
