#include "engine/memory/registration_cache.hpp"

#include <pthread.h>

#include <new>
#include <system_error>

#include "engine/log.hpp"

namespace sanpoll::engine::memory {

RegistrationCache& RegistrationCache::of_process() {
    static auto* const cache = new RegistrationCache;
    return *cache;
}

std::string RegistrationCache::start(const Limits& limits) {
    std::string error;
    const std::lock_guard lock(mutex_);
    try {
        entries_ = std::make_unique<Entry[]>(limits.entries);
        limits_ = limits;
        counts_ = {};
        made_ = 0;
        free_ = newest_ = oldest_ = kNone;
        stopping_ = false;
        stale_.store(kNone, std::memory_order_relaxed);
        watch_ = MappingWatch::start(*this, error, limits.discard_ns);
        if (watch_ != nullptr) {
            reaper_ = std::thread([this] { reap(); });
            on_.store(true, std::memory_order_release);
            return {};
        }
    } catch (const std::bad_alloc&) {
        error = "out of memory; set registration_cache_entries lower";
    } catch (const std::system_error&) {
        error = "cannot start a thread; raise the limit on processes (ulimit -u)";
    }
    watch_.reset();
    entries_.reset();
    return error;
}

void RegistrationCache::stop() {
    {
        const std::lock_guard lock(mutex_);
        if (!on_.exchange(false, std::memory_order_acq_rel)) {
            return;
        }
        stopping_ = true;
    }
    stale_count_.fetch_add(1, std::memory_order_release);  // pairs with the acquires in reap()
    stale_count_.notify_all();
    reaper_.join();
    forget(process_);
    const std::lock_guard lock(mutex_);
    watch_.reset();
    all_.clear();
    entries_.reset();
}

// ---- the watch's thread: no lock, no memory, see MappingWatch -------------------------------------------

void RegistrationCache::mapping_changed(std::uint64_t low, std::uint64_t high) noexcept {
    bool any = false;
    all_.overlapping(low, high, [&](std::uint32_t index) {
        if (index >= limits_.entries) {
            return;  // a mixture, which is looked at again
        }
        Entry& entry = entries_[index];
        // Pairs with the acquire in look().
        entry.changed.store(true, std::memory_order_relaxed);  // before stale, which is released
        entry.stale.store(true, std::memory_order_release);
        // Pairs with the release in hear(): next_stale is ours again.
        if (entry.on_stack.exchange(true, std::memory_order_acq_rel)) {
            return;
        }
        std::uint32_t head = stale_.load(std::memory_order_relaxed);
        do {
            entry.next_stale.store(head, std::memory_order_relaxed);
            // Pairs with the acquire in hear().
        } while (!stale_.compare_exchange_weak(head, index, std::memory_order_release,
                                               std::memory_order_relaxed));
        any = true;
    });
    if (any) {
        stale_count_.fetch_add(1, std::memory_order_release);  // pairs with the acquires in reap()
        stale_count_.notify_all();
    }
}

// ---- the reaper ---------------------------------------------------------------------------------------

void RegistrationCache::reap() noexcept {
    ::pthread_setname_np(::pthread_self(), "sanpoll-reap");
    for (;;) {
        const std::uint32_t seen = stale_count_.load(std::memory_order_acquire);
        {
            std::unique_lock lock(mutex_);
            if (stopping_) {
                return;
            }
            std::uint32_t chain = kNone;
            hear(chain);
            (void)drop(lock, chain);
        }
        stale_count_.wait(seen, std::memory_order_acquire);
    }
}

// ---- with the lock -------------------------------------------------------------------------------------

// Takes out what the watch's thread has marked and nobody uses.
void RegistrationCache::hear(std::uint32_t& chain) noexcept {
    std::uint32_t index = stale_.exchange(kNone, std::memory_order_acquire);
    while (index != kNone) {
        Entry& entry = entries_[index];
        const std::uint32_t next = entry.next_stale.load(std::memory_order_relaxed);
        // Release: from here on it may be put on the stack again.
        entry.on_stack.store(false, std::memory_order_release);
        if (entry.ready && entry.users == 0 && entry.stale.load(std::memory_order_acquire)) {
            ++counts_.stale;
            take_out(index, chain);
        }
        index = next;
    }
}

void RegistrationCache::becomes_newest(std::uint32_t index) noexcept {
    entries_[index].older = newest_;
    entries_[index].newer = kNone;
    (newest_ == kNone ? oldest_ : entries_[newest_].newer) = index;
    newest_ = index;
}

void RegistrationCache::leave_order(std::uint32_t index) noexcept {
    const Entry& entry = entries_[index];
    (entry.newer == kNone ? newest_ : entries_[entry.newer].older) = entry.older;
    (entry.older == kNone ? oldest_ : entries_[entry.older].newer) = entry.newer;
}

void RegistrationCache::free_entry(std::uint32_t index) noexcept {
    entries_[index].domain = nullptr;
    entries_[index].newer = free_;
    free_ = index;
}

// Out of everything but the domain's count of those that are being dropped.
void RegistrationCache::withdraw(std::uint32_t index) noexcept {
    Entry& entry = entries_[index];
    Domain& domain = *entry.domain;
    all_.erase(entry.base, index);
    if (entry.ready) {
        domain.ready_[entry.access].erase(entry.base, index);
        if (entry.users == 0) {
            leave_order(index);
        }
        entry.ready = false;
    }
    (entry.previous_in_domain == kNone ? domain.first_
                                       : entries_[entry.previous_in_domain].next_in_domain) =
        entry.next_in_domain;
    if (entry.next_in_domain != kNone) {
        entries_[entry.next_in_domain].previous_in_domain = entry.previous_in_domain;
    }
    --counts_.entries;
    counts_.bytes -= entry.pinned;
    // The pages are watched for others, too, if others are in them.
    bool shared = false;
    constexpr std::uint64_t kPage = 4095;
    all_.overlapping(entry.base & ~kPage, (entry.end + kPage) & ~kPage,
                     [&](std::uint32_t) { shared = true; });
    if (entry.watched && !shared && !entry.changed.load(std::memory_order_relaxed)) {
        watch_->unwatch(entry.base, entry.end - entry.base);
    }
}

void RegistrationCache::take_out(std::uint32_t index, std::uint32_t& chain) noexcept {
    withdraw(index);
    Entry& entry = entries_[index];
    ++entry.domain->dropping_;
    ++dropping_;
    entry.newer = chain;
    chain = index;
}

// Without the lock meanwhile: a device may take its time.
bool RegistrationCache::drop(std::unique_lock<std::mutex>& lock, std::uint32_t chain) {
    if (chain == kNone) {
        return true;
    }
    bool dropped = true;
    lock.unlock();
    for (std::uint32_t index = chain; index != kNone; index = entries_[index].newer) {
        dropped &= entries_[index].domain->drop(entries_[index].registration);
    }
    lock.lock();
    while (chain != kNone) {
        const std::uint32_t next = entries_[chain].newer;
        --entries_[chain].domain->dropping_;
        --dropping_;
        free_entry(chain);
        chain = next;
    }
    dropped_.notify_all();
    return dropped;
}

// A free entry, for so many bytes more; kNone if there is no room. May give the lock up for a while.
std::uint32_t RegistrationCache::make_room(std::unique_lock<std::mutex>& lock,
                                           std::uint64_t bytes) {
    if (bytes > limits_.bytes) {
        return kNone;  // for nobody's good
    }
    const auto room = [&] {
        return counts_.entries < limits_.entries && counts_.bytes + bytes <= limits_.bytes;
    };
    std::uint32_t chain = kNone;
    while (!room() && oldest_ != kNone) {
        ++counts_.evicted;
        take_out(oldest_, chain);
    }
    (void)drop(lock, chain);
    if (!on() || !room()) {
        return kNone;
    }
    if (free_ != kNone) {
        const std::uint32_t index = free_;
        free_ = entries_[index].newer;
        return index;
    }
    return made_ < limits_.entries ? made_++ : kNone;
}

std::uint32_t RegistrationCache::look(Domain& domain, std::uint64_t address, std::uint64_t length,
                                      std::uint32_t access, bool exactly) noexcept {
    // Of what is fit for its process, whoever has the addresses now has mapped them. That it was with fewer rights than
    // the last one had is missed here, as it is after mprotect().
    if (&domain != &process_ && watch_->changing()) {
        return kNone;
    }
    // What has changed before we were called is marked now.
    watch_->settle();
    for (std::uint32_t allowed = access; allowed < (exactly ? access + 1 : 4); ++allowed) {
        if ((allowed & access) != access) {
            continue;
        }
        const std::uint32_t found =
            domain.ready_[allowed].find(address, address + length, [this](std::uint32_t index) {
                return entries_[index].stale.load(std::memory_order_acquire) ? 0 : index + 1;
            });
        if (found != 0) {
            return found - 1;
        }
    }
    return kNone;
}

// ---- everybody ------------------------------------------------------------------------------------------

RegistrationCache::Found RegistrationCache::find(Domain& domain, std::uint64_t address,
                                                 std::uint64_t length, std::uint32_t access,
                                                 bool exactly) {
    const std::lock_guard lock(mutex_);
    if (!on()) {
        return {};
    }
    const std::uint32_t index = look(domain, address, length, access, exactly);
    if (index == kNone) {
        ++counts_.misses;
        return {};
    }
    ++counts_.hits;
    Entry& entry = entries_[index];
    if (entry.users++ == 0) {
        leave_order(index);
    }
    return {index + 1, entry.registration};
}

bool RegistrationCache::known_fit(std::uint64_t address, std::uint64_t length,
                                  std::uint32_t access) {
    const std::lock_guard lock(mutex_);
    if (!on()) {
        return false;
    }
    const std::uint32_t index = look(process_, address, length, access, false);
    if (index == kNone) {
        ++counts_.misses;
        return false;
    }
    ++counts_.hits;
    if (entries_[index].users == 0 && newest_ != index) {
        leave_order(index);
        becomes_newest(index);
    }
    return true;
}

RegistrationCache::Handle RegistrationCache::begin(Domain& domain, std::uint64_t address,
                                                   std::uint64_t length, std::uint32_t access) {
    std::unique_lock lock(mutex_);
    if (!on()) {
        return 0;
    }
    const std::uint64_t pinned = &domain == &process_ ? 0 : length;
    const std::uint32_t index = make_room(lock, pinned);
    if (index == kNone) {
        return 0;
    }
    Entry& entry = entries_[index];
    entry.base = address;
    entry.end = address + length;
    entry.pinned = pinned;
    entry.access = access & 3U;
    entry.users = 1;
    entry.domain = &domain;
    entry.registration = nullptr;
    entry.stale.store(false, std::memory_order_relaxed);
    entry.changed.store(false, std::memory_order_relaxed);
    // Into the index before it is watched, so that the first change that can be heard finds it.
    if (!all_.insert(entry.base, entry.end, index)) {
        free_entry(index);
        return 0;
    }
    entry.previous_in_domain = kNone;
    entry.next_in_domain = domain.first_;
    if (domain.first_ != kNone) {
        entries_[domain.first_].previous_in_domain = index;
    }
    domain.first_ = index;
    ++counts_.entries;
    counts_.bytes += pinned;
    entry.watched = watch_->watch(address, length);
    if (entry.watched) {
        watch_
            ->settle();  // with it come the discards that were heard of before the entry was there
        if (!watch_->discarded_lately(address, length)) {
            return index + 1;
        }
    }
    withdraw(index);
    free_entry(index);
    return 0;
}

void RegistrationCache::complete(Handle handle, void* registration) {
    const std::uint32_t index = handle - 1;
    bool unsafe = false;
    // Of a domain that is there, so that we are on.
    if (registration != nullptr) {
        const Entry& pending = entries_[index];  // the caller's
        // A page of a file can be taken away without a word. (Only whether there is something is kept of others.)
        unsafe = watch_->shared(pending.base, pending.end - pending.base);
    }
    const std::lock_guard lock(mutex_);
    if (!on()) {
        return;  // the process's, that was noted when the last one stopped us
    }
    Entry& entry = entries_[index];
    entry.registration = registration;
    if (unsafe) {
        entry.stale.store(true, std::memory_order_relaxed);
    }
    entry.ready = true;
    if (!entry.domain->ready_[entry.access].insert(entry.base, entry.end, index)) {
        entry.stale.store(true, std::memory_order_relaxed);  // nobody can find it
    }
}

void RegistrationCache::cancel(Handle handle) {
    const std::lock_guard lock(mutex_);
    if (!on()) {
        return;
    }
    withdraw(handle - 1);
    free_entry(handle - 1);
}

void RegistrationCache::release(Handle handle) {
    const std::uint32_t index = handle - 1;
    std::unique_lock lock(mutex_);
    if (!on()) {
        return;
    }
    Entry& entry = entries_[index];
    if (--entry.users != 0) {
        return;
    }
    becomes_newest(index);
    if (entry.stale.load(std::memory_order_acquire)) {
        std::uint32_t chain = kNone;
        ++counts_.stale;
        take_out(index, chain);
        (void)drop(lock, chain);
    }
}

bool RegistrationCache::shrink(std::uint64_t bytes) {
    std::unique_lock lock(mutex_);
    std::uint32_t chain = kNone;
    std::uint64_t gone = 0;
    for (std::uint32_t index = on() ? oldest_ : kNone; index != kNone && gone < bytes;) {
        const std::uint32_t next = entries_[index].newer;
        if (entries_[index].pinned != 0) {
            gone += entries_[index].pinned;
            ++counts_.evicted;
            take_out(index, chain);
        }
        index = next;
    }
    (void)drop(lock, chain);
    return gone != 0;
}

void RegistrationCache::forget(Domain& domain) {
    std::unique_lock lock(mutex_);
    std::uint32_t chain = kNone;
    while (domain.first_ != kNone) {
        take_out(domain.first_, chain);
    }
    (void)drop(lock, chain);
    dropped_.wait(lock, [&] { return domain.dropping_ == 0; });
}

bool RegistrationCache::invalidate(std::uint64_t address, std::uint64_t length) {
    std::unique_lock lock(mutex_);
    if (!on() || length == 0) {
        return true;
    }
    const std::uint64_t end = address + length < address ? ~0ULL : address + length;
    // With the lock nobody changes the index, so each is visited once. Taken out when all have been.
    std::uint32_t found = kNone;
    all_.overlapping(address, end, [&](std::uint32_t index) {
        entries_[index].stale.store(true, std::memory_order_relaxed);
        entries_[index].next_found = found;
        found = index;
    });
    std::uint32_t chain = kNone;
    for (; found != kNone; found = entries_[found].next_found) {
        if (entries_[found].ready && entries_[found].users == 0) {
            ++counts_.stale;
            take_out(found, chain);
        }
    }
    const bool dropped = drop(lock, chain);
    dropped_.wait(lock, [&] { return dropping_ == 0; });  // others may be at it
    return dropped;
}

RegistrationCache::Counts RegistrationCache::counts() const {
    const std::lock_guard lock(mutex_);
    return counts_;
}

}  // namespace sanpoll::engine::memory
