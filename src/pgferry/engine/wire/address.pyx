"""Socket addresses: as text, made only when somebody wants to read them, and from the text of settings."""

import socket

from pgferry.engine.io.sys cimport (
    AF_INET, AF_INET6, getsockname, inet_ntop, ntohs, sockaddr, sockaddr_in, sockaddr_in6, sockaddr_storage, socklen_t,
)


cdef tuple address_text(bytes raw):
    """(host, port) of a struct sockaddr; ("unix", 0) when it is no internet address."""
    cdef char text[64]
    cdef const char *p = raw
    cdef const sockaddr_in *v4
    cdef const sockaddr_in6 *v6
    if len(raw) < 16:
        return ("unix", 0)
    v4 = <const sockaddr_in *>p
    if v4.sin_family == AF_INET:
        inet_ntop(AF_INET, &v4.sin_addr, text, 64)
        return (text.decode("ascii"), ntohs(v4.sin_port))
    if v4.sin_family == AF_INET6 and len(raw) >= 28:
        v6 = <const sockaddr_in6 *>p
        inet_ntop(AF_INET6, &v6.sin6_addr, text, 64)
        return (text.decode("ascii"), ntohs(v6.sin6_port))
    return ("unix", 0)


cdef bytes local_address(int fd):
    """The struct sockaddr this end of a connection has."""
    cdef sockaddr_storage addr
    cdef socklen_t n = sizeof(addr)
    if getsockname(fd, <sockaddr *>&addr, &n) < 0:
        return b""
    return (<const char *>&addr)[:n]


def as_address(host, port):
    """(family, sockaddr) of an address literal; None for a name."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return (family, (host, port))
    return None


def unix_address(host, port):
    """The sockaddr of the unix socket in directory `host` (`@name`: abstract); None when it is no directory."""
    if not host.startswith(("/", "@")):
        return None
    path = f"{host}/.s.PGSQL.{port}"
    return "\0" + path[1:] if host.startswith("@") else path
