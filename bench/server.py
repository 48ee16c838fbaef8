"""The PostgreSQL server behind everything that is measured: private, with a trust and a SCRAM user."""

from __future__ import annotations

from pgferry.embedded import Cluster

from .system import BenchError, require

MAX_CONNECTIONS = 300
TENANTS = 200
ACCOUNTS_OF_A_TENANT = 1000
DIRECT_CLIENTS = MAX_CONNECTIONS - 60  # the rest is for the pools of both poolers
DATABASE = "bench"
TRUST_USER = "bench"
SCRAM_USER = "bench_scram"
SCRAM_PASSWORD = "a plain secret"
SETTINGS: dict[str, str | int] = {
    "autovacuum": "off",
    "max_connections": MAX_CONNECTIONS,
    "max_wal_size": "2GB",
    "shared_buffers": "512MB",
    "log_min_messages": "error",
}
HBA = (
    "local all all trust",
    f"host all {SCRAM_USER} 127.0.0.1/32 scram-sha-256",
    "host all all 127.0.0.1/32 trust",
)


def make_server(scale: int) -> Cluster:
    """Return a running cluster with the two users and `scale` times 100,000 accounts of pgbench.

    Raises EmbeddedError or BenchError; the caller closes it.
    """
    cluster = Cluster(settings=SETTINGS, hba=HBA)
    try:
        cluster.start()
        cluster.sql(f"CREATE DATABASE {DATABASE}")
        cluster.sql(f"CREATE ROLE {TRUST_USER} LOGIN")
        cluster.sql(f"CREATE ROLE {SCRAM_USER} LOGIN PASSWORD '{SCRAM_PASSWORD}'")
        _fill(cluster, scale)
        cluster.sql(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {TRUST_USER}, {SCRAM_USER}", DATABASE)
        _make_tenants(cluster)
        cluster.sql("CHECKPOINT")
    except BaseException:
        cluster.close()
        raise
    return cluster


def _make_tenants(cluster: Cluster) -> None:
    """A role for each tenant, which TRUST_USER may take, and a schema with a table of its own."""
    cluster.sql("CREATE ROLE tenants; GRANT SELECT ON ALL TABLES IN SCHEMA public TO tenants", DATABASE)
    for number in range(TENANTS):
        tenant = f"tenant_{number}"
        cluster.sql(
            f"CREATE ROLE {tenant} IN ROLE tenants; GRANT {tenant} TO {TRUST_USER}; "
            f"CREATE SCHEMA {tenant} AUTHORIZATION {tenant}; "
            f"CREATE TABLE {tenant}.accounts AS SELECT aid, {number} AS tenant, abalance, filler "
            f"FROM pgbench_accounts WHERE aid <= {ACCOUNTS_OF_A_TENANT}; "
            f"ALTER TABLE {tenant}.accounts ADD PRIMARY KEY (aid); "
            f"ALTER TABLE {tenant}.accounts OWNER TO {tenant}",
            DATABASE,
        )
    cluster.sql("VACUUM ANALYZE", DATABASE)


def _fill(cluster: Cluster, scale: int) -> None:
    """Make pgbench's tables."""
    command = [require("pgbench", "postgresql-contrib"), "-i", "-q", "-s", str(scale), "-U", "postgres"]
    status, output = cluster.account.run([*command, "-h", "127.0.0.1", "-p", str(cluster.port), DATABASE])
    if status:
        raise BenchError(f"pgbench -i failed: {output.strip()[-300:]}")
