"""A worker without an engine: speaks the control protocol, hands clients to the console, logs its orders."""

import argparse
import array
import os
import selectors
import signal
import socket
import struct
import sys
import time

import msgspec

from pgferry.admin import show_pools
from pgferry.protocol import startup


class FakeWorker:
    """Clients are taken as authenticated: the user `stats` may look, everybody else is admin."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.index: int = options.index
        self.log_fd: int = options.log_fd
        self.control = socket.socket(fileno=options.control_fd)
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.control, selectors.EVENT_READ, None)
        fds = [int(fd) for fd in f"{options.tcp_fds},{options.unix_fds}".split(",") if fd]
        self.listeners = [socket.socket(fileno=fd) for fd in fds]
        self.tcp = self.listeners[: len(options.tcp_fds.split(",")) if options.tcp_fds else 0]
        self.received = b""
        self.ready = False
        self.paused: dict[str | None, int] = {}
        self.next_client = 1
        self.next_request = 1
        self.waiting_cancel: dict[int, int] = {}

    def log(self, text: str) -> None:
        stamp = time.strftime("%Y-%m-%d %H:%M:%S.000 UTC")
        os.write(self.log_fd, f"{stamp} [{os.getpid()}] LOG worker {self.index}: {text}\n".encode())

    def send(self, message: dict, fd: int | None = None) -> None:
        body = msgspec.msgpack.encode(message)
        header = struct.pack("!I", len(body))
        if fd is None:
            self.control.sendall(header + body)
            return
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
        self.control.sendmsg([header], rights)
        self.control.sendall(body)

    def run(self) -> None:
        self.log("started")
        while True:
            for key, _events in self.selector.select():
                if key.data is None:
                    self.read_control()
                else:
                    self.accept(key.fileobj)

    def read_control(self) -> None:
        data = self.control.recv(262144)
        if not data:
            os._exit(0)
        self.received += data
        while len(self.received) >= 4:
            size = struct.unpack("!I", self.received[:4])[0]
            if len(self.received) < 4 + size:
                return
            message = msgspec.msgpack.decode(self.received[4 : 4 + size])
            self.received = self.received[4 + size :]
            self.take(message)

    def take(self, message: dict) -> None:
        if "re" in message:
            self.log(f"answer {message}")
            asked = self.waiting_cancel.pop(message["re"], None)
            if asked is not None:
                os._exit(3) if asked < 0 else None
            return
        op = message["op"]
        self.log(f"op {op} " + " ".join(f"{k}={v}" for k, v in message.items() if k in ("db", "mode", "id_")))
        handler = getattr(self, f"op_{op}", None)
        answer = handler(message) if handler else {}
        if answer is not None:
            self.send({"re": message["id"], "ok": "error" not in answer, **answer})

    def op_config(self, message: dict) -> dict:
        settings, state = message["config"]["settings"], message["state"]
        self.log(
            f"config max_client_conn={settings['max_client_conn']} verbose={settings['verbose']} "
            f"paused={state['paused']} killed={state['killed_dbs']} disabled={state['disabled_dbs']}"
        )
        if settings["max_client_conn"] == 666:
            return {"error": "666 is refused"}
        if not self.ready:
            self.ready = True
            for listener in self.listeners:
                listener.setblocking(False)
                self.selector.register(listener, selectors.EVENT_READ, "listener")
            self.send({"op": "ready"})
        return {}

    def op_show(self, message: dict) -> dict:
        return {"rows": ROWS[message["what"]](self.index)}

    def op_pause(self, message: dict) -> dict | None:
        if message["db"] == "busy" or (message["db"] is None and os.environ.get("FAKE_BUSY")):
            self.paused[message["db"]] = message["id"]
            return None
        return {}

    def op_resume(self, message: dict) -> dict:
        pending = self.paused.pop(message["db"], None)
        if pending is not None:
            self.send({"re": pending, "ok": False, "error": "resumed"})
        return {}

    def op_wait_close(self, message: dict) -> dict | None:
        return None if message["db"] == "busy" else {}

    def op_kill_client(self, message: dict) -> dict:
        return {} if message["client_id"] == 100 + self.index else {"error": "client not found"}

    def op_client_state(self, message: dict) -> dict:
        if message["client_id"] != 100 + self.index:
            return {"error": "client not found"}
        return {"rows": STATE}

    def op_find_db(self, message: dict) -> dict:
        return {"found": message["db"].startswith("auto")}

    def op_cancel(self, message: dict) -> dict:
        self.log(f"cancel key={message['key']!r}")
        return {}

    def op_shutdown(self, _message: dict) -> dict | None:
        for listener in self.tcp:
            self.selector.unregister(listener)
            listener.close()
        return None if os.environ.get("FAKE_DRAIN") == "never" else {}

    def accept(self, listener: socket.socket) -> None:
        try:
            client, _address = listener.accept()
        except BlockingIOError:
            return
        client.settimeout(5)
        given = self.read_startup(client)
        if given is None:
            client.close()
            return
        user = given.get("user")
        number = self.next_client
        self.next_client += 1
        self.send(
            {
                "op": "console",
                "fd": True,
                "user": user,
                "rights": "stats" if user == "stats" else "admin",
                "client_id": number * 10 + self.index,
                "database": given.get("database", "pgbouncer"),
                "addr": "127.0.0.1",
            },
            client.fileno(),
        )
        client.close()

    def read_startup(self, client: socket.socket) -> startup.StartupMessage | None:
        while True:
            # No byte more: what comes behind it is for the supervisor.
            header = client.recv(4, socket.MSG_WAITALL)
            if len(header) < 4:
                return None
            body = client.recv(int.from_bytes(header, "big") - 4, socket.MSG_WAITALL)
            match startup.parse(body):
                case startup.CancelRequest():
                    self.cancel(body[4:])
                    return None
                case startup.StartupMessage() as given:
                    return given
                case _:
                    client.sendall(b"N")

    def cancel(self, key: bytes) -> None:
        """The console client with that pid, or a key of another worker (pid 0xffff0000 + worker)."""
        pid = struct.unpack("!I", key[:4])[0]
        if pid >= 0xFFFF0000:
            number = self.next_request
            self.next_request += 1
            self.send({"id": number, "op": "cancel", "worker": pid - 0xFFFF0000, "key": key})
            return
        self.send({"op": "console_cancel", "client_id": pid})


def connection(kind: str, index: int) -> dict:
    return {
        "type": kind,
        "user": "u",
        "database": "shop",
        "replication": "none",
        "state": "active",
        "sock_state": "cl_active" if kind == "C" else "sv_active",
        "addr": "127.0.0.1",
        "port": 5000 + index,
        "local_addr": "127.0.0.1",
        "local_port": 6432,
        "connect_time": 1_700_000_000.5,
        "request_time": 0,
        "wait_us": 2_500_000,
        "close_needed": 0,
        "ptr": "0x10",
        "link": "0x20",
        "remote_pid": 77,
        "tls": "",
        "application_name": "app",
        "prepared_statements": 3,
        "id": 100 + index,
        "recv_pos": 0,
        "pkt_pos": 0,
        "pkt_remain": 0,
        "send_pos": 0,
        "send_remain": 0,
        "pkt_avail": index,
        "send_avail": 0,
    }


def pool(index: int) -> dict:
    described = show_pools.SHOWS["POOLS"].columns
    counts = {column.name: 1 for column in described[2:13]}
    return {
        "database": "shop",
        "user": "u",
        **counts,
        "maxwait_us": 1_500_000 * (index + 1),
        "pool_mode": "session",
        "load_balance_hosts": None,
    }


def database(_index: int) -> dict:
    return {
        "name": "shop",
        "host": "127.0.0.1",
        "port": 5432,
        "database": "shop",
        "force_user": None,
        "pool_size": 20,
        "min_pool_size": 0,
        "reserve_pool_size": 0,
        "server_lifetime": 3600,
        "pool_mode": None,
        "load_balance_hosts": None,
        "max_connections": 0,
        "current_connections": 2,
        "max_client_connections": 0,
        "current_client_connections": 3,
        "paused": 0,
        "disabled": 0,
    }


def user(_index: int) -> dict:
    return {
        "name": "u",
        "pool_size": 5,
        "reserve_pool_size": None,
        "pool_mode": None,
        "max_user_connections": 0,
        "current_connections": 2,
        "max_user_client_connections": 0,
        "current_client_connections": 3,
    }


def stats(index: int) -> dict:
    return {
        "database": "shop",
        "server_assignment_count": 10,
        "xact_count": 100 + index,
        "query_count": 200,
        "received": 3_000_000_000,
        "sent": 4000,
        "xact_time": 50,
        "query_time": 40,
        "wait_time": 30,
        "client_parse_count": 1,
        "server_parse_count": 2,
        "bind_count": 3,
        "client_login_count": 4,
    }


LISTS = {
    "databases": 2,
    "users": 2,
    "pools": 2,
    "free_clients": 2,
    "used_clients": 2,
    "login_clients": 2,
    "free_servers": 2,
    "used_servers": 2,
}

STATE = [
    {"kind": "pin", "name": "temporary table", "value": "", "source": "probe"},
    {"kind": "prepared", "name": "q", "value": "PREPARE q AS SELECT 1", "source": "session"},
    {"kind": "unheard-of", "name": "x", "value": None, "source": "session"},
    {"kind": "setting", "name": "work_mem", "value": "8MB", "source": "session"},
    {"kind": "setting", "name": "app.tenant", "value": "é'", "source": "session"},
    {"kind": "start", "name": "search_path", "value": "a, b", "source": "startup"},
    {"kind": "role", "name": "role", "value": "clerk", "source": "session"},
]


def pin(index: int) -> dict:
    return {
        "database": "shop",
        "user": "u",
        "client": f"0x{100 + index:x}",
        "server": "0x5",
        "reasons": "temporary table,pg_advisory_lock",
        "age_us": 61_500_000 + index,
        "transactions": 3_000_000_000,
        "application_name": "app",
    }


def state_counters(index: int) -> list[dict]:
    key = {"database": "shop", "user": "u", "counter": "pins"}
    return [
        {**key, "reason": "temporary table", "count": 3},
        {**key, "reason": f"worker {index}", "count": 1},
    ]


ROWS = {
    "pins": lambda index: [pin(index)],
    "state_counters": state_counters,
    "clients": lambda index: [connection("C", index)],
    "servers": lambda index: [connection("S", index)],
    "sockets": lambda index: [connection("C", index), connection("S", index)],
    "pools": lambda index: [pool(index)],
    "databases": lambda index: [database(index)],
    "users": lambda index: [user(index)],
    "stats": lambda index: [stats(index)],
    "lists": lambda _index: [LISTS],
    "peer_pools": lambda _index: [],
    "mem": lambda _index: [{"name": "client_cache", "size": 500, "used": 2, "free": 1, "memtotal": 1500}],
}


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("index", "workers", "control-fd", "log-fd", "ledger-fd"):
        parser.add_argument(f"--{name}", type=int, required=True)
    for name in ("tcp-fds", "unix-fds", "wake-fds"):
        parser.add_argument(f"--{name}", default="")
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if os.environ.get("FAKE_FAIL_START"):
        print(os.environ["FAKE_FAIL_START"], file=sys.stderr)
        raise SystemExit(7)
    FakeWorker(options).run()


if __name__ == "__main__":
    main()
