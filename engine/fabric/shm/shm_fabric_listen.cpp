// The fabric's part in listening: rendezvous points, and the processes that knock there.
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <new>
#include <thread>

#include "engine/fabric/shm/shm_fabric.hpp"
#include "engine/fork_guard.hpp"
#include "engine/limit_error.hpp"
#include "engine/log.hpp"

namespace sanpoll::engine::shm {
namespace {

constexpr std::uint64_t kLookAgainMs = 100;      // after running out of descriptors
constexpr std::uint64_t kIntroductionMs = 5000;  // for a process to introduce itself
constexpr std::chrono::milliseconds kWithoutATimer{1};
constexpr std::uint32_t kKnocksAtOnce = 64;  // the rest when epoll tells of them again

}  // namespace

class ShmFabric::ListeningImpl final : public Listening {
public:
    ListeningImpl(ShmFabric& fabric, const Address& local) : fabric_(fabric), local_(local) {}
    ~ListeningImpl() override {
        const auto stop = [this] { fabric_.stop_listening(this, local_); };
        if (fabric_.control_.is_this_thread()) {
            stop();
        } else {
            fabric_.control_.call(stop);
        }
    }

    [[nodiscard]] const Address& local() const noexcept { return local_; }

private:
    ShmFabric& fabric_;
    const Address local_;
};

Status ShmFabric::listen(const Address& local, OnRequest on_request,
                         std::unique_ptr<Listening>& listening) {
    return listen_with(local, {}, std::move(on_request), listening);
}

// Without a socket one is made, unless another taker of this process has one. A socket from another process
// is the one that is ours already, then: a name has no two.
Status ShmFabric::listen_with(const Address& local, Descriptor socket, OnRequest on_request,
                              std::unique_ptr<Listening>& listening) {
    Status status = Status::kOk;
    auto taker = std::make_unique<ListeningImpl>(*this, local);
    control_.call([&] {
        const auto place = listeners_.try_emplace(local).first;
        Listener& listener = place->second;
        try {
            listener.takers.reserve(listener.takers.size() + 1);
            status = open_listener(local, listener, std::move(socket));
        } catch (const std::bad_alloc&) {
            if (listener.fd < 0) {
                listeners_.erase(place);
            }
            throw;
        }
        if (status == Status::kOk) {
            listener.takers.emplace_back(taker.get(), std::move(on_request));
        } else {
            listeners_.erase(place);
        }
    });
    if (status == Status::kOk) {
        listening = std::move(taker);
    }
    return status;
}

// Sees to it that it hears; one that does already stays as it is.
Status ShmFabric::open_listener(const Address& local, Listener& listener, Descriptor socket) {
    if (listener.fd >= 0) {
        return Status::kOk;
    }
    if (!socket) {
        const int fd = bind_rendezvous(local);
        if (fd == -EADDRINUSE) {
            return Status::kAddressInUse;
        }
        if (fd < 0) {
            log(LogLevel::kWarn, "{}", descriptor_error("listening at " + to_string(local), -fd));
            return Status::kNoMemory;
        }
        socket = Descriptor(fd);
    }
    const int fd = socket.get();
    if (!control_.watch(fd, EPOLLIN, [this, fd](std::uint32_t) { knock(fd); })) {
        return Status::kNoMemory;
    }
    listener.fd = socket.release();
    close_in_child(fd);
    return Status::kOk;
}

void ShmFabric::stop_listening(ListeningImpl* taker, const Address& local) {
    const auto found = listeners_.find(local);
    if (found == listeners_.end()) {
        return;
    }
    std::erase_if(found->second.takers, [&](const auto& item) { return item.first == taker; });
    if (found->second.takers.empty()) {
        control_.forget(found->second.fd);
        forget_in_child(found->second.fd);
        ::close(found->second.fd);
        listeners_.erase(found);
    }
}

const Fabric::OnRequest* ShmFabric::listener_for(const Address& to) const {
    for (const Address& key : {to, Address{0, to.port}}) {
        if (const auto found = listeners_.find(key); found != listeners_.end()) {
            return &found->second.takers.front().second;
        }
    }
    return nullptr;
}

void ShmFabric::knock(int listener_fd) {
    for (std::uint32_t left = kKnocksAtOnce; left != 0; --left) {
        const int fd = ::accept4(listener_fd, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0) {
            const int error = errno;
            if (no_descriptors(error) || error == ENOBUFS || error == ENOMEM) {
                // They stay queued. Looking away for a moment keeps the thread from spinning on them.
                try {
                    log(LogLevel::kError, "{}",
                        descriptor_error("another process that connects", error));
                    control_.add_timer(kLookAgainMs, [this, listener_fd] {
                        const bool ours = std::any_of(
                            listeners_.begin(), listeners_.end(),
                            [&](const auto& item) { return item.second.fd == listener_fd; });
                        if (ours) {  // else it was closed, and the number may be somebody else's
                            control_.change(listener_fd, EPOLLIN);
                        }
                    });
                    control_.change(listener_fd, 0);
                } catch (const std::bad_alloc&) {
                    std::this_thread::sleep_for(kWithoutATimer);  // nobody would look again
                }
            }
            return;
        }
        std::uint32_t uid = 0;
        if (!same_user(fd, uid)) {
            log(LogLevel::kWarn,
                "turned away a process of user id {}: only our own user's may connect", uid);
            ::close(fd);
            continue;
        }
        std::shared_ptr<Peer> peer;
        try {
            peer = meet(Descriptor(fd), Introduction::kTheirs, any_port());
            if (peer) {
                // Who connects and then says nothing holds a descriptor of ours.
                control_.add_timer(kIntroductionMs, [waiting = std::weak_ptr<Peer>(peer)] {
                    if (const std::shared_ptr<Peer> silent = waiting.lock();
                        silent && silent->state() != Peer::State::kReady) {
                        silent->end({});
                    }
                });
            }
        } catch (const std::bad_alloc&) {
            log(LogLevel::kWarn, "turned away another process: there is no memory for it");
            if (peer) {
                peer->end({});
            }
        }
    }
}

Status ShmFabric::export_listening(Listening& listening, int process,
                                   std::vector<std::byte> passenger, std::uint32_t& token) {
    auto& taker = static_cast<ListeningImpl&>(listening);
    ExportedState state;
    state.listening = true;
    state.ip = taker.local().ip;
    state.port = taker.local().port;
    state.passenger = std::move(passenger);
    Status status = Status::kNotOpen;
    control_.call([&] {
        const auto found = listeners_.find(taker.local());
        if (found == listeners_.end()) {
            return;
        }
        // A copy: who else listens here in this process goes on, and requests go to either process.
        Descriptor socket(::fcntl(found->second.fd, F_DUPFD_CLOEXEC, 0));
        status = socket ? exports_.add(state, socket, process, token) : Status::kNoDescriptors;
        if (status == Status::kOk) {
            stop_listening(&taker, taker.local());
        }
    });
    return status;
}

}  // namespace sanpoll::engine::shm
