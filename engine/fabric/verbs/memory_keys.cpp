#include "engine/fabric/verbs/memory_keys.hpp"

#include <fmt/format.h>
#include <sys/random.h>

#include <bit>
#include <cerrno>
#include <new>
#include <system_error>

#include "engine/fabric/verbs/registration_error.hpp"
#include "engine/log.hpp"
#include "engine/memory/arena.hpp"

namespace sanpoll::engine::verbs {
namespace {

struct Place {
    std::uint32_t chunk;
    std::uint32_t offset;
};

Place place_of(std::uint32_t index, std::uint32_t first) noexcept {
    const std::uint32_t scaled = index / first + 1;
    const auto chunk = static_cast<std::uint32_t>(std::bit_width(scaled | 1U)) - 1;  // it is not 0
    return {chunk, index - first * ((1U << chunk) - 1)};
}

int local_access(Transport transport, std::uint32_t access) noexcept {
    int flags = 0;
    if ((access & kRead) != 0) {
        flags |= IBV_ACCESS_REMOTE_READ;
    }
    if ((access & kWrite) != 0) {
        flags |= IBV_ACCESS_LOCAL_WRITE;
        if (transport == Transport::kIwarp) {
            flags |= IBV_ACCESS_REMOTE_WRITE;
        }
    }
    return flags;
}

int exposed_access(Transport transport, std::uint32_t access) noexcept {
    int flags = 0;
    if ((access & kRead) != 0 || transport == Transport::kIwarp) {
        flags |= IBV_ACCESS_REMOTE_READ;
    }
    if ((access & kWrite) != 0) {
        flags |= IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_LOCAL_WRITE;
    }
    return flags;
}

// An address for the device to know [address, ...) by: the lower 30 bits stay, so that the device can use
// pages as large as the memory's own; 31 bits above them are random. 0: there is no randomness.
std::uint64_t disguise(std::uint64_t address) noexcept {
    std::uint32_t random = 0;
    if (::getrandom(&random, sizeof(random), 0) != sizeof(random)) {
        return 0;
    }
    constexpr std::uint64_t kKept = (std::uint64_t{1} << 30) - 1;
    return (address & kKept) | (std::uint64_t{1} << 61) | (std::uint64_t{random >> 1} << 30);
}

}  // namespace

std::unique_ptr<MemoryKeys> MemoryKeys::make(const Device& device, std::string& error) {
    std::unique_ptr<MemoryKeys> made(new (std::nothrow) MemoryKeys(device));
    if (made == nullptr) {
        error = "out of memory";
        return nullptr;
    }
    made->pd_ = device.api().verbs.alloc_pd(device.context());
    if (made->pd_ == nullptr) {
        error = fmt::format(
            "the RDMA device {} gives no further protection domain ({}): each connection needs "
            "one, so "
            "close some ('ibv_devinfo -v' tells max_pd)",
            device.name(), std::generic_category().message(errno));
        return nullptr;
    }
    if (memory::RegistrationCache::of_process().on()) {
        made->kept_.reset(new (std::nothrow) Kept(device));
    }
    if (device.transport() == Transport::kIwarp) {
        made->sink_mr_ =
            device.api().verbs.reg_mr(made->pd_, &made->sink_, sizeof(made->sink_),
                                      IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
        if (made->sink_mr_ == nullptr) {
            error = explain_registration(errno, sizeof(made->sink_), device.name()).text;
            return nullptr;
        }
    }
    return made;
}

void MemoryKeys::end() noexcept {
    const std::lock_guard lock(mutex_);
    if (ended_) {
        return;
    }
    ended_ = true;
    for (std::uint32_t chunk = 0; chunk < storage_.size(); ++chunk) {
        for (std::uint32_t i = 0; i < kFirstChunk << chunk; ++i) {
            Entry& found = storage_[chunk][i];
            if (found.mr != nullptr && found.kept == 0 && !found.of_arena) {
                (void)deregister(device_, found.mr);
            }
            found.mr = nullptr;
            found.kept = 0;
        }
    }
    local_count_ = 0;
    if (kept_ != nullptr) {
        memory::RegistrationCache::of_process().forget(*kept_);
        for (ibv_mr* mr : kept_->refused) {
            (void)deregister(device_, mr);
        }
        kept_->refused.clear();
    }
    for (const ArenaKey& arena : arenas_) {
        if (arena.mr != nullptr) {
            (void)deregister(device_, arena.mr);
        }
    }
    arenas_.clear();
    for (const auto& [ref, mr] : exposed_) {
        (void)deregister(device_, mr);
    }
    exposed_.clear();
    if (sink_mr_ != nullptr) {
        (void)deregister(device_, sink_mr_);
        sink_mr_ = nullptr;
    }
    if (pd_ != nullptr) {
        if (const int error = device_.api().verbs.dealloc_pd(pd_); error != 0 && !device_.lost()) {
            log(LogLevel::kWarn, "the RDMA device {} keeps a protection domain of ours ({})",
                device_.name(), std::generic_category().message(error));
        }
        pd_ = nullptr;
    }
}

std::size_t MemoryKeys::local_count() const {
    const std::lock_guard lock(mutex_);
    return local_count_;
}

std::size_t MemoryKeys::exposed_count() const {
    const std::lock_guard lock(mutex_);
    return exposed_.size();
}

MemoryKeys::Entry* MemoryKeys::entry(RegionRef ref) const noexcept {
    const Place place = place_of(RegionTable::index_of(ref), kFirstChunk);
    if (place.chunk >= kChunks) {
        return nullptr;
    }
    // Pairs with the release in make_entry().
    Entry* chunk = chunks_[place.chunk].load(std::memory_order_acquire);
    return chunk == nullptr ? nullptr : chunk + place.offset;
}

MemoryKeys::Entry* MemoryKeys::make_entry(RegionRef ref) {
    const Place place = place_of(RegionTable::index_of(ref), kFirstChunk);
    while (place.chunk < kChunks && storage_.size() <= place.chunk) {
        const std::size_t next = storage_.size();
        storage_.push_back(std::make_unique<Entry[]>(std::size_t{kFirstChunk} << next));
        // Pairs with the acquire in entry().
        chunks_[next].store(storage_.back().get(), std::memory_order_release);
    }
    return entry(ref);
}

Status MemoryKeys::registration_failed(std::uint64_t length) const {
    const RegistrationError error = explain_registration(errno, length, device_.name());
    tell_registration(error);
    return error.status;
}

bool MemoryKeys::deregister(const Device& device, ibv_mr* mr) noexcept {
    const int error = device.api().verbs.dereg_mr(mr);
    // With the device its knowledge of our memory has gone.
    return error == 0 || error == ENODEV || error == EIO || device.lost();
}

bool MemoryKeys::Kept::drop(void* registration) noexcept {
    auto* mr = static_cast<ibv_mr*>(registration);
    if (deregister(device, mr)) {
        return true;
    }
    try {
        const std::lock_guard lock(mutex);
        refused.push_back(mr);
    } catch (const std::bad_alloc&) {
        // The domain cannot be given back then, which end() reports.
    }
    return false;
}

// The arena's own registration, if the memory lies in one and needs no rights for the peer. nullptr: the memory needs
// a registration of its own.
ibv_mr* MemoryKeys::arena_mr(std::uint64_t address, std::uint64_t length, int access) {
    const memory::Arena* arena = memory::Arenas::of_process().find(address, length);
    if (arena == nullptr) {
        return nullptr;
    }
    // Not even of an arena that is marked shareable: that is a word to processes of the same user, and nobody
    // knows whose the process at the other end of a cable is.
    constexpr int kRights = IBV_ACCESS_LOCAL_WRITE;
    if ((access & ~kRights) != 0) {
        return nullptr;
    }
    for (const ArenaKey& known : arenas_) {
        if (known.id == arena->id) {
            return known.mr;
        }
    }
    arenas_.reserve(arenas_.size() + 1);
    ibv_mr* mr =
        device_.api().verbs.reg_mr(pd_, reinterpret_cast<void*>(arena->base), arena->size, kRights);
    if (mr == nullptr) {
        static std::atomic<bool> told{false};  // orders nothing
        if (!told.exchange(true, std::memory_order_relaxed)) {
            log(LogLevel::kWarn,
                "an arena cannot be registered as a whole, so each of its buffers is registered by "
                "itself, which is slower: {}",
                explain_registration(errno, arena->size, device_.name()).text);
        }
    }
    arenas_.push_back({arena->id, mr});
    return mr;
}

// nullptr and errno. `place` learns whose it is.
ibv_mr* MemoryKeys::register_local(std::uint64_t address, std::uint64_t length,
                                   std::uint32_t access, Entry& place) {
    const int flags = local_access(device_.transport(), access);
    if (ibv_mr* mr = arena_mr(address, length, flags); mr != nullptr) {
        place.of_arena = true;
        return mr;
    }
    auto& cache = memory::RegistrationCache::of_process();
    memory::RegistrationCache::Handle handle = 0;
    // Of a shareable arena nothing would be kept: it is a file's memory.
    const memory::Arena* arena = memory::Arenas::of_process().find(address, length);
    const bool keeps = kept_ != nullptr && (arena == nullptr || !arena->shareable);
    if (keeps) {
        // On iWARP what is written to has rights that what is read must not get.
        const auto found =
            cache.find(*kept_, address, length, access, device_.transport() == Transport::kIwarp);
        if (found.handle != 0) {
            place.kept = found.handle;
            return static_cast<ibv_mr*>(found.registration);
        }
        handle = cache.begin(*kept_, address, length, access);
    }
    const auto register_now = [&] {
        return device_.api().verbs.reg_mr(pd_, reinterpret_cast<void*>(address), length, flags);
    };
    ibv_mr* mr = register_now();
    while (mr == nullptr && (errno == ENOMEM || errno == EAGAIN) && kept_ != nullptr) {
        const int error = errno;
        if (!cache.shrink(length)) {
            errno = error;
            break;
        }
        mr = register_now();
    }
    if (handle != 0) {
        if (mr == nullptr) {
            const int error = errno;
            cache.cancel(handle);
            errno = error;
        } else {
            cache.complete(handle, mr);
            place.kept = handle;
        }
    }
    return mr;
}

// Ends the use that an entry makes of its registration. False: the device keeps it.
bool MemoryKeys::let_go(Entry& place) noexcept {
    if (place.kept != 0) {
        memory::RegistrationCache::of_process().release(place.kept);
    } else if (!place.of_arena && !deregister(device_, place.mr)) {
        return false;
    }
    place.mr = nullptr;
    place.kept = 0;
    place.of_arena = false;
    --local_count_;
    return true;
}

Status MemoryKeys::add_local(RegionRef ref, std::uint64_t address, std::uint64_t length,
                             std::uint32_t access) {
    const std::lock_guard lock(mutex_);
    if (ended_ || device_.lost()) {
        return Status::kNotOpen;
    }
    Entry* place = nullptr;
    try {
        place = make_entry(ref);
    } catch (const std::bad_alloc&) {
    }
    if (place == nullptr) {
        return Status::kNoMemory;
    }
    if (place->mr != nullptr) {
        // Of a region that went while its socket could not be asked for this; its memory is nobody's now.
        if (!let_go(*place)) {
            return Status::kNoMemory;
        }
    }
    ibv_mr* mr = nullptr;
    try {
        mr = register_local(address, length, access, *place);
    } catch (const std::bad_alloc&) {
        return Status::kNoMemory;
    }
    if (mr == nullptr) {
        return registration_failed(length);
    }
    place->mr = mr;
    ++local_count_;
    const std::uint32_t rkey = (access & kRead) != 0 ? mr->rkey : 0;
    // Pairs with the acquire in keys().
    place->keys.store(std::uint64_t{mr->lkey} << 32 | rkey, std::memory_order_release);
    return Status::kOk;
}

void MemoryKeys::remove_local(RegionRef ref) noexcept {
    const std::lock_guard lock(mutex_);
    Entry* place = entry(ref);
    if (place == nullptr || place->mr == nullptr) {
        return;
    }
    if (!let_go(*place)) {
        return;  // tried again when the entry is wanted, and at the end
    }
    place->keys.store(0, std::memory_order_relaxed);  // nobody holds the region
}

Status MemoryKeys::expose(std::uint32_t ref, std::uint64_t address, std::uint64_t length,
                          std::uint32_t access, DeviceKey& key) {
    const std::lock_guard lock(mutex_);
    if (ended_ || device_.lost()) {
        return Status::kNotOpen;
    }
    const std::uint64_t known_as =
        device_.transport() == Transport::kIwarp ? address : disguise(address);
    if (known_as == 0) {
        return Status::kNoMemory;
    }
    try {
        const auto [place, fresh] = exposed_.try_emplace(ref, nullptr);
        if (!fresh) {
            return Status::kBadRegion;  // RemoteRegions gives no key twice
        }
        place->second = device_.api().verbs.reg_mr_iova2(
            pd_, reinterpret_cast<void*>(address), length, known_as,
            static_cast<unsigned int>(exposed_access(device_.transport(), access)));
        if (place->second == nullptr) {
            const Status status = registration_failed(length);
            exposed_.erase(place);
            return status;
        }
        exposes_.store(true, std::memory_order_relaxed);
        key = {known_as, place->second->rkey};
        return Status::kOk;
    } catch (const std::bad_alloc&) {
        return Status::kNoMemory;
    }
}

Status MemoryKeys::conceal(std::uint32_t ref) noexcept {
    const std::lock_guard lock(mutex_);
    const auto found = exposed_.find(ref);
    if (found == exposed_.end()) {
        return Status::kBadRegion;
    }
    if (!deregister(device_, found->second)) {
        return Status::kFull;
    }
    exposed_.erase(found);
    exposes_.store(!exposed_.empty(), std::memory_order_relaxed);
    return Status::kOk;
}

}  // namespace sanpoll::engine::verbs
