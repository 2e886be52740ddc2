// The functions of libmimalloc that registered heaps are made of.
#pragma once

#include <mimalloc.h>

#include "engine/memory/reason.hpp"

namespace sanpoll::engine::memory {

/// libmimalloc exports malloc and free. Linked to a program it would replace the host's; opened at run time
/// with RTLD_LOCAL it takes part in nobody's symbol look-up, and a host that never asks for memory never
/// loads it. It stays open for good: its thread-exit handler may run at any time.
///
/// Only versions whose ways with arenas are known are taken: later ones give memory of an arena back to the
/// kernel, under whatever device or peer has it mapped.
struct Mimalloc {
    decltype(&::mi_version) version = nullptr;
    decltype(&::mi_manage_os_memory_ex) manage_os_memory_ex = nullptr;
    decltype(&::mi_heap_new_in_arena) heap_new_in_arena = nullptr;
    decltype(&::mi_heap_delete) heap_delete = nullptr;
    decltype(&::mi_heap_malloc) heap_malloc = nullptr;
    decltype(&::mi_heap_malloc_aligned) heap_malloc_aligned = nullptr;
    decltype(&::mi_free) free = nullptr;
    decltype(&::mi_usable_size) usable_size = nullptr;

    /// Opens the library at the first call. nullptr and a refusal if it cannot be had, each time anew, so
    /// that a package installed meanwhile is found. Any thread; blocks.
    [[nodiscard]] static const Mimalloc* load(Refusal& refusal);
    /// The same with a library of any name, in this thread and not remembered: a part of load(), and for tests.
    [[nodiscard]] static bool open(const char* name, Mimalloc& functions, Refusal& refusal);
};

}  // namespace sanpoll::engine::memory
