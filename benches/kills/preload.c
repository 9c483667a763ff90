// Loaded before libc by kills.py: counts the calls that change what lies below KILLS_ROOT, ends the process at
// number KILLS_AT (a write half done, if KILLS_TORN is set), and tells KILLS_LOG of every change, so that what a loss
// of power would leave can be worked out. Every file made below the root stays reachable as KILLS_KEEP/<inode>.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static atomic_long calls;
#define NEXT(name, ...) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))(__VA_ARGS__)

static const char *root(void) { return getenv("KILLS_ROOT"); }

static int below(const char *path) {
  const char *top = root();
  return top && path && strncmp(path, top, strlen(top)) == 0;
}

// The path of a name relative to an open folder, without following its last part.
static const char *at(int folder, const char *name, char *out) {
  char base[PATH_MAX];
  if (name[0] == '/') return name;
  if (folder == AT_FDCWD) {
    if (!getcwd(base, sizeof base)) return 0;
  } else {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
    ssize_t n = readlink(link, base, sizeof base - 1);
    if (n < 0) return 0;
    base[n] = 0;
  }
  snprintf(out, PATH_MAX, "%s/%s", base, name);
  return out;
}

static const char *of(int fd, char *out) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, out, PATH_MAX - 1);
  if (n < 0) return 0;
  out[n] = 0;
  return below(out) ? out : 0;
}

static void tell(const char *form, ...) {
  char line[3 * PATH_MAX];
  va_list list;
  va_start(list, form);
  int n = vsnprintf(line, sizeof line, form, list);
  va_end(list);
  int log = syscall(SYS_open, getenv("KILLS_LOG"), O_WRONLY | O_APPEND | O_CREAT, 0644);
  syscall(SYS_write, log, line, n);
  syscall(SYS_close, log);
}

static void die(void) { syscall(SYS_kill, getpid(), SIGKILL); }

// Counts a call; whether it is the one to end at.
static int due(void) {
  const char *limit = getenv("KILLS_AT");
  return atomic_fetch_add(&calls, 1) + 1 == (limit ? atol(limit) : -1);
}

static void count(void) {
  if (due()) die();
}

static void size_of(int fd, char kind) {
  struct stat data;
  if (fstat(fd, &data) == 0) tell("%c\t%lu\t%ld\n", kind, (unsigned long)data.st_ino, (long)data.st_size);
}

static int opened(int folder, const char *name, int flags, int mode) {
  char room[PATH_MAX];
  const char *path = at(folder, name, room);
  int makes = (flags & O_CREAT) && below(path) && access(path, F_OK) != 0;
  int cuts = (flags & O_TRUNC) && below(path) && access(path, F_OK) == 0;
  if (makes || cuts) count();
  int fd = syscall(SYS_openat, folder, name, flags, mode);
  struct stat data;
  if (fd >= 0 && makes && fstat(fd, &data) == 0 && S_ISREG(data.st_mode)) {
    char keep[PATH_MAX];
    snprintf(keep, sizeof keep, "%s/%lu", getenv("KILLS_KEEP"), (unsigned long)data.st_ino);
    unlink(keep);
    syscall(SYS_linkat, AT_FDCWD, path, AT_FDCWD, keep, 0);
    tell("C\t%lu\t%s\n", (unsigned long)data.st_ino, path);
  }
  if (fd >= 0 && cuts) size_of(fd, 'W');
  return fd;
}

#define OPEN(name)                                  \
  int name(const char *path, int flags, ...) {      \
    va_list list;                                   \
    va_start(list, flags);                          \
    int mode = va_arg(list, int);                   \
    va_end(list);                                   \
    return opened(AT_FDCWD, path, flags, mode);     \
  }
OPEN(open)
OPEN(open64)
int openat64(int folder, const char *path, int flags, ...) {
  va_list list;
  va_start(list, flags);
  int mode = va_arg(list, int);
  va_end(list);
  return opened(folder, path, flags, mode);
}
int openat(int folder, const char *path, int flags, ...) {
  va_list list;
  va_start(list, flags);
  int mode = va_arg(list, int);
  va_end(list);
  return opened(folder, path, flags, mode);
}

ssize_t write(int fd, const void *bytes, size_t n) {
  char room[PATH_MAX];
  if (!of(fd, room)) return syscall(SYS_write, fd, bytes, n);
  if (due()) {
    if (getenv("KILLS_TORN")) {
      syscall(SYS_write, fd, bytes, n / 2);
      size_of(fd, 'W');
    }
    die();
  }
  ssize_t done = syscall(SYS_write, fd, bytes, n);
  size_of(fd, 'W');
  return done;
}

// What copies a file without passing through this process.
ssize_t copy_file_range(int from, off64_t *a, int to, off64_t *b, size_t n, unsigned flags) {
  char room[PATH_MAX];
  int ours = of(to, room) != 0;
  if (ours) count();
  ssize_t done = syscall(SYS_copy_file_range, from, a, to, b, n, flags);
  if (ours) size_of(to, 'W');
  return done;
}
ssize_t sendfile64(int to, int from, off64_t *at, size_t n) {
  char room[PATH_MAX];
  int ours = of(to, room) != 0;
  if (ours) count();
  ssize_t done = syscall(SYS_sendfile, to, from, at, n);
  if (ours) size_of(to, 'W');
  return done;
}

static int cut(int fd, off_t n) {
  char room[PATH_MAX];
  int ours = of(fd, room) != 0;
  if (ours) count();
  int done = syscall(SYS_ftruncate, fd, n);
  if (ours) size_of(fd, 'W');
  return done;
}
int ftruncate(int fd, off_t n) { return cut(fd, n); }
int ftruncate64(int fd, off_t n) { return cut(fd, n); }

static int synced(int fd, long call) {
  char room[PATH_MAX];
  const char *path = of(fd, room);
  if (path) count();
  int done = syscall(call, fd);
  struct stat data;
  if (path && fstat(fd, &data) == 0) {
    if (S_ISDIR(data.st_mode)) tell("D\t0\t%s\n", path);
    else tell("S\t%lu\t%ld\n", (unsigned long)data.st_ino, (long)data.st_size);
  }
  return done;
}
int fsync(int fd) { return synced(fd, SYS_fsync); }
int fdatasync(int fd) { return synced(fd, SYS_fdatasync); }

#define NAMES(call, kind, from, to)                              \
  char one[PATH_MAX], two[PATH_MAX];                             \
  const char *a = at(AT_FDCWD, from, one), *b = at(AT_FDCWD, to, two); \
  int ours = below(a) || below(b);                               \
  if (ours) count();                                             \
  int done = call;                                               \
  if (ours && done == 0) tell(kind "\t%s\t%s\n", a, b);          \
  return done;
int rename(const char *from, const char *to) {
  NAMES(syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0), "R", from, to)
}
int linkat(int f, const char *from, int t, const char *to, int flags) {
  NAMES(syscall(SYS_linkat, f, from, t, to, flags), "L", from, to)
}

static int removed(int folder, const char *name, int flags) {
  char room[PATH_MAX];
  const char *path = at(folder, name, room);
  int ours = below(path);
  if (ours) count();
  int done = syscall(SYS_unlinkat, folder, name, flags);
  if (ours && done == 0) tell("U\t0\t%s\n", path);
  return done;
}
int unlink(const char *path) { return removed(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return removed(AT_FDCWD, path, AT_REMOVEDIR); }
int unlinkat(int folder, const char *name, int flags) { return removed(folder, name, flags); }

int mkdir(const char *name, mode_t mode) {
  char room[PATH_MAX];
  const char *path = at(AT_FDCWD, name, room);
  int ours = below(path);
  if (ours) count();
  int done = syscall(SYS_mkdirat, AT_FDCWD, name, mode);
  if (ours && done == 0) tell("M\t0\t%s\n", path);
  return done;
}

__attribute__((destructor)) static void end(void) {
  if (root() && getenv("KILLS_COUNT")) {
    int fd = syscall(SYS_open, getenv("KILLS_COUNT"), O_WRONLY | O_CREAT | O_APPEND, 0644);
    char line[32];
    int n = snprintf(line, sizeof line, "%ld\n", atomic_load(&calls));
    syscall(SYS_write, fd, line, n);
    syscall(SYS_close, fd);
  }
}
