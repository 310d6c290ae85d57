import os

import pytest
from domain_coordinator import domain_id


@pytest.fixture(scope="module", autouse=True)
def ros_domain():
    """Give the module a ROS domain that no other test on this machine has, and keep its traffic on the machine."""
    with domain_id() as domain, pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROS_DOMAIN_ID", str(domain))
        if os.environ.get("ROS_DISTRO") == "humble":
            patch.setenv("ROS_LOCALHOST_ONLY", "1")
        else:
            patch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        yield domain
