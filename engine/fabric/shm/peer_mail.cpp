// Letters to and from another engine, see mailbox.hpp.
#include <new>
#include <utility>

#include "engine/clock.hpp"
#include "engine/fabric/shm/shm_fabric.hpp"
#include "engine/log.hpp"

namespace sanpoll::engine::shm {

namespace {

// A peer that goes on writing must not keep everybody else waiting.
constexpr std::uint32_t kLettersAtOnce = 2 * MailboxMemory::kLetters;

constexpr std::uint64_t kPolledMs = 2;           // between two looks whether somebody still polls
constexpr std::uint64_t kLeastPolledNs = 20000;  // less is too short to judge by
constexpr std::uint64_t kNsPerLook = 2500;       // of somebody who polls, at most

bool goes_by_mail(MessageKind kind) noexcept {
    return kind == MessageKind::kConnect || kind == MessageKind::kAnswer ||
           kind == MessageKind::kWithdraw || kind == MessageKind::kAbandon;
}

}  // namespace

bool Peer::mail(const ControlMessage& message) noexcept {
    bool knock = false;
    if (state_ != State::kReady || !outbox_ || !outbox_->put(message, knock)) {
        return false;
    }
    if (knock) {
        send(message_of(MessageKind::kMail));
    }
    return true;
}

void Peer::mail_or_send(const ControlMessage& message) noexcept {
    if (!mail(message)) {
        send(message);
    }
}

void Peer::take_mail() {
    for (std::uint32_t left = kLettersAtOnce; state_ == State::kReady && !out_of_memory_; --left) {
        if (left == 0) {
            // The rest on the thread itself: no call of the application's is to work off a flood. Once, however
            // many look meanwhile.
            if (!mail_left_) {
                mail_left_ = true;
                try {
                    fabric_.control().post_apart([self = shared_from_this()] {
                        self->mail_left_ = false;
                        self->take_mail();
                    });
                } catch (const std::bad_alloc&) {
                    run_out_of_memory();
                }
            }
            return;
        }
        ControlMessage message;
        const MailReader::Found found = inbox_->take(message);
        if (found == MailReader::Found::kNothing) {
            return;
        }
        if (found == MailReader::Found::kLie) {
            end("its mailbox claims letters that cannot be there; something else writes into the "
                "link's memory");
            return;
        }
        int none[2] = {-1, -1};
        try {
            if (!is_sound(message)) {
                end(unsound_text(message));
                return;
            }
            if (!goes_by_mail(message.kind)) {
                end(formatted("a message of kind {} lies among its letters",
                              static_cast<std::uint32_t>(message.kind)));
                return;
            }
            take(message, none, 0);
        } catch (const std::bad_alloc&) {
            run_out_of_memory();
        }
    }
}

void Peer::await_mail() {
    if (state_ == State::kReady) {
        inbox_->arm();
        take_mail();  // what was written before the writer could see that
    }
}

// ---- who reads them ----------------------------------------------------------------------------------

void ShmFabric::progress() {
    const bool looked = control_.try_call([this] {
        // Each once, in order, however much one of them writes. The set changes if a peer ends while its letters are read:
        // hence apart, and on from behind it.
        std::shared_ptr<Peer> peer;
        for (auto next = unasked_.begin(); next != unasked_.end();
             next = unasked_.upper_bound(peer)) {
            peer = *next;
            if (peer->has_mail()) {
                peer->take_mail();
            }
        }
    });
    if (looked) {
        looks_.fetch_add(1, std::memory_order_relaxed);  // a count, orders nothing
    }
}

// Who calls progress() all the time finds letters without being told. Told it would be at the cost of two system
// calls and a thread switch each, most of what a connect takes. So while somebody polls, nobody is asked to
// tell; that somebody has stopped is noticed by a timer, and until then a letter may lie for kPolledMs.
void ShmFabric::mail_came(Peer& peer) {
    if (somebody_polls()) {
        try {
            unasked_.insert(peer.shared_from_this());
            check_whether_polled();
            return;
        } catch (const std::bad_alloc&) {
            unasked_.erase(peer.shared_from_this());  // it is asked to tell, then
        }
    }
    peer.await_mail();
}

void ShmFabric::check_whether_polled() {
    if (!checking_) {
        control_.add_timer(kPolledMs, [this] {
            checking_ = false;
            see_whether_polled();
        });
        checking_ = true;
    }
}

void ShmFabric::see_whether_polled() {
    if (somebody_polls()) {
        try {
            check_whether_polled();
            return;
        } catch (const std::bad_alloc&) {
            // Without a timer it would not be seen that nobody does any more.
        }
    }
    const std::set<std::shared_ptr<Peer>> peers = std::exchange(unasked_, {});
    for (const std::shared_ptr<Peer>& peer : peers) {
        peer->await_mail();
    }
}

// A thread that polls looks about once a microsecond. One that waits for events does so once or twice before it
// sleeps, and a sleep and its end take ten microseconds.
bool ShmFabric::somebody_polls() noexcept {
    const std::uint64_t now = Clock::steady().now_ns();
    const std::uint64_t elapsed = now - looked_at_;
    if (elapsed >= kLeastPolledNs) {
        const std::uint64_t looks = looks_.load(std::memory_order_relaxed);
        polled_ = looks - looks_before_ >= elapsed / kNsPerLook;
        looks_before_ = looks;
        looked_at_ = now;
    }
    return polled_;
}

}  // namespace sanpoll::engine::shm
