"""`pgferry run`: pool the server that a URL names, without a configuration file."""

import os

import click


def _listen(value: str) -> dict[str, str]:
    """The settings for `host:port`, `:port`, `port` or `[v6]:port`."""
    host, colon, port = value.rpartition(":")
    if not colon and not value.isdecimal():
        host, port = value, "6432"
    host = host.removeprefix("[").removesuffix("]")
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise click.BadParameter("write it as host:port", param_hint="--listen")
    return {"listen_addr": host or ("*" if colon else "127.0.0.1"), "listen_port": port}


@click.command("run")
@click.option(
    "--url", envvar="DATABASE_URL", help="postgresql://user:password@host:port/database; or env DATABASE_URL."
)
@click.option(
    "--env",
    "from_environment",
    is_flag=True,
    help="Settings from the environment, too: POOL_MODE, DEFAULT_POOL_SIZE, ... and DB_HOST, DB_USER, ...",
)
@click.option("--listen", metavar="HOST:PORT", help="Where clients connect; default 127.0.0.1:6432.")
@click.option("--pool-mode", type=click.Choice(["session", "transaction", "statement"]))
@click.option("--pool-size", type=click.IntRange(min=1), help="Servers for each database and user.")
@click.option("--max-clients", type=click.IntRange(min=1), help="Clients at most; default 100.")
@click.option("--workers", metavar="N|auto", help="Worker processes; default 1.")
@click.option("-u", "--user", metavar="USERNAME", help="Unix account to change to.")
@click.option("-q", "--quiet", is_flag=True, help="Do not log to stderr.")
@click.option("-v", "--verbose", count=True, help="Log more; twice for even more.")
def command(
    url: str | None,
    from_environment: bool,
    listen: str | None,
    pool_mode: str | None,
    pool_size: int | None,
    max_clients: int | None,
    workers: str | None,
    user: str | None,
    quiet: bool,
    verbose: int,
) -> int:
    """Pool the PostgreSQL server of a URL, without any file.

    Clients log in with the URL's own user and password. All other settings have their defaults, or with --env the
    value of the environment variable that has the setting's name in capitals. Options come before variables.
    """
    from pgferry.cli.management import Management
    from pgferry.config import ConfigError, environment, from_url
    from pgferry.supervisor.boot import Options, run

    if from_environment:
        url = url or environment.url(os.environ)
    if not url:
        raise click.UsageError("give --url postgresql://... or set DATABASE_URL")
    given = {
        "pool_mode": pool_mode,
        "default_pool_size": pool_size,
        "max_client_conn": max_clients,
        "workers": workers,
    }
    overrides = environment.overrides(os.environ) if from_environment else {}
    if overrides and not quiet:
        click.echo(f"pgferry run: from the environment: {', '.join(sorted(overrides))}", err=True)
    overrides |= {name: str(value) for name, value in given.items() if value is not None}
    if listen:
        overrides |= _listen(listen)
    try:
        config = from_url(url, overrides=overrides)
    except ConfigError as error:
        for problem in error.problems:
            click.echo(f"pgferry run: {problem}", err=True)
        return 1
    return run(Options(config=config, quiet=quiet, user=user, verbose=verbose), Management)
