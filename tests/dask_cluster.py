"""A cluster that runs already, for tests of what connects to one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from distributed import LocalCluster, Security


@contextmanager
def cluster(*, resources: bool = False, security: Security | None = None) -> Iterator[str]:
    """Two worker processes at an address of this host."""
    with LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        worker_dashboard_address="127.0.0.1:0",
        resources={"GPU": 1} if resources else None,
        protocol="tls" if security else None,
        security=security,
    ) as made:
        yield made.scheduler_address
