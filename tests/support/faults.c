/* System calls and allocations that fail when a test says so: LD_PRELOAD, with the counters in the file PGFERRY_FAULTS. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

extern void *__libc_malloc(size_t);
extern void *__libc_realloc(void *, size_t);

enum { EPOLL_ADD, MEMORY, KINDS };

static volatile int *left;   /* how many of a kind are still to fail */

__attribute__((constructor)) static void open_counters(void)
{
    const char *path = getenv("PGFERRY_FAULTS");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *at;
    if (fd < 0)
        return;
    at = mmap(NULL, KINDS * sizeof(int), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (at != MAP_FAILED)
        left = at;
}

static int fails(int kind)
{
    if (!left || left[kind] <= 0)
        return 0;
    if (__sync_fetch_and_sub(&left[kind], 1) > 0)
        return 1;
    __sync_fetch_and_add(&left[kind], 1);
    return 0;
}

int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
    if (op == EPOLL_CTL_ADD && fails(EPOLL_ADD)) {
        errno = ENOSPC;
        return -1;
    }
    return syscall(SYS_epoll_ctl, epfd, op, fd, event);
}

#define LARGE 16384

void *malloc(size_t n)
{
    if (n >= LARGE && fails(MEMORY)) {
        errno = ENOMEM;
        return NULL;
    }
    return __libc_malloc(n);
}

void *realloc(void *p, size_t n)
{
    if (n >= LARGE && fails(MEMORY)) {
        errno = ENOMEM;
        return NULL;
    }
    return __libc_realloc(p, n);
}
