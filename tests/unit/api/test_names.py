"""Names: everything that is derived is a name that Kubernetes and PostgreSQL accept, and belongs to one tenant only."""

import re

from hypothesis import given
from hypothesis import strategies as st

from unjucks_api import names
from unjucks_api.v1alpha1.tenant import MAX_NAME, is_reserved_namespace

UIDS = st.uuids().map(str)
TENANTS = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,54}[a-z0-9])?", fullmatch=True)
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
QUALIFIED = re.compile(r"(?:[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
CONSTANTS = {key: value for key, value in vars(names).items() if key.isupper() and isinstance(value, str)}


@given(tenant=TENANTS)
def test_the_default_namespace_is_a_possible_name_and_never_reserved(tenant: str) -> None:
    namespace = names.default_namespace(tenant)
    assert len(tenant) <= MAX_NAME
    assert len(namespace) <= 63
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", namespace)
    assert not is_reserved_namespace(namespace)


def test_the_default_namespace_says_whose_it_is() -> None:
    assert names.default_namespace("acme") == "tenant-acme"


@given(uid=UIDS)
def test_database_roles_need_no_quoting_and_fit(uid: str) -> None:
    role = names.database_role(uid)
    assert re.fullmatch(r"ut_[0-9a-f]{12}", role)
    assert names.database_role(uid) == role


@given(first=UIDS, second=UIDS)
def test_different_tenants_have_different_identities(first: str, second: str) -> None:
    if first != second:
        assert names.database_role(first) != names.database_role(second)
        assert names.renderer_identity(first) != names.renderer_identity(second)


def test_the_role_is_the_same_in_every_release() -> None:
    """It names what is in the database already; another derivation would lose everybody's data."""
    assert names.database_role("5d9a3b1e-0000-4000-8000-00000000aaaa") == "ut_16720330982a"


@given(uid=UIDS)
def test_identities_are_dns_names(uid: str) -> None:
    for identity in (names.renderer_identity(uid), names.OPERATOR_IDENTITY):
        assert len(identity) <= 253
        assert all(re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", part) for part in identity.split("."))


@given(tenant=TENANTS, uid=UIDS)
def test_labels_of_children_are_valid_and_complete(tenant: str, uid: str) -> None:
    labels = names.tenant_labels(tenant, uid, names.COMPONENT_RENDERER)
    assert all(QUALIFIED.fullmatch(key) and LABEL_VALUE.fullmatch(value) for key, value in labels.items())
    assert (labels[names.LABEL_TENANT], labels[names.LABEL_TENANT_UID]) == (tenant, uid)
    assert labels[names.LABEL_MANAGED_BY] == names.MANAGED_BY
    assert "app.kubernetes.io/instance" not in labels, "Argo CD would take the children for its own"


def test_keys_are_valid_and_no_two_are_the_same() -> None:
    keys = [value for key, value in CONSTANTS.items() if key.startswith(("LABEL_", "ANNOTATION_", "FINALIZER_"))]
    assert len(keys) == len(set(keys)) >= 15
    for key in keys:
        assert QUALIFIED.fullmatch(key + "x" if key.endswith(("/", "-")) else key), key


def test_field_managers_have_our_prefix_and_fit() -> None:
    managers = [value for key, value in CONSTANTS.items() if key.startswith("MANAGER_")]
    assert len(managers) == len(set(managers)) >= 6
    assert all(manager.startswith(names.FIELD_MANAGER_PREFIX) and len(manager) <= 128 for manager in managers)


def test_names_of_children_have_our_prefix_so_that_users_cannot_take_them() -> None:
    children = [
        names.QUOTA,
        names.LIMITS,
        names.POLICY_DENY,
        names.POLICY_DNS,
        names.POLICY_RENDERER,
        names.RENDERER,
        names.BINDING_OWNERS,
        names.BINDING_EDITORS,
        names.BINDING_VIEWERS,
        names.CA_SECRET,
    ]
    assert len(children) == len(set(children))
    assert all(re.fullmatch(r"unjucks-[a-z0-9]([-a-z0-9]{0,54}[a-z0-9])", name) for name in children)


def test_the_selector_finds_what_the_labels_say() -> None:
    key, value = names.MANAGED_SELECTOR.split("=")
    assert names.tenant_labels("acme", "uid", "tenant")[key] == value


def test_the_group_version() -> None:
    assert names.API_VERSION == "unjucks.io/v1alpha1"
