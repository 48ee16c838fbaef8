/* System calls and allocations that fail when a test says so: LD_PRELOAD, with what is to fail in the file
   PGFERRY_FAULTS (faults.py writes it and reads the counts). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

extern void *__libc_malloc(size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_calloc(size_t, size_t);

/* As KINDS in faults.py. */
enum { EPOLL_ADD, MEMORY, EPOLL_WAIT, ACCEPT, RECV, SEND, SOCKET, CONNECT, OPEN, FORK, THREAD, EVENTFD, SOCKETPAIR, PIPE,
       SPLICE, WRITE, KINDS };

#define HALF (-1)           /* for `code`: not an error, but half of the bytes only */

struct kind {
    int left;               /* how many are still to fail, */
    int after;              /* from the call behind this one on */
    int calls;              /* how many there were since the test began to count */
    int code;               /* errno */
};

struct faults {
    int pid;                /* in this process only; 0: in all */
    int large;              /* allocations of so many bytes and more are counted */
    struct kind kinds[KINDS];
};

static struct faults *faults;

__attribute__((constructor)) static void open_counters(void)
{
    const char *path = getenv("PGFERRY_FAULTS");
    int fd = path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC) : -1;
    void *at;
    if (fd < 0)
        return;
    at = mmap(NULL, sizeof(struct faults), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (at != MAP_FAILED)
        faults = at;
}

/* 0, or the errno that this call is to fail with. */
static int fails(int kind)
{
    struct kind *k;
    int number;
    if (!faults || (faults->pid && faults->pid != getpid()))
        return 0;
    k = &faults->kinds[kind];
    number = __sync_add_and_fetch(&k->calls, 1);
    if (k->left <= 0 || number <= k->after)
        return 0;
    if (__sync_fetch_and_sub(&k->left, 1) > 0)
        return errno = k->code;
    __sync_fetch_and_add(&k->left, 1);
    return 0;
}

#define NEXT(result, name, ...) \
    static result (*next)(__VA_ARGS__); \
    if (!next) \
        next = (result (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

static int lacks_memory(size_t n)
{
    return faults && n >= (size_t)faults->large && fails(MEMORY);
}

void *malloc(size_t n)
{
    return lacks_memory(n) ? NULL : __libc_malloc(n);
}

void *realloc(void *p, size_t n)
{
    return lacks_memory(n) ? NULL : __libc_realloc(p, n);
}

void *calloc(size_t n, size_t size)
{
    return lacks_memory(n * size) ? NULL : __libc_calloc(n, size);
}

int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
    NEXT(int, epoll_ctl, int, int, int, struct epoll_event *);
    return op == EPOLL_CTL_ADD && fails(EPOLL_ADD) ? -1 : next(epfd, op, fd, event);
}

int epoll_wait(int epfd, struct epoll_event *events, int most, int timeout)
{
    NEXT(int, epoll_wait, int, struct epoll_event *, int, int);
    return fails(EPOLL_WAIT) ? -1 : next(epfd, events, most, timeout);
}

int accept4(int fd, struct sockaddr *address, socklen_t *size, int flags)
{
    NEXT(int, accept4, int, struct sockaddr *, socklen_t *, int);
    return fails(ACCEPT) ? -1 : next(fd, address, size, flags);
}

ssize_t recv(int fd, void *data, size_t n, int flags)
{
    NEXT(ssize_t, recv, int, void *, size_t, int);
    return fails(RECV) ? -1 : next(fd, data, n, flags);
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    NEXT(ssize_t, recvmsg, int, struct msghdr *, int);
    return fails(RECV) ? -1 : next(fd, message, flags);
}

ssize_t send(int fd, const void *data, size_t n, int flags)
{
    NEXT(ssize_t, send, int, const void *, size_t, int);
    int code = fails(SEND);
    return code == HALF ? next(fd, data, n / 2 + 1, flags) : code ? -1 : next(fd, data, n, flags);
}

/* A part of the first piece, with its descriptors. */
static ssize_t send_part(const struct msghdr *message, ssize_t (*next)(int, const struct msghdr *, int), int fd, int flags)
{
    struct msghdr part = *message;
    struct iovec first = message->msg_iov[0];
    first.iov_len = first.iov_len / 2 + 1;
    part.msg_iov = &first;
    part.msg_iovlen = 1;
    return next(fd, &part, flags);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    NEXT(ssize_t, sendmsg, int, const struct msghdr *, int);
    int code = fails(SEND);
    return code == HALF ? send_part(message, next, fd, flags) : code ? -1 : next(fd, message, flags);
}

int socket(int family, int type, int protocol)
{
    NEXT(int, socket, int, int, int);
    return fails(SOCKET) ? -1 : next(family, type, protocol);
}

int connect(int fd, const struct sockaddr *address, socklen_t size)
{
    NEXT(int, connect, int, const struct sockaddr *, socklen_t);
    return fails(CONNECT) ? -1 : next(fd, address, size);
}

#define OPENS(name, before, pass, forms) \
    int name(before const char *path, int flags, ...) \
    { \
        NEXT(int, name, forms const char *, int, ...); \
        mode_t mode; \
        va_list rest; \
        va_start(rest, flags); \
        mode = flags & (O_CREAT | O_TMPFILE) ? (mode_t)va_arg(rest, int) : 0; \
        va_end(rest); \
        return fails(OPEN) ? -1 : next(pass path, flags, mode); \
    }
#define NOTHING
#define AT int at,
#define PASS_AT at,
#define FORM_AT int,

OPENS(open, NOTHING, NOTHING, NOTHING)
OPENS(open64, NOTHING, NOTHING, NOTHING)
OPENS(openat, AT, PASS_AT, FORM_AT)
OPENS(openat64, AT, PASS_AT, FORM_AT)

pid_t fork(void)
{
    NEXT(pid_t, fork, void);
    return fails(FORK) ? -1 : next();
}

pid_t vfork(void)           /* which no function can pass on: its frame would be the child's, too */
{
    return fork();
}

int pthread_create(pthread_t *thread, const pthread_attr_t *about, void *(*work)(void *), void *with)
{
    NEXT(int, pthread_create, pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    return fails(THREAD) ? errno : next(thread, about, work, with);
}

int eventfd(unsigned int start, int flags)
{
    NEXT(int, eventfd, unsigned int, int);
    return fails(EVENTFD) ? -1 : next(start, flags);
}

int socketpair(int family, int type, int protocol, int ends[2])
{
    NEXT(int, socketpair, int, int, int, int *);
    return fails(SOCKETPAIR) ? -1 : next(family, type, protocol, ends);
}

int pipe2(int ends[2], int flags)
{
    NEXT(int, pipe2, int *, int);
    return fails(PIPE) ? -1 : next(ends, flags);
}

ssize_t splice(int source, off64_t *at, int target, off64_t *where, size_t n, unsigned int flags)
{
    NEXT(ssize_t, splice, int, off64_t *, int, off64_t *, size_t, unsigned int);
    int code = fails(SPLICE);
    return code == HALF ? next(source, at, target, where, n / 2 + 1, flags)
        : code ? -1 : next(source, at, target, where, n, flags);
}

ssize_t write(int fd, const void *data, size_t n)
{
    NEXT(ssize_t, write, int, const void *, size_t);
    int code = fails(WRITE);
    return code == HALF ? next(fd, data, n / 2 + 1) : code ? -1 : next(fd, data, n);
}

/* The engine makes the calls of its hot path without libc's cancellation points. */
long syscall(long number, ...)
{
    NEXT(long, syscall, long, ...);
    long a[6];
    int i, code = 0;
    va_list rest;
    va_start(rest, number);
    for (i = 0; i < 6; i++)
        a[i] = va_arg(rest, long);
    va_end(rest);
    if (number == SYS_recvfrom)
        code = fails(RECV);
    else if (number == SYS_sendto || number == SYS_sendmsg)
        code = fails(SEND);
    else if (number == SYS_epoll_pwait || number == 441 /* epoll_pwait2 */)
        code = fails(EPOLL_WAIT);
    if (code == HALF && number == SYS_sendto)
        a[2] = a[2] / 2 + 1;
    else if (code == HALF && number == SYS_sendmsg) {
        struct msghdr part = *(const struct msghdr *)a[1];
        struct iovec first = part.msg_iov[0];
        first.iov_len = first.iov_len / 2 + 1;
        part.msg_iov = &first;
        part.msg_iovlen = 1;
        return next(number, a[0], (long)&part, a[2], 0L, 0L, 0L);
    }
    else if (code && code != HALF)
        return -1;
    return next(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
