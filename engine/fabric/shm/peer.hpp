// The acquaintance with another engine (or with ourselves): a control socket and the link it set up.
#pragma once

#include <cstdint>
#include <deque>
#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "engine/fabric/shm/descriptor.hpp"
#include "engine/fabric/shm/link.hpp"
#include "engine/fabric/shm/mailbox.hpp"
#include "engine/fabric/shm/rendezvous.hpp"

namespace sanpoll::engine::shm {

class Outgoing;
class Incoming;
class ShmFabric;
class ShmPort;

/// Everything here runs with the turn of the control thread. The socket lives as long as the link: when the other
/// process dies, however it dies, the kernel closes its end and epoll says so at once.
///
///   initiator: kGreeting --hello back--> kLinking --ready--> kReady --end of file--> kGone
///   acceptor:  kGreeting --hello, offer--> kReady --end of file--> kGone
class Peer : public std::enable_shared_from_this<Peer> {
public:
    enum class State { kGreeting, kLinking, kReady, kGone };

    Peer(ShmFabric& fabric, int fd, bool initiator, ShmPort& port);
    ~Peer();
    Peer(const Peer&) = delete;
    Peer& operator=(const Peer&) = delete;

    /// Watches the socket; the initiator says hello. False when the system refuses.
    [[nodiscard]] bool begin();
    /// Sends the request now or when the link stands. Or ends it, for lack of memory.
    void request(const std::shared_ptr<Outgoing>& outgoing);
    void send(const ControlMessage& message) noexcept;
    /// By the link's mailbox: costs no system call unless the peer sleeps. False: there is no room.
    [[nodiscard]] bool mail(const ControlMessage& message) noexcept;
    void mail_or_send(const ControlMessage& message) noexcept;
    /// Takes in the letters that are there.
    void take_mail();
    /// The same, and asks to be told of the next one.
    void await_mail();
    /// Whether take_mail() would find something.
    [[nodiscard]] bool has_mail() const noexcept {
        return state_ == State::kReady && inbox_->anything();
    }
    /// With a descriptor that is closed here as soon as it is sent.
    void send(const ControlMessage& message, Descriptor along) noexcept;
    /// Initiator, before begin(): makes a link of its own even if there is one to the other engine.
    void keep_to_itself() noexcept { keeps_to_itself_ = true; }
    /// Offers it the shareable arenas that it has not been offered yet.
    void offer_arenas();
    /// Ends everything that goes by this peer, with `why` in the log unless it is empty. Does not wait: the link itself, and
    /// what is left, stays a moment longer for a living peer that is copying.
    void end(std::string_view why);
    /// After end(): ends what is left if the copies have ended by now, or have had their time. For who cannot wait for a
    /// timer; the peer is one of the fabric's until then.
    void finish_end_in_time();

    [[nodiscard]] State state() const noexcept { return state_; }
    [[nodiscard]] bool initiator() const noexcept { return initiator_; }
    [[nodiscard]] Link* link() const noexcept { return link_.get(); }
    [[nodiscard]] ShmPort& port() const noexcept { return port_; }
    /// Which of the other engine's ports the link is on; since its hello.
    [[nodiscard]] std::uint32_t their_port() const noexcept { return their_port_; }
    /// The other process, 0 if that is unknown; for messages.
    [[nodiscard]] int process() const noexcept { return copy_.pid; }
    [[nodiscard]] bool is_engine(const std::uint64_t id[2]) const noexcept {
        return engine_id_[0] == id[0] && engine_id_[1] == id[1];
    }

    std::map<std::uint32_t, std::shared_ptr<Outgoing>> outgoing;  // by our connection id
    std::map<std::uint32_t, std::weak_ptr<Incoming>> incoming;    // by the connector's

private:
    struct Unsent {
        ControlMessage message;
        std::vector<int> fds;  // borrowed; valid until sent
        Descriptor owned;      // one of them that is not
    };

    void ready(std::uint32_t epoll_events);
    void run_out_of_memory() noexcept;
    void ask(const std::shared_ptr<Outgoing>& outgoing);
    // Of the descriptors that come along, one that has been taken, or closed, is set to -1; the others are closed when the
    // message has been taken in vain.
    void take(const ControlMessage& message, int fds[2], int fd_count);
    void take_hello(const ControlMessage& message);
    [[nodiscard]] bool take_offer(const ControlMessage& message, int fds[2], int fd_count);
    void take_ready(int& fd);
    void take_connect(const ControlMessage& message);
    void take_answer(const ControlMessage& message);
    void offer_link();
    [[nodiscard]] bool take_arena(const ControlMessage& message, int& fd);
    [[nodiscard]] bool take_arena_answer(const ControlMessage& message);
    [[nodiscard]] ControlMessage hello() const;
    void probe(const ControlMessage& message);
    void send_with(const ControlMessage& message, std::initializer_list<int> fds,
                   Descriptor owned = {}) noexcept;
    [[nodiscard]] bool take_swap(const ControlMessage& message, int fds[2], int fd_count);
    void flush();
    void flush_later(int error) noexcept;
    void await_copies();
    [[nodiscard]] bool has_closed() const noexcept;
    void finish_end();
    void install_link(std::unique_ptr<Segment> segment, int peer_doorbell);

    ShmFabric& fabric_;
    int fd_;
    const bool initiator_;
    ShmPort& port_;
    State state_ = State::kGreeting;
    std::uint64_t engine_id_[2] = {};
    std::uint32_t their_port_ = 0;
    bool keeps_to_itself_ = false;
    Sharing sharing_ = Sharing::kOffHere;
    bool may_write_ = false;         // both ends share for writing too
    std::uint32_t arenas_seen_ = 0;  // of this process, offered or not to be
    ProcessCopy copy_;
    std::deque<Unsent> unsent_;
    bool flush_is_due_ = false;           // a timer will
    std::uint64_t refused_since_ns_ = 0;  // the first of unsent_, by the system; 0: it was not
    bool deaf_ = false;  // too much of it, or no memory for it: the end is on its way
    bool out_of_memory_ =
        false;  // the reason of the end that is on its way: nothing is read any more
    std::vector<std::shared_ptr<Outgoing>> waiting_;  // until the link stands
    std::map<std::uint32_t, std::shared_ptr<Outgoing>>
        lost_;  // what was outgoing at the end, and is not told yet
    Status lost_by_ = Status::kNoListener;
    std::uint64_t copies_until_ns_ = 0;  // what end() leaves may wait for a copy until then
    bool over_ = false;                  // nothing is left
    std::unique_ptr<Segment> segment_;   // initiator, while linking
    int doorbell_[2] = {-1, -1};         // while linking: ours, the one sent
    std::unique_ptr<Link> link_;
    // In the link's segment; while it stands.
    std::optional<MailWriter> outbox_;
    std::optional<MailReader> inbox_;
    bool mail_left_ = false;  // a task that reads on is on its way
};

}  // namespace sanpoll::engine::shm
