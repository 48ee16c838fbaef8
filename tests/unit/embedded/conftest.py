"""A running server for the tests of what runs servers."""

import pytest

from pgferry.embedded import Cluster
from support import cluster as clusters


@pytest.fixture(params=clusters.versions(), ids=lambda v: f"pg{v}")
def server(request: pytest.FixtureRequest) -> Cluster:
    return clusters.shared_cluster(request.param)
