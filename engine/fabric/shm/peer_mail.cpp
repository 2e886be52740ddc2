// Letters to and from another engine, see mailbox.hpp.
#include "engine/fabric/shm/shm_fabric.hpp"

namespace sanpoll::engine::shm {

namespace {

// A peer that goes on writing must not keep everybody else waiting.
constexpr std::uint32_t kLettersAtOnce = 2 * MailboxMemory::kLetters;

bool goes_by_mail(MessageKind kind) noexcept {
    return kind == MessageKind::kConnect || kind == MessageKind::kAnswer ||
           kind == MessageKind::kWithdraw || kind == MessageKind::kAbandon;
}

}  // namespace

bool Peer::mail(const ControlMessage& message) {
    bool knock = false;
    if (state_ != State::kReady || !outbox_ || !outbox_->put(message, knock)) {
        return false;
    }
    if (knock) {
        send(message_of(MessageKind::kMail));
    }
    return true;
}

void Peer::mail_or_send(const ControlMessage& message) {
    if (!mail(message)) {
        send(message);
    }
}

void Peer::take_mail() {
    for (std::uint32_t left = kLettersAtOnce; state_ == State::kReady; --left) {
        if (left == 0) {
            fabric_.control().post([self = shared_from_this()] { self->take_mail(); });
            return;
        }
        ControlMessage message;
        const MailReader::Found found = inbox_->take(message);
        if (found == MailReader::Found::kNothing) {
            return;
        }
        if (found == MailReader::Found::kLie || !is_sound(message) || !goes_by_mail(message.kind)) {
            end("its letters are none");
            return;
        }
        int none[2] = {-1, -1};
        take(message, none, 0);
    }
}

void Peer::await_mail() {
    if (state_ == State::kReady) {
        inbox_->arm();
        take_mail();  // what was written before the writer could see that
    }
}

}  // namespace sanpoll::engine::shm
