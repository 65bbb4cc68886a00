"""A ConfigMap is a source: every edit of it is news, also the second one by the same hand."""

import pytest

from unjucks_operator.kube.child import to_child
from unjucks_operator.kube.resources import CONFIG_MAP, SERVICE_ACCOUNT, Resource


@pytest.mark.parametrize(("resource", "silent"), [(CONFIG_MAP, False), (SERVICE_ACCOUNT, True)])
def test_a_second_edit_by_the_same_manager(resource: Resource, silent: bool) -> None:
    def body(version: int) -> dict[str, object]:
        fields = {
            "manager": "kubectl",
            "operation": "Update",
            "time": str(version),
            "fieldsV1": {"f:data": {"f:a": {}}},
        }
        return {
            "metadata": {
                "name": "t",
                "namespace": "n",
                "uid": "u",
                "resourceVersion": str(version),
                "managedFields": [fields],
            }
        }

    assert to_child(resource, body(2)).tells_nothing_new(to_child(resource, body(1))) is silent
