"""A Hub on the loopback interface."""

import pytest

from tests.helpers.hub_server import HubServer


@pytest.fixture
def hub(tmp_path):
    with HubServer(tmp_path / "clients") as hub:
        yield hub
