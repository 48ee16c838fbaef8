"""What Python sees of client parts."""

class ClientPeer:
    peer_pid: int
    peer_uid: int
    listen_port: int
    is_unix: bool
    cancel_key: bytes | None
