/*
 * Keeps the process alive when a page of a mapped file cannot be read: the file was cut, or the disk refuses the sector. The system
 * then raises SIGBUS in the thread that touched the page, and no JavaScript can answer that.
 *
 * A map that is watched gets a page of zeros where the page is missing, and the read goes on with those. So that nobody takes the zeros for
 * data, two counters in shared memory rise before it goes on: who checks a record reads them again after it has looked at the bytes.
 *
 *   counts[0]        pages replaced in all maps that share these counters
 *   counts[index]    pages replaced in this map, and in others with its index
 *
 * Every other SIGBUS goes to whoever handled it before, as if this were not here.
 *
 * And tells how long an open file is, for those who look whether somebody has cut it, and where it holds something; and bounds how much a
 * connection may send ahead.
 *
 * Only what is safe in a signal handler is used there: atomic loads and adds on memory that is never freed, and mmap, which is a bare system
 * call. Entries are claimed and given back by an atomic store of `start`, so a handler in one thread can look while another thread
 * changes the list. The library must stay loaded as long as the process lives (it is linked so): the handler is never taken back.
 *
 * Node-API 8, plain C11: one binary serves every later version of Node.js.
 */
#define _GNU_SOURCE
#define NAPI_VERSION 8
#include <errno.h>
#ifdef __linux__
#include <linux/tcp.h>
#include <netinet/in.h>
#endif
#include <node_api.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef MAP_ANONYMOUS
#define MAP_ANONYMOUS MAP_ANON
#endif

#define ENTRIES_PER_BLOCK 1024

/* Of Linux 5.14, and of later headers than some machines have. */
#if defined(__linux__) && !defined(SO_BUF_LOCK)
#define SO_BUF_LOCK 72
#endif
#define RECEIVE_LOCK 2
/* The round trip to a client on the same machine, or in the same room, is shorter. */
#define NEAR_MICROSECONDS_MAX 5000

/* One watched map. Unused while `start` is 0. */
typedef struct {
  _Atomic uintptr_t start;
  _Atomic uintptr_t end;
  _Atomic(_Atomic int32_t *) counts;
  _Atomic int32_t index;
} Entry;

/* Blocks are added and never freed. */
typedef struct Block {
  Entry entries[ENTRIES_PER_BLOCK];
  _Atomic(struct Block *) next;
} Block;

/* What JavaScript holds of a watched map. */
typedef struct {
  Entry *entry;
  napi_ref counts;
} Watch;

static Block first_block;
/* For those who claim entries; the handler takes no lock. */
static atomic_flag claim_lock = ATOMIC_FLAG_INIT;
static int installed;
static struct sigaction previous_action;
static uintptr_t page_bytes;

/* Puts zeros where the page of `address` should be. Non-zero: they are there, and counted. */
static int replace_page(uintptr_t address) {
  const uintptr_t page = address & ~(page_bytes - 1);
  for (Block *block = &first_block; block != NULL; block = atomic_load(&block->next)) {
    for (int i = 0; i < ENTRIES_PER_BLOCK; i++) {
      Entry *entry = &block->entries[i];
      const uintptr_t start = atomic_load(&entry->start);
      if (start == 0 || address < start) continue;
      const uintptr_t end = atomic_load(&entry->end);
      if (address >= end) continue;
      _Atomic int32_t *counts = atomic_load(&entry->counts);
      const int32_t index = atomic_load(&entry->index);
      /* Another thread may have given the entry to another map just now; the one of a map that is being read stays. */
      if (atomic_load(&entry->start) != start) continue;
      const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
      /* A process may have only so many maps, and a hole in one makes two of it: then all of this one goes. */
      if (mmap((void *)page, page_bytes, PROT_READ, flags, -1, 0) == MAP_FAILED &&
          mmap((void *)start, end - start, PROT_READ, flags, -1, 0) == MAP_FAILED)
        return 0;
      atomic_fetch_add(&counts[index], 1);
      atomic_fetch_add(&counts[0], 1);
      return 1;
    }
  }
  return 0;
}

static void on_bus_error(int signal_number, siginfo_t *info, void *context) {
  const int saved_errno = errno;
  /* A positive code: raised by the kernel for an access, not sent by a process. */
  const int handled = info->si_code > 0 && replace_page((uintptr_t)info->si_addr);
  errno = saved_errno;
  if (handled) return;
  if ((previous_action.sa_flags & SA_SIGINFO) != 0) {
    previous_action.sa_sigaction(signal_number, info, context);
  } else if (previous_action.sa_handler == SIG_DFL ||
             (previous_action.sa_handler == SIG_IGN && info->si_code > 0)) {
    /* The access is made again, or the signal sent again, and ends the process as it would have. */
    struct sigaction standard;
    memset(&standard, 0, sizeof standard);
    standard.sa_handler = SIG_DFL;
    sigaction(SIGBUS, &standard, NULL);
    if (info->si_code <= 0) raise(SIGBUS);
  } else if (previous_action.sa_handler != SIG_IGN) {
    previous_action.sa_handler(signal_number);
  }
}

static void lock(void) {
  while (atomic_flag_test_and_set(&claim_lock)) sched_yield();
}

static void unlock(void) { atomic_flag_clear(&claim_lock); }

/* Once for the process; under the lock. Zero: it cannot be. */
static int install(void) {
  if (installed) return 1;
  struct sigaction action;
  memset(&action, 0, sizeof action);
  page_bytes = (uintptr_t)sysconf(_SC_PAGESIZE);
  sigemptyset(&action.sa_mask);
  action.sa_sigaction = on_bus_error;
  /* On the alternate stack where a thread has one, as Node.js' own handlers. */
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  /* Read first: a fault may come as soon as the handler is there. */
  if (sigaction(SIGBUS, NULL, &previous_action) != 0) return 0;
  installed = sigaction(SIGBUS, &action, NULL) == 0;
  return installed;
}

/* A free entry with everything but `start` filled in; NULL: no memory. */
static Entry *claim(uintptr_t start, uintptr_t end, _Atomic int32_t *counts, int32_t index) {
  Entry *claimed = NULL;
  lock();
  for (Block *block = &first_block; claimed == NULL; block = atomic_load(&block->next)) {
    for (int i = 0; i < ENTRIES_PER_BLOCK && claimed == NULL; i++)
      if (atomic_load(&block->entries[i].start) == 0) claimed = &block->entries[i];
    if (claimed == NULL && atomic_load(&block->next) == NULL) {
      Block *fresh = calloc(1, sizeof *fresh);
      if (fresh == NULL) break;
      atomic_store(&block->next, fresh);
    }
  }
  if (claimed != NULL) {
    atomic_store(&claimed->end, end);
    atomic_store(&claimed->counts, counts);
    atomic_store(&claimed->index, index);
    atomic_store(&claimed->start, start);
  }
  unlock();
  return claimed;
}

/* The map's memory has no user any more. */
static void unwatch(napi_env env, void *data, void *hint) {
  Watch *watch = data;
  (void)hint;
  atomic_store(&watch->entry->start, 0);
  napi_delete_reference(env, watch->counts);
  free(watch);
}

static napi_value fail(napi_env env, const char *message) {
  napi_throw_error(env, NULL, message);
  return NULL;
}

/* watch(map: ArrayBuffer, counts: Int32Array, index: number): void. The map is watched until nobody refers to it any more. */
static napi_value watch(napi_env env, napi_callback_info info) {
  napi_value arguments[3];
  size_t argument_count = 3;
  void *start;
  size_t bytes;
  napi_typedarray_type type;
  size_t length;
  void *counts;
  int32_t index;
  if (napi_get_cb_info(env, info, &argument_count, arguments, NULL, NULL) != napi_ok || argument_count < 3 ||
      napi_get_arraybuffer_info(env, arguments[0], &start, &bytes) != napi_ok ||
      napi_get_typedarray_info(env, arguments[1], &type, &length, &counts, NULL, NULL) != napi_ok ||
      napi_get_value_int32(env, arguments[2], &index) != napi_ok)
    return fail(env, "watch takes the ArrayBuffer of a map, an Int32Array of counters, and an index in it");
  if (type != napi_int32_array || index < 1 || (size_t)index >= length)
    return fail(env, "the counters of a watched map must be an Int32Array with its index in it, from 1 on");
  lock();
  const int is_installed = install();
  unlock();
  if (!is_installed) return fail(env, "the handler of SIGBUS could not be installed");
  if (bytes == 0 || ((uintptr_t)start & (page_bytes - 1)) != 0)
    return fail(env, "a watched map must begin with a page");
  Watch *watch = malloc(sizeof *watch);
  if (watch == NULL) return fail(env, "there is no memory to watch a map");
  if (napi_create_reference(env, arguments[1], 1, &watch->counts) != napi_ok) {
    free(watch);
    return fail(env, "the counters of a watched map cannot be referred to");
  }
  watch->entry = claim((uintptr_t)start, (uintptr_t)start + bytes, counts, index);
  if (watch->entry == NULL) {
    napi_delete_reference(env, watch->counts);
    free(watch);
    return fail(env, "there is no memory to watch a map");
  }
  if (napi_add_finalizer(env, arguments[0], watch, unwatch, NULL, NULL) != napi_ok) {
    unwatch(env, watch, NULL);
    return fail(env, "the end of a watched map cannot be noticed");
  }
  return NULL;
}

/*
 * fileBytes(descriptor: number): number. The size of an open file, by where its end is. Asking by stat would do, too; but a kernel with
 * multigrain timestamps (Linux 6.13) then gives the next write a time of its own, and the sync of that write takes 40 µs more.
 */
static napi_value file_bytes(napi_env env, napi_callback_info info) {
  napi_value argument;
  size_t argument_count = 1;
  int32_t descriptor;
  if (napi_get_cb_info(env, info, &argument_count, &argument, NULL, NULL) != napi_ok || argument_count < 1 ||
      napi_get_value_int32(env, argument, &descriptor) != napi_ok)
    return fail(env, "fileBytes takes a file descriptor");
  const off_t end = lseek(descriptor, 0, SEEK_END);
  if (end < 0) {
    napi_throw_error(env, errno == EBADF ? "EBADF" : "EINVAL", "the size of a file cannot be found out");
    return NULL;
  }
  napi_value bytes;
  return napi_create_int64(env, end, &bytes) == napi_ok ? bytes : NULL;
}

/*
 * nextData(descriptor: number, from: number): number. Where a file holds something at or after a position, as far as its file system can tell:
 * what lies before reads as zeros. -1: only zeros are left.
 */
static napi_value next_data(napi_env env, napi_callback_info info) {
  napi_value arguments[2];
  size_t argument_count = 2;
  int32_t descriptor;
  int64_t from;
  if (napi_get_cb_info(env, info, &argument_count, arguments, NULL, NULL) != napi_ok || argument_count < 2 ||
      napi_get_value_int32(env, arguments[0], &descriptor) != napi_ok ||
      napi_get_value_int64(env, arguments[1], &from) != napi_ok)
    return fail(env, "nextData takes a file descriptor and a position");
#ifdef SEEK_DATA
  const off_t found = lseek(descriptor, from, SEEK_DATA);
  /* Any other error is of a file system that cannot tell. */
  if (found >= 0) from = found;
  else if (errno == ENXIO) from = -1;
#endif
  napi_value position;
  return napi_create_int64(env, from, &position) == napi_ok ? position : NULL;
}

#ifdef __linux__
/* What the system knows of a TCP connection, and what later headers have behind it. */
typedef struct {
  struct tcp_info known;
  uint32_t later[32];
} Facts;

/* Where the window stands that was last offered to the other end: Linux 6.2 and later. */
#define OFFERED_AT (offsetof(struct tcp_info, tcpi_snd_wnd) + sizeof(uint32_t))

/* Whether this is a TCP connection to somebody near, of a system that tells the window that it has offered. */
static int read_facts(int descriptor, Facts *facts, uint32_t *offered) {
  socklen_t length = sizeof *facts;
  if (getsockopt(descriptor, IPPROTO_TCP, TCP_INFO, facts, &length) != 0 || length < OFFERED_AT + sizeof *offered) return 0;
  memcpy(offered, (char *)facts + OFFERED_AT, sizeof *offered);
  return facts->known.tcpi_min_rtt < NEAR_MICROSECONDS_MAX;
}
#endif

/* Up to three numbers from JavaScript. Zero: they are none. */
static int read_numbers(napi_env env, napi_callback_info info, int32_t *numbers, size_t count) {
  napi_value arguments[3];
  size_t argument_count = count;
  if (napi_get_cb_info(env, info, &argument_count, arguments, NULL, NULL) != napi_ok || argument_count < count) return 0;
  for (size_t i = 0; i < count; i++)
    if (napi_get_value_int32(env, arguments[i], &numbers[i]) != napi_ok) return 0;
  return 1;
}

static napi_value number_of(napi_env env, int32_t number) {
  napi_value result;
  return napi_create_int32(env, number, &result) == napi_ok ? result : NULL;
}

/*
 * clampWindow(descriptor: number, bytes: number, unreadMin: number): number. Has a TCP connection offer no more than so much at once, where so
 * much waits in it to be read and the other end is near (0: in any case); answers what it was before. 0: it is left as it is.
 */
static napi_value clamp_window(napi_env env, napi_callback_info info) {
  int32_t numbers[3];
  int former = 0;
  if (!read_numbers(env, info, numbers, 3)) return fail(env, "clampWindow takes a file descriptor, a window and what must be waiting");
#ifdef __linux__
  const int descriptor = numbers[0], bytes = numbers[1], unread_min = numbers[2];
  Facts facts;
  uint32_t offered;
  int unread;
  socklen_t length = sizeof former;
  if (!read_facts(descriptor, &facts, &offered) ||
      (unread_min > 0 && (ioctl(descriptor, FIONREAD, &unread) != 0 || unread < unread_min)) ||
      getsockopt(descriptor, IPPROTO_TCP, TCP_WINDOW_CLAMP, &former, &length) != 0 ||
      (unread_min > 0 && former <= bytes) ||
      setsockopt(descriptor, IPPROTO_TCP, TCP_WINDOW_CLAMP, &bytes, sizeof bytes) != 0)
    former = 0;
#endif
  return number_of(env, former);
}

#ifdef __linux__
/* Has the system keep so much for a connection, unread. It doubles what it is told, and locks it. */
static int keep_bytes(int descriptor, int bytes) {
  const int half = bytes / 2;
  return setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &half, sizeof half);
}
#endif

/*
 * boundBuffer(descriptor: number, bytes: number, offeredMax: number): number. Has the system keep no more than so much for a TCP connection,
 * unread, once it has offered no more than that: what was offered and has no room would be thrown away, and sent again ever later. Answers
 * how much it was before; 0: it is left as it is.
 */
static napi_value bound_buffer(napi_env env, napi_callback_info info) {
  int32_t numbers[3];
  int former = 0;
  if (!read_numbers(env, info, numbers, 3)) return fail(env, "boundBuffer takes a file descriptor, a size and what may be offered");
#ifdef __linux__
  const int descriptor = numbers[0];
  Facts facts;
  uint32_t offered;
  int locks;
  socklen_t length = sizeof former, locks_length = sizeof locks;
  if (!read_facts(descriptor, &facts, &offered) || offered > (uint32_t)numbers[2] ||
      getsockopt(descriptor, SOL_SOCKET, SO_BUF_LOCK, &locks, &locks_length) != 0 || (locks & RECEIVE_LOCK) != 0 ||
      getsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &former, &length) != 0 || keep_bytes(descriptor, numbers[1]) != 0)
    former = 0;
#endif
  return number_of(env, former);
}

/*
 * freeBuffer(descriptor: number, bytes: number): void. Lets the system choose again how much it keeps for a TCP connection that was bound, from
 * so much on. One that has come under the same descriptor since is not locked, and left as it is.
 */
static napi_value free_buffer(napi_env env, napi_callback_info info) {
  int32_t numbers[2];
  if (!read_numbers(env, info, numbers, 2)) return fail(env, "freeBuffer takes a file descriptor and a size");
#ifdef __linux__
  const int descriptor = numbers[0];
  Facts facts;
  uint32_t offered;
  int locks;
  socklen_t length = sizeof locks;
  if (read_facts(descriptor, &facts, &offered) && getsockopt(descriptor, SOL_SOCKET, SO_BUF_LOCK, &locks, &length) == 0 &&
      (locks & RECEIVE_LOCK) != 0 && keep_bytes(descriptor, numbers[1]) == 0) {
    locks &= ~RECEIVE_LOCK;
    setsockopt(descriptor, SOL_SOCKET, SO_BUF_LOCK, &locks, sizeof locks);
  }
#endif
  return NULL;
}

static int export_function(napi_env env, napi_value exports, const char *name, napi_callback callback) {
  napi_value function;
  return napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, NULL, &function) == napi_ok &&
         napi_set_named_property(env, exports, name, function) == napi_ok;
}

NAPI_MODULE_INIT() {
  if (!export_function(env, exports, "watch", watch) || !export_function(env, exports, "fileBytes", file_bytes) ||
      !export_function(env, exports, "nextData", next_data) ||
      !export_function(env, exports, "clampWindow", clamp_window) ||
      !export_function(env, exports, "boundBuffer", bound_buffer) ||
      !export_function(env, exports, "freeBuffer", free_buffer))
    napi_throw_error(env, NULL, "the addon map-guard cannot be set up");
  return exports;
}
