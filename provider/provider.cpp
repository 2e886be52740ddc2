#include "provider/provider.hpp"

#include <pthread.h>

#include <mutex>
#include <thread>

#include "engine/lane_registry.hpp"
#include "engine/log.hpp"
#include "engine/memory/registration_cache.hpp"
#include "provider/engine_stay.hpp"

namespace sanpoll::provider {

constinit CommonHolder common_holder;

Provider& Provider::instance() {
    static auto* const provider = new Provider;
    return *provider;
}

// False: the last WSPCleanup is under way and waits for this thread, which is inside an upcall.
bool Provider::lock_life(std::unique_lock<std::mutex>& lock, bool inside) noexcept {
    if (!inside) {
        lock.lock();
        return true;
    }
    for (;;) {
        // First, for the lock may be this thread's. Pairs with the store in cleanup(), which is under the lock.
        if (common().ending.load(std::memory_order_acquire)) {
            return false;
        }
        if (lock.try_lock()) {
            return true;
        }
        std::this_thread::yield();
    }
}

int Provider::start(const WSPUPCALLTABLEEX& upcalls) {
    std::unique_lock lock(life_mutex_, std::defer_lock);
    if (life() != Life::kForked && !lock_life(lock, inside_upcall() || Closing::here() != 0)) {
        engine::log(engine::LogLevel::kError,
                    "WSPStartupEx was called inside an upcall that the last WSPCleanup waits for; "
                    "call it from another thread, or later");
        return WSASYSNOTREADY;
    }
    if (life() == Life::kForked) {
        engine::log(
            engine::LogLevel::kError,
            "a forked child cannot use the provider that its parent started; exec a program, or "
            "start the provider after the fork");
        return WSASYSNOTREADY;
    }
    upcall_tables_.push_back(std::make_unique<WSPUPCALLTABLEEX>(upcalls));
    // Pairs with the acquire in upcalls(): the most recent table is the one to use.
    upcalls_.store(upcall_tables_.back().get(), std::memory_order_release);
    if (startups_ == 0) {
        common().sockets.prepare();
        engine::Config config;
        std::string error = engine::load_config(config);
        if (error.empty()) {
            engine_ = engine::Engine::start(config, engine::Clock::steady(), completion_handlers(),
                                            error);
        }
        if (!engine_) {
            engine::log(engine::LogLevel::kError, "the provider does not start: {}", error);
            return WSAEPROVIDERFAILEDINIT;
        }
        config_ = engine_->config();
        start_registration_cache();
        common().max_message = config_.max_message;
        common().max_rdma = config_.max_rdma;
        static std::once_flag once;
        std::call_once(once, [] {
            (void)::pthread_atfork(nullptr, nullptr, [] { instance().abandon_in_child(); });
        });
        common().drained.store(false, std::memory_order_relaxed);  // ordered by the next store
        // Pairs with the acquire in life().
        common().life.store(Life::kUp, std::memory_order_release);
        common().sockets.serve();
    }
    ++startups_;
    return 0;
}

// Where the last WSPCleanup would wait for its own caller.
bool Provider::inside_upcall() noexcept {
    // While it sets an event, a close in another thread may wait for that, and the last WSPCleanup for the close.
    return EngineUse::here() || EngineStay::here() || sets_an_event() || engine::Notifier::is_any();
}

int Provider::cleanup() {
    if (life() == Life::kForked) {
        return WSAENETDOWN;
    }
    const bool inside = inside_upcall();
    std::unique_lock lock(life_mutex_, std::defer_lock);
    if (!lock_life(lock, inside || Closing::here() != 0) || startups_ == 0) {
        return WSANOTINITIALISED;  // one too many
    }
    if (inside && startups_ == 1) {
        engine::log(
            engine::LogLevel::kError,
            "the last WSPCleanup was called inside an upcall, whose thread it would have to end or "
            "wait for; call it from another thread");
        return WSAENETDOWN;
    }
    if (--startups_ != 0) {
        return 0;
    }
    // Pairs with the acquires in lock_life() and waiting.cpp.
    common().ending.store(true, std::memory_order_release);
    end_engine();
    common().ending.store(false, std::memory_order_release);
    engine::memory::RegistrationCache::of_process().stop();
    upcall_tables_.erase(upcall_tables_.begin(), upcall_tables_.end() - 1);
    return 0;
}

void Provider::end_engine() noexcept {
    // While upcalls of what is pending may still call us, and be answered.
    for (const SOCKET descriptor : common().sockets.live()) {
        close_left(descriptor);
    }
    {
        const EngineUse own;
        // Sequentially consistent, as the accesses in EngineUse: either it sees this, or we see it.
        common().life.store(Life::kDown, std::memory_order_seq_cst);
        common().sockets.stop_serving();
        for (std::uint32_t users = users_.load(std::memory_order_seq_cst); users != 1;
             users = users_.load(std::memory_order_seq_cst)) {
            users_.wait(users, std::memory_order_seq_cst);
        }
        // What was made meanwhile, by calls that had found the provider running.
        for (const SOCKET descriptor : common().sockets.live()) {
            close_left(descriptor);
        }
    }
    // Pairs with the decrement in Closing::end_late(). Who shut a gate had begun before it was seen to be up.
    for (std::uint32_t closings = closings_.load(std::memory_order_seq_cst);
         closings != Closing::here(); closings = closings_.load(std::memory_order_seq_cst)) {
        closings_.wait(closings, std::memory_order_seq_cst);
    }
    // Release pairs with the acquires in waiting.cpp: all operations have ended.
    common().drained.store(true, std::memory_order_release);
    EngineStay::wait_for_all();
    engine_.reset();
}

bool is_waited_for() noexcept {
    return EngineUse::here() || Closing::here() != 0 || sets_an_event() ||
           engine::Notifier::is_any();
}

namespace {
thread_local std::uint32_t uses_here = 0;  // that are up
thread_local std::uint32_t closings_here = 0;
}  // namespace

Closing::Closing() noexcept {
    begin_late();
    ++closings_here;
}

Closing::~Closing() {
    --closings_here;
    end_late();
}

void Closing::begin_late() noexcept {
    Provider::instance().closings_.fetch_add(1, std::memory_order_seq_cst);
}

void Closing::end_late() noexcept {
    std::atomic<std::uint32_t>& closings = Provider::instance().closings_;
    closings.fetch_sub(1, std::memory_order_seq_cst);
    if (common().life.load(std::memory_order_seq_cst) != Life::kUp) {
        closings.notify_all();  // the last WSPCleanup may wait for it
    }
}

std::uint32_t Closing::here() noexcept { return closings_here; }

bool EngineUse::enter() noexcept {
    Provider::instance().users_.fetch_add(1, std::memory_order_seq_cst);
    const Life life = common().life.load(std::memory_order_seq_cst);
    if (life == Life::kUp || (life == Life::kDown && uses_here != 0)) {
        ++uses_here;
        return true;
    }
    return false;
}

bool EngineUse::here() noexcept { return uses_here != 0; }

EngineUse::EngineUse() noexcept : up_(enter()) {}

EngineUse::~EngineUse() {
    uses_here -= up_ ? 1 : 0;
    std::atomic<std::uint32_t>& users = Provider::instance().users_;
    users.fetch_sub(1, std::memory_order_seq_cst);
    if (common().life.load(std::memory_order_seq_cst) != Life::kUp) {
        users.notify_all();  // the last WSPCleanup may wait for it
    }
}

// It is a convenience: where it cannot be had, everything goes as without it.
void Provider::start_registration_cache() {
    if (config_.registration_cache == engine::RegistrationCaching::kOff) {
        return;
    }
    const engine::memory::RegistrationCache::Limits limits{
        std::uint64_t{config_.registration_cache_mb} << 20, config_.registration_cache_entries};
    if (const std::string error = engine::memory::RegistrationCache::of_process().start(limits);
        !error.empty()) {
        engine::log(
            engine::LogLevel::kWarn,
            "registration_cache = on, but changes of memory cannot be noticed, so nothing is "
            "kept: {}",
            error);
    }
}

void Provider::abandon_in_child() noexcept {
    EngineStay::abandon_in_child();
    if (life() == Life::kUp) {
        common().life.store(Life::kForked, std::memory_order_release);
        common().sockets.abandon_in_child();
        engine::LaneRegistry::abandon_in_child();
        engine_->fabric().abandon_in_child();
    }
}

int wsa_error(engine::Status status) noexcept {
    using engine::Status;
    switch (status) {
        case Status::kOk:
            return 0;
        case Status::kAborted:
            return WSA_OPERATION_ABORTED;
        case Status::kReset:
            return WSAECONNRESET;
        case Status::kTransportFailed:
            return WSAECONNABORTED;
        case Status::kMessageTooLong:
            return WSAEMSGSIZE;
        case Status::kBadRegion:
            return WSAEFAULT;
        case Status::kNoMemory:
            return WSAENOBUFS;
        case Status::kNoListener:
            return WSAECONNRESET;
        case Status::kRefused:
            return WSAECONNREFUSED;
        case Status::kUnreachable:
            return WSAEHOSTUNREACH;
        case Status::kNoNetwork:
            return WSAENETUNREACH;
        case Status::kTimedOut:
            return WSAETIMEDOUT;
        case Status::kAddressNotAvailable:
            return WSAEADDRNOTAVAIL;
        case Status::kAddressInUse:
            return WSAENETDOWN;
        case Status::kWithdrawn:
            return WSAECONNRESET;
        case Status::kNotAllowed:
            return WSAETIMEDOUT;
        case Status::kFull:
            return WSAEWOULDBLOCK;
        case Status::kPending:
        case Status::kUnknownToken:
            return WSAEINVAL;
        case Status::kNoDescriptors:
            return WSAEMFILE;
        case Status::kMoved:
            return WSAECONNRESET;
        case Status::kNotOpen:
            return WSAENOTCONN;
    }
    return WSAENETDOWN;
}

int why_not_open(SOCKET descriptor) noexcept {
    SocketTable::Found found;
    const int error = find_socket(descriptor, found);
    return error != 0 ? error : refusal(found.view);
}

int refusal(const engine::PostGate::View& view) noexcept {
    switch (view.state) {
        case engine::PostGate::State::kReset:
            return WSAECONNRESET;
        case engine::PostGate::State::kFailed:
            return WSAECONNABORTED;
        default:
            return WSAENOTCONN;
    }
}

}  // namespace sanpoll::provider
