"""A private LDAP server (OpenLDAP's slapd) with a few people in it, plain and with TLS."""

import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from pgferry.embedded import take_port

BASE = "dc=example,dc=org"
MANAGER = f"cn=manager,{BASE}"
MANAGER_PASSWORD = "the manager's own"
PEOPLE = {"ann": "ann's password", "bob": "bob (the) 2nd*", "app": "app's password", "twin": "first"}
SLAPD = shutil.which("slapd", path="/usr/sbin:/usr/libexec:/usr/bin:/usr/local/libexec")
SCHEMAS = Path("/etc/ldap/schema")
CONFIG = """include {schemas}/core.schema
include {schemas}/cosine.schema
include {schemas}/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {dir}/pid
TLSCACertificateFile {dir}/cert.pem
TLSCertificateFile {dir}/cert.pem
TLSCertificateKeyFile {dir}/key.pem
database mdb
suffix "{base}"
rootdn "{manager}"
rootpw "{password}"
directory {dir}/data
access to * by anonymous auth by * read
"""


def available() -> bool:
    """Whether this machine has a slapd and its schemas."""
    return SLAPD is not None and (SCHEMAS / "core.schema").exists() and shutil.which("openssl") is not None


def ldif() -> str:
    """The entries: ou=people with one entry for each person, and ou=others with a second `twin`."""
    parts = [f"dn: {BASE}\nobjectClass: dcObject\nobjectClass: organization\no: example\ndc: example\n"]
    for unit in ("people", "others"):
        parts.append(f"dn: ou={unit},{BASE}\nobjectClass: organizationalUnit\nou: {unit}\n")
    people = [("people", name, secret) for name, secret in PEOPLE.items()]
    for unit, name, secret in [*people, ("others", "twin", "second")]:
        parts.append(
            f"dn: uid={name},ou={unit},{BASE}\nobjectClass: inetOrgPerson\nuid: {name}\ncn: {name}\nsn: {name}\n"
            f"mail: {name}@example.org\nuserPassword: {secret}\n"
        )
    return "\n".join(parts)


class Directory:
    """The running server; `port` speaks plain LDAP and StartTLS, `tls_port` LDAP over TLS."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="pgferry-ldap-"))
        self.path.chmod(0o755)
        self._locks = [take_port(), take_port()]
        self.port, self.tls_port = (lock.port for lock in self._locks)
        self.ca = self.path / "cert.pem"
        (self.path / "data").mkdir()
        self._run(
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=localhost",
            ),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-keyout", str(self.path / "key.pem"), "-out", str(self.ca)),
        )
        self.ca.chmod(0o644)
        conf = self.path / "slapd.conf"
        conf.write_text(
            CONFIG.format(
                schemas=SCHEMAS, dir=self.path, base=BASE, manager=MANAGER, password=MANAGER_PASSWORD
            )
        )
        (self.path / "people.ldif").write_text(ldif())
        assert SLAPD is not None
        self._run(SLAPD, "-T", "add", "-f", str(conf), "-l", str(self.path / "people.ldif"))
        urls = f"ldap://127.0.0.1:{self.port} ldaps://127.0.0.1:{self.tls_port}"
        self._process = subprocess.Popen(
            [SLAPD, "-f", str(conf), "-h", urls, "-d", "0"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for port in (self.port, self.tls_port):
            self._wait(port)

    def _run(self, *argv: str) -> None:
        result = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert result.returncode == 0, f"{argv[0]}: {result.stdout}{result.stderr}"

    def _wait(self, port: int) -> None:
        limit = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                assert time.monotonic() < limit, "slapd did not start"
                assert self._process.poll() is None, "slapd ended"
                time.sleep(0.05)

    def close(self) -> None:
        """Stop it and remove its files."""
        self._process.kill()
        self._process.wait()
        for lock in self._locks:
            lock.release()
        shutil.rmtree(self.path, ignore_errors=True)
