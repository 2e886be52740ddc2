#include "engine/memory/mimalloc.hpp"

#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstring>
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

// The thread that loads the library is "the main thread" for it, from which it never takes memory back: it has
// to be one that never takes any, and no later thread may be mistaken for it. mimalloc knows threads by the
// address of their control block, which lies at the end of their stack, and stacks are used again: this one's is
// ours, and stays mapped (without memory).
class Loader {
public:
    Loader(const char* name, Mimalloc& functions, Refusal& refusal)
        : name_(name), functions_(functions), refusal_(refusal) {}

    bool run() {
        constexpr std::size_t kStack = 8U << 20;  // address space; sanitizers put much into it
        void* const stack = ::mmap(nullptr, kStack, PROT_READ | PROT_WRITE,
                                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
        if (stack == MAP_FAILED) {
            return failed(errno);
        }
        pthread_attr_t attributes;
        (void)::pthread_attr_init(&attributes);
        (void)::pthread_attr_setstack(&attributes, stack, kStack);
        sigset_t all;
        sigset_t before;
        (void)::sigfillset(&all);
        (void)::pthread_sigmask(SIG_SETMASK, &all, &before);  // signals are the program's
        pthread_t thread{};
        const int error = ::pthread_create(&thread, &attributes, &Loader::load, this);
        (void)::pthread_sigmask(SIG_SETMASK, &before, nullptr);
        (void)::pthread_attr_destroy(&attributes);
        if (error != 0) {
            (void)::munmap(stack, kStack);
            return failed(error);
        }
        (void)::pthread_join(thread, nullptr);
        if (done_) {
            (void)::madvise(stack, kStack, MADV_DONTNEED);
        } else {
            (void)::munmap(stack, kStack);
        }
        return done_;
    }

private:
    static void* load(void* loader) {
        auto& self = *static_cast<Loader*>(loader);
        self.done_ = Mimalloc::open(self.name_, self.functions_, self.refusal_);
        return nullptr;
    }
    bool failed(int error) {
        refusal_ = {
            Reason::kNoMemory,
            formatted("no thread to open {} in ({}); see ulimit -u and the pids limit of the "
                      "cgroup",
                      name_, std::strerror(error))};
        return false;
    }

    const char* name_;
    Mimalloc& functions_;
    Refusal& refusal_;
    bool done_ = false;
};

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
    find(library, functions.heap_delete, "mi_heap_delete", missing);
    find(library, functions.heap_malloc, "mi_heap_malloc", missing);
    find(library, functions.heap_malloc_aligned, "mi_heap_malloc_aligned", missing);
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
        open_already = Loader("libmimalloc.so.2", functions, refusal).run();
    }
    return open_already ? &functions : nullptr;
}

}  // namespace sanpoll::engine::memory
