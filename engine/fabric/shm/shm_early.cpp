// Messages of the shared-memory fabric that came before their receive: kept in private memory until one is posted.
#include <algorithm>
#include <cstdlib>

#include "engine/fabric/scatter.hpp"
#include "engine/fabric/shm/shm_port.hpp"

namespace sanpoll::engine::shm {

namespace {

constexpr std::uint32_t kPoolBytes = kMaxInRing;
constexpr std::uint32_t kPrepared =
    64;  // blocks made at the start: what may wait before any is reused
constexpr std::uint32_t kPooled = 4096;  // blocks kept for reuse, at most

}  // namespace

void ShmPort::fill_early_pool() noexcept {
    while (early_pooled_ < kPrepared) {
        auto* message = static_cast<EarlyMessage*>(std::malloc(sizeof(EarlyMessage) + kPoolBytes));
        if (message == nullptr) {
            return;  // keep() tries again
        }
        message->next = early_pool_;
        early_pool_ = message;
        ++early_pooled_;
    }
}

EarlyMessage* ShmPort::keep(Connection& connection, std::uint32_t length, bool announced) noexcept {
    const std::uint32_t bytes = announced ? 0 : length;
    EarlyMessage* message = early_pool_;
    if (bytes <= kPoolBytes && message != nullptr) {
        early_pool_ = message->next;
        --early_pooled_;
    } else {
        message = static_cast<EarlyMessage*>(
            std::malloc(sizeof(EarlyMessage) + std::max(bytes, kPoolBytes)));
        if (message == nullptr) {
            return nullptr;
        }
    }
    counters_.early_messages.add();
    connection.receives.stop_directly();
    message->next = nullptr;
    message->length = length;
    message->announced = announced;
    message->described = message->decided = false;
    if (connection.early == nullptr) {
        connection.early = message;
    } else {
        connection.early_tail->next = message;
    }
    connection.early_tail = message;
    return message;
}

void ShmPort::free_early(EarlyMessage* message) noexcept {
    if ((message->announced || message->length <= kPoolBytes) && early_pooled_ < kPooled) {
        message->next = early_pool_;
        early_pool_ = message;
        ++early_pooled_;
    } else {
        std::free(message);
    }
}

void ShmPort::fail_short_receive(Connection& connection) noexcept {
    ++connection.debt;
    note_unusual(connection);
    complete_receive(connection, Status::kMessageTooLong, 0);
}

// Gives kept messages to posted receives, oldest to oldest.
void ShmPort::match_early(Connection& connection) noexcept {
    while (connection.early != nullptr && !connection.receives.empty() &&
           !connection.receiving_long) {
        EarlyMessage* message = connection.early;
        if (message->length > connection.receives.front().length) {
            fail_short_receive(connection);  // the message stays for a longer receive
            continue;
        }
        connection.early = message->next;
        if (message->announced) {
            begin_long(connection, message);
            continue;
        }
        Scatter(connection.receives, 0).write<copy_long>(message->bytes, message->length);
        const std::uint32_t length = message->length;
        free_early(message);
        complete_receive(connection, Status::kOk, length);
    }
    if (connection.receiving_long) {
        invite_ahead(connection);
    }
    if (connection.broken && connection.early == nullptr) [[unlikely]] {
        // As in break_connection: the gate first.
        if (connection.established) {
            (void)connection.gate->break_off(connection.generation,
                                             connection.reason == Status::kReset
                                                 ? PostGate::State::kReset
                                                 : PostGate::State::kFailed);
        }
        end_receives(connection, connection.reason);
    }
}

}  // namespace sanpoll::engine::shm
