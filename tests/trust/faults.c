/* Loaded before the C library (LD_PRELOAD): makes the n-th change of a folder fail, or kills there.
   Only calls that touch files below the folder count. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum { COUNT, FAIL, FULL, KILL, TEAR };
static char folder[4096];
static long seen, at = -1;
static int mode, error;

void fault_arm(const char *where, long n, int how, int number) {
    strncpy(folder, where, sizeof folder - 1);
    seen = 0, at = n, mode = how, error = number;
}
long fault_seen(void) { return seen; }

static int below(const char *path) {
    size_t length = strlen(folder);
    return length && path && !strncmp(path, folder, length);
}
static int handle_below(int handle) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", handle);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) return 0;
    path[n] = 0;
    return below(path);
}
static int at_below(int handle, const char *path) {
    return path[0] == '/' || handle == AT_FDCWD ? below(path) : handle_below(handle);
}
/* 1: this call is to fail; grows: it needs room on the disk */
static int due(int grows) {
    long now = seen++;
    if (at < 0 || now < at || mode == COUNT) return 0;
    if (mode == FULL) { errno = error; return grows || error == EROFS; }
    if (now > at) return 0;
    if (mode == KILL) raise(SIGKILL);
    if (mode == FAIL) { errno = error; return 1; }
    return 0; /* TEAR: the call itself decides */
}
static int tears(void) { return mode == TEAR && seen == at + 1; }

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define WRITES(name, type, extra, pass)                                      \
    ssize_t name(int f, const void *b, size_t n extra) {                    \
        if (!handle_below(f)) return REAL(name)(f, b, n pass);               \
        if (due(1)) return -1;                                               \
        if (!tears()) return REAL(name)(f, b, n pass);                       \
        REAL(name)(f, b, n / 2 pass);                                        \
        raise(SIGKILL);                                                      \
        return -1;                                                           \
    }
#define NONE
#define COMMA ,
WRITES(write, ssize_t, NONE, NONE)
WRITES(pwrite, ssize_t, COMMA off_t o, COMMA o)
WRITES(pwrite64, ssize_t, COMMA off64_t o, COMMA o)

#define DONE(call)                                   \
    int done = (call);                               \
    if (tears()) raise(SIGKILL);                     \
    return done;
#define ON_HANDLE(name)                              \
    int name(int f) {                                \
        if (!handle_below(f)) return REAL(name)(f);  \
        if (due(1)) return -1;                       \
        DONE(REAL(name)(f))                          \
    }
ON_HANDLE(fsync)
ON_HANDLE(fdatasync)

#define ON_PATH(name, grows, parameters, pass, where)            \
    int name parameters {                                        \
        if (!(where)) return REAL(name) pass;                    \
        if (due(grows)) return -1;                               \
        DONE(REAL(name) pass)                                    \
    }
ON_PATH(rename, 0, (const char *a, const char *b), (a, b), below(b))
ON_PATH(renameat, 0, (int f, const char *a, int g, const char *b), (f, a, g, b), at_below(g, b))
ON_PATH(unlink, 0, (const char *a), (a), below(a))
ON_PATH(unlinkat, 0, (int f, const char *a, int flags), (f, a, flags), at_below(f, a))
ON_PATH(rmdir, 0, (const char *a), (a), below(a))
ON_PATH(mkdir, 1, (const char *a, mode_t m), (a, m), below(a))

#define OPENS(name, parameters, pass, where)                                    \
    int name parameters {                                                       \
        va_list rest; va_start(rest, flags); mode_t m = va_arg(rest, mode_t);   \
        va_end(rest);                                                           \
        if (!(flags & O_CREAT) || !(where)) return REAL(name) pass;             \
        if (due(1)) return -1;                                                  \
        DONE(REAL(name) pass)                                                   \
    }
OPENS(open, (const char *a, int flags, ...), (a, flags, m), below(a))
OPENS(open64, (const char *a, int flags, ...), (a, flags, m), below(a))
OPENS(openat, (int f, const char *a, int flags, ...), (f, a, flags, m), at_below(f, a))
OPENS(openat64, (int f, const char *a, int flags, ...), (f, a, flags, m), at_below(f, a))
