"""Every line of the isolation matrix: what is tried, by which class of attack, or why it cannot be tried here.

Pure data. An ``Attack`` without ``why_not`` must be proven by at least one test (marked with its id, see
``tests/support/isolation.py``) for each of its states; the runner fails otherwise. Classes: MTB the multi-tenancy benchmark,
A ownership and hijack, B confused deputy, C admission and control loop, D network, E proxies, F database and cache, G membership.
"""

from dataclasses import dataclass
from typing import Final

BOTH: Final = ("up", "down")
UP: Final = ("up",)
DOWN: Final = ("down",)


@dataclass(frozen=True)
class Attack:
    """One line. ``states``: with our processes up, down, or both; ``why_not``: it cannot apply, and this is the reason."""

    id: str
    what: str
    kind: str
    states: tuple[str, ...] = BOTH
    why_not: str = ""


ATTACKS: Final = (
    # --- the multi-tenancy benchmark, the strict way: a compliant object is admitted, then one field is flipped ---------------
    Attack("MTB-PL1-CC-CPI-1", "a member uses any verb on any cluster-wide resource", "MTB"),
    Attack("MTB-PL1-BC-CPI-2", "a member changes or deletes what the platform put into the namespace", "MTB"),
    Attack("MTB-PL1-BC-CPI-3", "a pod adds a capability", "MTB"),
    Attack("MTB-PL1-BC-CPI-4", "a pod runs as root", "MTB"),
    Attack("MTB-PL1-BC-CPI-5", "a privileged container, of every kind", "MTB"),
    Attack("MTB-PL1-BC-CPI-6", "a container that may gain privileges", "MTB"),
    Attack("MTB-PL1-CC-TI-1", "a member changes quota, limits, network policies or the rules of admission", "MTB"),
    Attack("MTB-PL1-CC-TI-2", "a member uses any verb on anything of another tenant, subresources too", "MTB"),
    Attack("MTB-PL2-CC-TI-1", "a member escalates, binds or impersonates", "MTB"),
    Attack("MTB-PL1-CC-FNS-1", "a namespace without quota of cpu, memory and ephemeral storage", "MTB"),
    Attack("MTB-PL1-CC-FNS-2", "a namespace without quota of one of the nine kinds of objects", "MTB"),
    Attack("MTB-PL1-BC-HI-1-hostpath", "a pod mounts a path of its node, or another forbidden volume", "MTB"),
    Attack("MTB-PL1-BC-HI-1-nodeport", "a service that opens a door of the cluster", "MTB"),
    Attack("MTB-PL1-BC-HI-3", "a pod on its node's network or port", "MTB"),
    Attack("MTB-PL1-BC-HI-4", "a pod that sees its node's processes", "MTB"),
    Attack("MTB-PL1-BC-HI-5", "a pod that shares its node's memory", "MTB"),
    Attack("MTB-PL1-CC-DI-1", "an image that is taken from the node without asking its registry", "MTB"),
    Attack("MTB-PL1-1201", "packets from one tenant's namespace to another's", "MTB"),
    Attack(
        "MTB-PL2-BC-OPS-3",
        "members write Roles and RoleBindings",
        "MTB",
        (),
        "turned round: nobody gets these rights; a member who may bind could undo the isolation",
    ),
    Attack(
        "MTB-PL2-BC-OPS-4",
        "members write NetworkPolicies",
        "MTB",
        (),
        "turned round: policies add up, so one of a member's would void default-deny",
    ),
    Attack(
        "MTB-1198-1200",
        "volumes: claims only, reclaimed, never another's",
        "MTB",
        (),
        "members can create no pod, so nothing mounts a volume of theirs; claims are within the quota",
    ),
    # --- A: ownership and hijack -------------------------------------------------------------------------------------
    Attack(
        "T-hijack-label", "our label on a namespace of nobody's, the system's, the platform's, another tenant's", "A1"
    ),
    Attack("T-hijack-ownerref", "a forged owner reference to a Tenant on such a namespace", "A1"),
    Attack("T-hijack-annotation", "our annotations on such a namespace", "A2"),
    Attack("T-hijack-jsonpatch", "the same with a JSON patch", "A2"),
    Attack("T-hijack-mergepatch", "the same with a merge patch", "A2"),
    Attack("T-hijack-ssa", "the same with server-side apply", "A2"),
    Attack("T-hijack-planted", "an administrator plants the labels: the operator still adopts nothing", "A1", UP),
    Attack(
        "T-hijack-subresource", "the same through namespaces/status and namespaces/finalize, with a raw PUT", "A3 A4"
    ),
    Attack("T-rule-resources", "a rule whose resource no API server knows never matches", "A4"),
    Attack("T-detach", "labels are taken off a tenant's namespace, then a privileged pod", "A5"),
    Attack("T-detach-repair", "the same by somebody exempt: repaired within seconds", "A5", UP),
    Attack("T-status-truth", "status tells of what is no longer there", "A6", UP),
    Attack("T-reincarnation", "a new Tenant of an old name sees what the old one had", "A7", UP),
    Attack("T-adopt-requires-both-sides", "a Tenant takes a namespace that did not agree", "A8", UP),
    Attack("T-adopt-consent", "somebody who is no administrator gives a namespace away", "A8"),
    # --- B: confused deputy ------------------------------------------------------------------------------------------
    Attack("T-render-clusterrole", "a template that renders manifests: stored, never applied", "B1", UP),
    Attack("T-operator-rbac-golden", "the operator's rights: exactly what it uses, no wildcard", "B1", UP),
    Attack("T-no-namespace-in-refs", "a field of a namespaced kind names another namespace", "B2"),
    Attack("T-ref-other-ns", "a job refers to a registry or Secret of another namespace", "B2", UP),
    Attack("T-secret-type", "a Secret that Kubernetes fills with a token", "B3"),
    Attack("T-status-tamper", "a member writes status, finalizers or annotations of ours", "B4"),
    Attack("T-kopf-annotation-tamper", "garbage in annotations of a job: converges, nothing is deleted", "B4", UP),
    Attack("T-precreated-child", "a member makes the operator's child before the operator does", "B5"),
    Attack("T-registry-traversal", "a template set with .. or absolute paths", "B6"),
    Attack("T-registry-symlink", "a template set with links", "B6"),
    Attack("T-registry-bomb", "a template set that grows when it is read", "B6"),
    Attack("T-registry-longname", "a template set with names that are too long", "B6"),
    Attack(
        "T-registry-argv",
        "a Git reference that is an option of a program",
        "B6",
        (),
        "no source is fetched from an address yet, and no program is started",
    ),
    Attack(
        "T-registry-token-exfil",
        "a source's server that gets a credential",
        "B6",
        (),
        "no source is fetched from an address yet: inline and ConfigMap only",
    ),
    Attack(
        "T-registry-ssrf",
        "a source's address that leads to metadata or the API server",
        "B6",
        (),
        "no source is fetched from an address yet: inline and ConfigMap only",
    ),
    Attack("T-no-shell", "a shell in a process of ours", "B7"),
    Attack("T-no-pod-fields", "a field of our kinds that ends in a pod's specification", "B8"),
    Attack("T-image-prefix", "an image of reg/acme2 where reg/acme is allowed", "B8"),
    Attack("T-template-escape", "a template that reaches Python, files, processes or the network", "B8"),
    Attack("T-renderer-confinement", "a taken-over renderer child opens, connects, starts or grows", "B8"),
    # --- C: admission, control loop ----------------------------------------------------------------------------------
    Attack("T-regex-redos", "a regular expression that needs ages", "C1"),
    Attack("T-regex-invalid", "a regular expression that is none", "C1"),
    Attack(
        "T-operator-down",
        "operator and webhooks stopped: forbidden pods, quota, other namespaces, system pods",
        "C2",
        DOWN,
    ),
    Attack("T-quota-burst", "many pods at once, in all namespaces of the tenant", "C3"),
    Attack("T-restart-no-delete", "the operator is killed while it starts: it deletes nothing", "C4", UP),
    Attack(
        "T-loser-delete-keeps-winner",
        "the Tenant that lost a conflict is deleted: the winner keeps everything",
        "C5",
        UP,
    ),
    Attack("T-stuck-namespace", "a namespace that cannot go: named, and nobody else waits", "C6", UP),
    Attack("T-vap-no-params", "a policy whose parameters are missing lets everything through", "C7"),
    Attack("T-mass-delete", "a CRD, a namespace or a protected Tenant is deleted by mistake", "C"),
    # --- D: network --------------------------------------------------------------------------------------------------
    Attack("T-net-policy-write", "a member adds a NetworkPolicy of its own", "D1"),
    Attack("T-net-tenant", "pod of a tenant to a pod of another", "D"),
    Attack("T-net-renderer", "pod of a tenant to a renderer of another", "D"),
    Attack("T-net-apiserver", "pod of a tenant to the API server", "D"),
    Attack("T-net-node", "pod of a tenant to its node", "D"),
    Attack("T-net-internet", "pod of a tenant to an outside address", "D"),
    Attack("T-net-metadata", "pod of a tenant to the cloud's metadata address (a stand-in)", "D"),
    Attack("T-net-platform", "pod of a tenant to the operator, the webhooks or the database", "D"),
    Attack("T-net-in", "pod of nobody's to a pod of a tenant", "D3"),
    Attack("T-net-label-spoof", "a namespace that calls itself the platform's by a label", "D2"),
    Attack("T-net-dns", "names at another server than the cluster's", "D3"),
    Attack("T-net-window", "packets between a pod's start and its policies", "D"),
    Attack("T-net-allowed", "what a rule opens: the port beside it, the address beside it, the cluster inside it", "D"),
    Attack(
        "T-net-unenforced", "a network plugin that ignores policies, and a Tenant that says it is isolated", "D", UP
    ),
    Attack(
        "T-net-ipv6",
        "the same over IPv6",
        "D",
        (),
        "the test cluster has IPv4 only; policies name no family, so they hold for both",
    ),
    # --- E: proxies --------------------------------------------------------------------------------------------------
    Attack(
        "T-proxy-header",
        "a header that makes a proxy act as somebody else",
        "E",
        (),
        "there is no proxy: members talk to the API server itself",
    ),
    Attack("T-sa-samename", "a service account of the same name in another namespace", "E"),
    # --- F: database and cache ---------------------------------------------------------------------------------------
    Attack("T-sql-fuzz-names", "quotes, NUL, long and strange names in SQL", "F1"),
    Attack("T-db-hijack", "a Tenant takes another's database", "F2"),
    Attack("T-role-hijack", "a Tenant takes an existing role", "F2"),
    Attack("T-db-connect-matrix", "a tenant's login at every database of the server", "F3"),
    Attack("T-shadow-operator", "planted operators and functions that the operator's own SQL would run", "F4"),
    Attack("T-event-trigger", "an event trigger for the moment in which a superuser comes by", "F4"),
    Attack("T-reset-role", "RESET ROLE, SET ROLE, SET SESSION AUTHORIZATION", "F4"),
    Attack("T-cred-swap", "a tenant's credentials with another's database", "F5"),
    Attack("T-rls-prepared-role-switch", "a statement prepared as one tenant, run as another", "F6"),
    Attack("T-rls-leaky-operator", "functions and statistics that tell of hidden rows", "F6"),
    Attack("T-rls-guc", "a setting that claims to be another tenant", "F6"),
    Attack("T-rls-write", "insert, update, truncate, references and copy into another's rows", "F6"),
    Attack("T-db-canary", "the platform's own attempts at the shared database, and each sabotage of it", "F6"),
    Attack("T-redis-commands", "commands that show, count or copy keys of others, or change the server", "F7"),
    Attack("T-redis-keys", "every allowed command with another's key or channel", "F7"),
    Attack("T-redis-session", "another user, another database, or more rights within a session", "F7"),
    Attack("T-redis-names", "names and digests that would become rules of a user", "F7"),
    Attack("T-redis-restart", "a restarted or edited server that lets more in than before", "F7", UP),
    Attack("T-redis-rotation", "an old password, and sessions that came in with it", "F7"),
    Attack("T-prefix-acme-acme2", "keys of acme2 with the rights of acme", "F7"),
    Attack("T-ready-never-lies", "Ready while something that it promises is missing", "F8", UP),
    Attack("T-no-secret-shown", "a credential in spec, status, events, logs or annotations", "F8", UP),
    Attack("T-rotate-under-load", "old credentials after their rotation", "F9", UP),
    # --- G: membership -----------------------------------------------------------------------------------------------
    Attack("T-remove-member", "a member who was taken off", "G", UP),
    Attack("T-reserved-subjects", "groups and users of the system as members", "G"),
    Attack("T-own-roles", "built-in admin and edit for members", "G"),
    Attack("T-approval-replay", "a second-factor code that is used twice", "G", UP),
    Attack("T-approval-guess", "many codes are tried, at several replicas and across restarts", "G", UP),
    Attack("T-approval-forged", "a record of an approval that is made up, of another object, or of a dry run", "G", UP),
    Attack("T-approval-missing", "a destructive change without a code, with the webhooks up and down", "G"),
)

BY_ID: Final = {attack.id: attack for attack in ATTACKS}
