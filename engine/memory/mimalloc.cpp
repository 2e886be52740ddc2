#include "engine/memory/mimalloc.hpp"

#include <dlfcn.h>

#include <mutex>

#include "engine/log.hpp"

namespace sanpoll::engine::memory {

namespace {

constexpr int kFirstVersion = 209;  // 2.0.9
constexpr int kLastVersion = 209;

template <typename Function>
void find(void* library, Function& function, const char* symbol, const char*& missing) {
    function = reinterpret_cast<Function>(::dlsym(library, symbol));
    if (function == nullptr) {
        missing = symbol;
    }
}

std::string remedy(const char* name, const std::string& what) {
    return formatted(
        "registered heaps need {} of version 2.0.9, {}; install libmimalloc2.0 of Debian 12", name,
        what);
}

}  // namespace

bool Mimalloc::open(const char* name, Mimalloc& functions, Refusal& refusal) {
    void* const library = ::dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
        const char* const why = ::dlerror();
        refusal = {Reason::kNoLibrary,
                   remedy(name, formatted("which cannot be opened ({})",
                                          why != nullptr ? why : "no reason given"))};
        return false;
    }
    const char* missing = nullptr;
    find(library, functions.version, "mi_version", missing);
    find(library, functions.manage_os_memory_ex, "mi_manage_os_memory_ex", missing);
    find(library, functions.heap_new_in_arena, "mi_heap_new_in_arena", missing);
    find(library, functions.heap_malloc, "mi_heap_malloc", missing);
    find(library, functions.heap_malloc_aligned, "mi_heap_malloc_aligned", missing);
    find(library, functions.heap_collect, "mi_heap_collect", missing);
    find(library, functions.free, "mi_free", missing);
    find(library, functions.usable_size, "mi_usable_size", missing);
    if (missing != nullptr) {
        refusal = {Reason::kNoLibrary, remedy(name, formatted("and this one has no {}", missing))};
        ::dlclose(library);
        return false;
    }
    if (const int version = functions.version();
        version < kFirstVersion || version > kLastVersion) {
        refusal = {Reason::kNoLibrary,
                   remedy(name, formatted("and this one says {}.{}.{}", version / 100,
                                          version / 10 % 10, version % 10))};
        ::dlclose(library);
        return false;
    }
    return true;
}

const Mimalloc* Mimalloc::load(Refusal& refusal) {
    static std::mutex mutex;
    static Mimalloc functions;
    static bool open_already = false;
    const std::lock_guard lock(mutex);
    if (!open_already) {
        open_already = open("libmimalloc.so.2", functions, refusal);
    }
    return open_already ? &functions : nullptr;
}

}  // namespace sanpoll::engine::memory
