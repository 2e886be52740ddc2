// The functions of WSAID_SANPOLL_MEMORY: buffers for callers out of the registered heaps. sanpoll.h has what their callers
// need to know, engine/memory/heap.hpp how it comes about.
#pragma once

#include <sanpoll.h>

namespace sanpoll::provider {

/// The table that WSPIoctl copies to who asks for it; who may ask, and whether it fits, is seen to there. No pointer
/// of it is NULL, and cbSize is its size in bytes. Any thread, in any state of the provider; does not block, allocate
/// or fail. The functions can be called as long as the library is loaded.
///
/// Of the functions, all sizes being bytes:
///
/// Threads. Any thread, several at once, also on the same arena; also inside upcalls, for none of them makes one or
/// holds a lock of a socket. Of one buffer, one call at a time. Not for polling cores. lpReasonText alone is async-
/// signal-safe.
///
/// State. lpAllocate, lpResize and lpQuery look at the provider's life first: NOT_STARTED before WSPStartupEx and
/// after the last WSPCleanup, FORKED in a child of a process that was started or had memory, whatever the arguments
/// are. A call that runs while the last WSPCleanup does goes either way; what it takes stays good, since arenas are
/// the process's and not the provider's. lpFree works in any state, for buffers outlive the provider, but is FORKED in
/// a child of a process that had arenas. NULL is freed by doing nothing.
///
/// Blocking. lpAllocate and lpResize mostly stay in the calling thread's own heap, some 20 ns. If that has no room, or
/// is the thread's first: they take a lock of the process's, open libmimalloc, have a heap or an arena made by the
/// kernel (for hugepages, with all of its pages), and may write a line into the log. lpFree takes a lock in a thread's
/// first call and in its last ones, when it is ending, and waits while another thread's heaps are being deleted.
/// lpQuery takes a lock and visits the counts of all threads. lpReasonText does none of it.
///
/// Errors. Reasons only (SANPOLL_MEMORY_*), never an exception and never WSAGetLastError. `reason` is written in each
/// call, OK if it went well. A refusal leaves every buffer as it was. What is given to lpFree and lpResize is only
/// looked up as an address: one in an arena that no buffer begins at, or of one that was freed, is the caller's error,
/// as with free(). Why an arena could not be made is logged, once for a reason until it is another.
[[nodiscard]] SANPOLL_MEMORY_FUNCTIONS heap_functions() noexcept;

}  // namespace sanpoll::provider
