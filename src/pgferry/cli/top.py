"""`pgferry top`: pools, holders of servers, clients and servers of a running pooler, in the terminal."""

from __future__ import annotations

import sys

import click

from pgferry.client import BadTarget, ClientError
from pgferry.client.connection import Connection
from pgferry.client.target import parse

_ORDER_SECONDS = 5.0


@click.command("top")
@click.argument("url", default="postgresql://127.0.0.1:6432")
@click.option("--interval", default=2.0, show_default=True, type=click.FloatRange(0.2, 3600), help="Seconds.")
def command(url: str, interval: float) -> int:
    """Watch a running pgferry (or PgBouncer) through its console, at URL: postgresql://admin@host:6432.

    A user in stats_users may look, one in admin_users may also pause, resume, reload and kill. The password comes
    from the URL, PGPASSWORD or ~/.pgpass.
    """
    try:
        from pgferry.observe.top import Top
    except ImportError:
        click.echo("pgferry top needs the package textual: pip install 'pgferry[top]'", err=True)
        return 1
    from pgferry.observe.figures import Watch

    try:
        target = parse(url, database="pgbouncer").on("pgbouncer")
        console = Connection(target, timeout=30.0)
    except (BadTarget, ClientError) as error:
        click.echo(f"pgferry top: {error}", err=True)
        return 1

    def order(text: str) -> None:
        with Connection(target, timeout=_ORDER_SECONDS) as orders:
            orders.query(text)

    with console:
        app = Top(Watch(console), order, f"{target.host}:{target.port}", interval)
        app.run()
    if app.return_code:
        sys.stderr.write(f"pgferry top: {app.ended}\n")
    return app.return_code or 0
