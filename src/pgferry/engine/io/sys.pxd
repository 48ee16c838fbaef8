# C declarations of the kernel's interface that Cython does not ship: epoll, sockets, clock. No logic here.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t


cdef extern from "time.h" nogil:
    enum:
        CLOCK_MONOTONIC
        CLOCK_REALTIME
    struct timespec:
        long tv_sec
        long tv_nsec
    int clock_gettime(int clock, timespec *ts)


cdef extern from "sys/epoll.h" nogil:
    enum:
        EPOLLIN
        EPOLLOUT
        EPOLLRDHUP
        EPOLLHUP
        EPOLLERR
        EPOLLET
        EPOLLEXCLUSIVE
        EPOLL_CTL_ADD
        EPOLL_CTL_MOD
        EPOLL_CTL_DEL
        EPOLL_CLOEXEC
    ctypedef union epoll_data_t:
        uint64_t u64
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    int epoll_create1(int flags)
    int epoll_ctl(int epfd, int op, int fd, epoll_event *event)


cdef extern from * nogil:
    """
    #include <sys/epoll.h>
    #include <sys/syscall.h>
    #include <time.h>
    #include <unistd.h>
    #ifndef SYS_epoll_pwait2
    #define SYS_epoll_pwait2 441
    #endif
    /* epoll_wait with a timeout in nanoseconds; -1 and ENOSYS before Linux 5.11. */
    static inline int pgf_epoll_wait_ns(int epfd, struct epoll_event *events, int max, long ns) {
        struct timespec ts = {ns / 1000000000L, ns % 1000000000L};
        return (int)syscall(SYS_epoll_pwait2, epfd, events, max, &ts, (void *)0, (size_t)0);
    }
    """
    int epoll_wait_ns "pgf_epoll_wait_ns" (int epfd, epoll_event *events, int maxevents, long ns)


cdef extern from * nogil:
    """
    #include <fcntl.h>
    #include <unistd.h>
    """
    enum:
        F_SETPIPE_SZ
        O_CLOEXEC
        O_NONBLOCK
        SPLICE_F_MOVE
        SPLICE_F_NONBLOCK
    int fcntl(int fd, int command, ...)
    int pipe2(int *ends, int flags)
    ssize_t read(int fd, void *buf, size_t n)
    ssize_t splice(int source, void *at, int target, void *where, size_t n, unsigned int flags)


cdef extern from "sys/uio.h" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len


cdef extern from "sys/socket.h" nogil:
    enum:
        AF_UNIX
        AF_INET
        AF_INET6
        MSG_NOSIGNAL
        MSG_DONTWAIT
        MSG_PEEK
        SOCK_NONBLOCK
        SOCK_CLOEXEC
        SOL_SOCKET
        SO_ERROR
        SO_KEEPALIVE
        SO_SNDBUF
        SO_RCVBUF
        SO_PEERCRED
    ctypedef uint32_t socklen_t
    struct sockaddr:
        uint16_t sa_family
    struct sockaddr_storage:
        uint16_t ss_family
    struct msghdr:
        void *msg_name
        socklen_t msg_namelen
        iovec *msg_iov
        size_t msg_iovlen
        void *msg_control
        size_t msg_controllen
        int msg_flags
    int accept4(int fd, sockaddr *addr, socklen_t *len, int flags)
    int setsockopt(int fd, int level, int name, const void *value, socklen_t len)
    int getsockopt(int fd, int level, int name, void *value, socklen_t *len)
    int getsockname(int fd, sockaddr *addr, socklen_t *len)


cdef extern from * nogil:
    """
    #include <sys/epoll.h>
    #include <sys/socket.h>
    #include <sys/syscall.h>
    #include <unistd.h>
    /* Each of these is a cancellation point, which libc pays for in a process that has ever had a second thread:
       a tenth of the instructions of a transaction. (The sanitizers watch libc's.) */
    #ifdef __SANITIZE_ADDRESS__
    #define pgf_recv recv
    #define pgf_send send
    #define pgf_sendmsg sendmsg
    #define pgf_epoll_wait epoll_wait
    #else
    static inline ssize_t pgf_recv(int fd, void *buf, size_t n, int flags) {
        return syscall(SYS_recvfrom, fd, buf, n, flags, (void *)0, (void *)0);
    }
    static inline ssize_t pgf_send(int fd, const void *buf, size_t n, int flags) {
        return syscall(SYS_sendto, fd, buf, n, flags, (void *)0, (socklen_t)0);
    }
    static inline ssize_t pgf_sendmsg(int fd, const struct msghdr *msg, int flags) {
        return syscall(SYS_sendmsg, fd, msg, flags);
    }
    static inline int pgf_epoll_wait(int epfd, struct epoll_event *events, int max, int timeout) {
        return (int)syscall(SYS_epoll_pwait, epfd, events, max, timeout, (void *)0, (size_t)0);
    }
    #endif
    """
    ssize_t recv "pgf_recv" (int fd, void *buf, size_t n, int flags)
    ssize_t send "pgf_send" (int fd, const void *buf, size_t n, int flags)
    ssize_t sendmsg "pgf_sendmsg" (int fd, const msghdr *msg, int flags)
    int epoll_wait "pgf_epoll_wait" (int epfd, epoll_event *events, int maxevents, int timeout)


cdef extern from "netinet/in.h" nogil:
    enum:
        IPPROTO_TCP
    struct in_addr:
        uint32_t s_addr
    struct in6_addr:
        uint8_t s6_addr[16]
    struct sockaddr_in:
        uint16_t sin_family
        uint16_t sin_port
        in_addr sin_addr
    struct sockaddr_in6:
        uint16_t sin6_family
        uint16_t sin6_port
        in6_addr sin6_addr


cdef extern from "netinet/tcp.h" nogil:
    enum:
        TCP_NODELAY
        TCP_KEEPCNT
        TCP_KEEPIDLE
        TCP_KEEPINTVL
        TCP_USER_TIMEOUT


cdef extern from "arpa/inet.h" nogil:
    const char *inet_ntop(int family, const void *src, char *dst, socklen_t size)
    uint16_t ntohs(uint16_t value)


cdef extern from "unistd.h" nogil:
    int close(int fd)
    ssize_t read(int fd, void *buf, size_t n)
    ssize_t write(int fd, const void *buf, size_t n)


cdef inline uint16_t be16(const char *p) noexcept nogil:
    return (<uint16_t><uint8_t>p[0] << 8) | <uint8_t>p[1]


cdef inline uint32_t be32(const char *p) noexcept nogil:
    """The big-endian unsigned 32-bit integer at p (four bytes must be there)."""
    return ((<uint32_t><uint8_t>p[0]) << 24) | ((<uint32_t><uint8_t>p[1]) << 16) | (
        (<uint32_t><uint8_t>p[2]) << 8) | <uint32_t><uint8_t>p[3]


cdef inline void put32(char *p, uint32_t value) noexcept nogil:
    """Write value at p as a big-endian 32-bit integer."""
    p[0] = <char>(value >> 24)
    p[1] = <char>((value >> 16) & 0xFF)
    p[2] = <char>((value >> 8) & 0xFF)
    p[3] = <char>(value & 0xFF)


cdef inline double monotonic() noexcept nogil:
    """Seconds of the monotonic clock."""
    cdef timespec ts
    clock_gettime(CLOCK_MONOTONIC, &ts)
    return <double>ts.tv_sec + <double>ts.tv_nsec * 1e-9


cdef inline double realtime() noexcept nogil:
    """Unix time in seconds."""
    cdef timespec ts
    clock_gettime(CLOCK_REALTIME, &ts)
    return <double>ts.tv_sec + <double>ts.tv_nsec * 1e-9
