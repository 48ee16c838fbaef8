"""A DNS server for tests: A, AAAA, CNAME and SOA records that a test changes while it runs."""

import socket
import threading
from collections import Counter
from pathlib import Path

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset


class DnsServer:
    """Answers on 127.0.0.53-like addresses of its own, port 53 (or another one: then `address` and `port` tell).

    `records` maps (name, type) to (TTL, values); a name that has none does not exist. `silent`: no answer at all.
    """

    def __init__(self, address: str = "127.0.0.1", port: int = 0) -> None:
        self.records: dict[tuple[str, str], tuple[int, list[str]]] = {}
        self.asked: Counter[tuple[str, str]] = Counter()
        self.silent = False
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind((address, port))
        self.address, self.port = self._sock.getsockname()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def set(self, name: str, *values: str, kind: str = "A", ttl: int = 300) -> None:
        """Give a name these records of one type; none: take them away."""
        if values:
            self.records[name, kind] = (ttl, list(values))
        else:
            self.records.pop((name, kind), None)

    def write_resolv_conf(self, path: Path, *options: str) -> Path:
        """A resolv.conf that leads here."""
        path.write_text("\n".join([f"nameserver {self.address}", *options, ""]))
        path.chmod(0o644)
        return path

    def close(self) -> None:
        """Stop answering."""
        self._sock.close()

    def _serve(self) -> None:
        while True:
            try:
                data, peer = self._sock.recvfrom(4096)
                if not self.silent:
                    self._sock.sendto(self._answer(data), peer)
            except OSError:
                return

    def _answer(self, data: bytes) -> bytes:
        request = dns.message.from_wire(data)
        question = request.question[0]
        name, kind = (
            question.name.to_text(omit_final_dot=True).lower(),
            dns.rdatatype.to_text(question.rdtype),
        )
        self.asked[name, kind] += 1
        response = dns.message.make_response(request)
        response.flags |= dns.flags.RA | dns.flags.AA
        at = name
        while (at, "CNAME") in self.records and kind != "CNAME":
            ttl, values = self.records[at, "CNAME"]
            response.answer.append(dns.rrset.from_text(f"{at}.", ttl, "IN", "CNAME", values[0] + "."))
            at = values[0]
        if (at, kind) in self.records:
            ttl, values = self.records[at, kind]
            response.answer.append(dns.rrset.from_text(f"{at}.", ttl, "IN", kind, *values))
        elif not any(known == at for known, _ in self.records):
            response.set_rcode(dns.rcode.NXDOMAIN)
        return response.to_wire()
