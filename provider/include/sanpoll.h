/*
 * What sanpoll has beyond the Windows Sockets Direct interface. A caller that knows nothing of it
 * misses nothing.
 */
#ifndef SANPOLL_SANPOLL_H
#define SANPOLL_SANPOLL_H

#include "ws2san.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * WSPIoctl: which fabric carries a connection, and why; over shared memory also whether the two processes have
 * mapped each other's arenas. No input; the output is a SANPOLL_FABRIC.
 * Completes at once. Also for a connection that has ended, until its socket is closed.
 *
 *   WSAEFAULT    lpcbBytesReturned is NULL, or the output buffer is, or it is too small: then
 *                *lpcbBytesReturned is the size that is needed
 *   WSAENOTCONN  the socket is not connected, or has been given to another process
 *   WSAENOTSOCK  not a socket
 */
#define SIO_SANPOLL_FABRIC 0x58000001u

/*
 * Texts in ASCII, each ended by a zero. `reason` and `arenas` are for people: their words may change.
 */
typedef struct SANPOLL_FABRIC {
    CHAR fabric[16];  /* "shm": shared memory within this host; "verbs": an RDMA device */
    CHAR device[64];  /* "rxe0", for example; empty if the fabric has none */
    CHAR reason[176]; /* why this fabric */
    CHAR arenas[96]; /* "shm": whether what lies in arenas is copied once, and whether RDMA into the
                         peer's is a store of this process; why not if not */
} SANPOLL_FABRIC;

/*
 * Memory for I/O: registered heaps. Every thread takes buffers from heaps that lie in arenas,
 * large pieces of memory that the provider makes as they are needed; registering such a buffer
 * (WSPRegisterMemory) is a look-up, and a process of the same user on this host may read a
 * buffer of a shareable arena where it lies.
 *
 * The functions come by WSPIoctl, for any `s` (INVALID_SOCKET too):
 *
 *     SANPOLL_MEMORY_FUNCTIONS memory;
 *     GUID id = WSAID_SANPOLL_MEMORY;
 *     table.lpWSPIoctl(INVALID_SOCKET, SIO_GET_MULTIPLE_EXTENSION_FUNCTION_POINTER, &id, sizeof(id),
 *                      &memory, sizeof(memory), &bytes, NULL, NULL, NULL, &error);
 *
 *   WSAEFAULT           a buffer is NULL or too small: less than a GUID, less than cbSize of this header
 *   WSAEINVAL           another GUID
 *   WSANOTINITIALISED   before WSPStartupEx or after the last WSPCleanup
 *   WSAENETDOWN         in a forked child
 *
 * They stay valid for the life of the process. Heaps use libmimalloc.so.2 (package
 * libmimalloc2.0), which is opened when memory is first asked for; the program's own malloc is
 * not touched.
 */
#ifndef SIO_GET_MULTIPLE_EXTENSION_FUNCTION_POINTER
#define SIO_GET_MULTIPLE_EXTENSION_FUNCTION_POINTER 0xC8000024u
#endif

/* clang-format off */
#define WSAID_SANPOLL_MEMORY \
  { 0x5C2C1A9Eu, 0x7D0B, 0x4B1F, { 0x9A, 0x43, 0x6E, 0x1D, 0xB8, 0x27, 0x50, 0xC4 } }
/* clang-format on */

/*
 * Why there is no memory. SANPOLL_MEMORY_FUNCTIONS.lpReasonText tells it in words.
 */
typedef enum SANPOLL_MEMORY_REASON {
    SANPOLL_MEMORY_OK = 0,
    SANPOLL_MEMORY_NOT_STARTED = 1, /* before WSPStartupEx or after the last WSPCleanup */
    SANPOLL_MEMORY_FORKED = 2,      /* a forked child, whose heaps are its parent's */
    SANPOLL_MEMORY_BAD_ARGUMENT =
        3,                    /* size 0, alignment, unknown flag, NULL where nothing may be NULL */
    SANPOLL_MEMORY_LIMIT = 4, /* arenas are full and may not grow (arena_limit_mb) */
    SANPOLL_MEMORY_NO_HUGEPAGES = 5,  /* hugepages = required, and too few are free */
    SANPOLL_MEMORY_NO_MEMORY = 6,     /* the kernel gives none */
    SANPOLL_MEMORY_NO_DESCRIPTOR = 7, /* the kernel gives no memory file */
    SANPOLL_MEMORY_NO_LIBRARY = 8,    /* libmimalloc cannot be opened */
    SANPOLL_MEMORY_NOT_OURS = 9,      /* the address does not lie in an arena */
    SANPOLL_MEMORY_THREAD_ENDS = 10   /* the thread is running its last destructors */
} SANPOLL_MEMORY_REASON;

/* Flags of lpAllocate. Shareable (0) is what zero copy between processes of this host needs. */
#define SANPOLL_MEMORY_PRIVATE 0x1u /* in arenas that no other process may map */

/*
 * The arena that an address lies in, and how much of it and of all is used. Sizes in bytes.
 */
typedef struct SANPOLL_ARENA {
    PVOID base;
    uint64_t size;
    uint64_t used;      /* in buffers of this arena that have not been freed, as rounded up */
    uint64_t all_sizes; /* of all arenas of this process */
    uint64_t limit;     /* all_sizes cannot grow beyond it */
    DWORD id;           /* 1, 2, ... */
    DWORD shareable;    /* 1: a process of the same user may map it; 0: private */
    DWORD page_size;    /* 4096, or 2097152 */
    LONG numa_node;     /* preferred; -1: none */
} SANPOLL_ARENA;

/*
 * All: any thread, also several at once and inside upcalls, but one at a time on one buffer; sizes in
 * bytes; `reason` may be NULL; if it is not, it is set in every case. No upcalls. A call that fails
 * leaves every buffer as it was.
 *
 * lpAllocate: `size` bytes at a multiple of `alignment`, a power of two up to 4 MiB, or 0 for
 * 64. NULL if there are none, with any reason but NOT_OURS. Contents are undefined. Usually some
 * 20 ns; now and then a heap or an arena has to be made, which takes a lock and enters the kernel.
 *
 * lpFree: gives back a buffer of lpAllocate or lpResize, whichever thread took it; NULL is
 * nothing to give back. FALSE with NOT_OURS (nothing has happened) or FORKED. Also after
 * WSPCleanup. A buffer must not be in use by an operation, nor registered. May wait for threads
 * that are just ending.
 *
 * lpResize: the buffer with another size, here or elsewhere in arenas of its kind, with as much
 * of the contents as both sizes have; at a multiple of `alignment`, which is not remembered from
 * before. NULL, and the buffer as it was, with any reason. A NULL buffer is NOT_OURS. The old buffer
 * must not be in use or registered, as for lpFree.
 *
 * lpQuery: FALSE with NOT_OURS, FORKED, NOT_STARTED, or BAD_ARGUMENT if `arena` is NULL. `used`
 * is a moment old. Takes locks.
 *
 * lpReasonText: a sentence in ASCII that names the remedy; valid for ever; its words may change.
 */
typedef PVOID(WSPAPI* LPFN_SANPOLL_ALLOCATE)(SIZE_T size, SIZE_T alignment, DWORD flags,
                                             LPDWORD reason);
typedef BOOL(WSPAPI* LPFN_SANPOLL_FREE)(PVOID buffer, LPDWORD reason);
typedef PVOID(WSPAPI* LPFN_SANPOLL_RESIZE)(PVOID buffer, SIZE_T size, SIZE_T alignment,
                                           LPDWORD reason);
typedef BOOL(WSPAPI* LPFN_SANPOLL_QUERY)(const void* address, SANPOLL_ARENA* arena, LPDWORD reason);
typedef const CHAR*(WSPAPI* LPFN_SANPOLL_REASON_TEXT)(DWORD reason);

/*
 * cbSize is how much of the structure the library has filled in: later ones append.
 */
typedef struct SANPOLL_MEMORY_FUNCTIONS {
    DWORD cbSize;
    LPFN_SANPOLL_ALLOCATE lpAllocate;
    LPFN_SANPOLL_FREE lpFree;
    LPFN_SANPOLL_RESIZE lpResize;
    LPFN_SANPOLL_QUERY lpQuery;
    LPFN_SANPOLL_REASON_TEXT lpReasonText;
} SANPOLL_MEMORY_FUNCTIONS;

#ifdef __cplusplus
}
#endif

#endif /* SANPOLL_SANPOLL_H */
