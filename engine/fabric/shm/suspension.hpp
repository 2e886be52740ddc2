// The connections of this engine whose other end is changing process.
#pragma once

#include <cstdint>
#include <list>
#include <memory>

#include "engine/fabric/shm/descriptor.hpp"
#include "engine/fabric/shm/rendezvous.hpp"

namespace sanpoll::engine::shm {

class Peer;
class ShmFabric;
class ShmPort;

/// The owner of such a connection notices nothing but silence: its receives stay pending, its sends wait.
/// All of this is done by the control thread, so it needs no help from the application.
///
///     leaving process                  this engine                     next process
///       kSuspend ------------------->  takes in what has come,
///                                      sends nothing more
///                <-------------------  kSuspended, secret, counts,
///                                      one end of a socket (the lifeline)
///       takes in what has come
///       kLeft    ------------------->  forgets the old link
///       gives state, secret and lifeline to  ........................>
///                                      <----------------------------  kResume, secret, counts
///                                      goes on, on the new link
///                                      kAnswer  --------------------->
///
/// The lifeline says whether anybody can still come: whoever may resume the connection holds its other end,
/// and when the last of them closes it or dies, the kernel says so and the connection is reset. If the next
/// process has no link to this engine yet, it introduces itself over the lifeline, which becomes the link's
/// control socket.
///
/// Where this process lacks the memory or the descriptors for its part, the leaving one is told so, and the connection
/// goes on at once as it was. Control thread only.
class Suspensions {
public:
    explicit Suspensions(ShmFabric& fabric) : fabric_(fabric) {}
    Suspensions(const Suspensions&) = delete;
    Suspensions& operator=(const Suspensions&) = delete;

    void take_suspend(Peer& peer, const ControlMessage& message);
    void take_stay(Peer& peer, const ControlMessage& message);
    void take_left(Peer& peer, const ControlMessage& message);
    void take_resume(Peer& peer, const ControlMessage& message);
    /// Its link is gone: what was suspended on it, or waited for somebody to come by it, is too.
    void peer_ended(const Peer& peer);

private:
    struct Suspension {
        std::uint32_t serial = 0;  // the leaver's
        std::uint32_t id = 0;      // of our connection
        ShmPort* port = nullptr;
        const Peer* leaver = nullptr;  // until it has left
        const Peer* lifeline = nullptr;
        std::uint64_t secret[2] = {};
    };
    using Item = std::list<Suspension>::iterator;

    void answer_when_held(const std::weak_ptr<Peer>& leaver, std::uint32_t serial,
                          std::uint32_t id) noexcept;
    [[nodiscard]] bool look_again_later(const std::weak_ptr<Peer>& leaver, std::uint32_t serial,
                                        std::uint32_t id) noexcept;
    [[nodiscard]] SuspendAnswer open_lifeline(Suspension& suspension, Descriptor& far_end) noexcept;
    [[nodiscard]] Item find(const Peer& leaver, std::uint32_t serial);
    void cut(const Peer* lifeline);

    ShmFabric& fabric_;
    std::list<Suspension> list_;
};

}  // namespace sanpoll::engine::shm
