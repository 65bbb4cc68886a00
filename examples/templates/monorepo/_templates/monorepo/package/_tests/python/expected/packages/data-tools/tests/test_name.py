from my_org_data_tools import NAME


def test_name() -> None:
    assert NAME == "my-org-data-tools"
