"""The operator's rights as lines of text: what the chart grants, for the golden file and for comparing with what it does."""

from collections.abc import Iterable
from typing import Any, Final

from unjucks_api.names import PLATFORM_NAMESPACE

OPERATOR: Final = {"kind": "ServiceAccount", "name": "unjucks-operator", "namespace": PLATFORM_NAMESPACE}


def granted(manifests: Iterable[dict[str, Any]]) -> set[tuple[str, str, str, str, str]]:
    """(where, API group, resource, verb, names) of every right that is bound to the operator; ``where`` is "*" for everywhere."""
    items = list(manifests)
    roles = {(it["kind"], it["metadata"].get("namespace"), it["metadata"]["name"]): it for it in items if "rules" in it}
    found = set()
    for binding in items:
        if binding["kind"] not in ("ClusterRoleBinding", "RoleBinding") or OPERATOR not in binding["subjects"]:
            continue
        where = binding["metadata"].get("namespace") or "*"
        reference = binding["roleRef"]
        role = roles[reference["kind"], None if reference["kind"] == "ClusterRole" else where, reference["name"]]
        for rule in role["rules"]:
            names = ",".join(sorted(rule.get("resourceNames", ())))
            found |= {
                (where, group, resource, verb, names)
                for group in rule["apiGroups"]
                for resource in rule["resources"]
                for verb in rule["verbs"]
            }
    return found


def lines(rights: Iterable[tuple[str, str, str, str, str]]) -> list[str]:
    """One line for each place and resource: ``where  group/resource  verbs  [names]``."""
    grouped: dict[tuple[str, str, str], set[str]] = {}
    for where, group, resource, verb, names in rights:
        grouped.setdefault((where, f"{group or 'core'}/{resource}", names), set()).add(verb)
    return [
        f"{where} {resource} {','.join(sorted(verbs))}{f' only {names}' if names else ''}"
        for (where, resource, names), verbs in sorted(grouped.items())
    ]
