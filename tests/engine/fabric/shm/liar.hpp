// A process without an engine that speaks the control protocol, as it likes.
#pragma once

#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <memory>
#include <optional>
#include <utility>

#include "engine/fabric/shm/mailbox.hpp"
#include "engine/fabric/shm/record.hpp"
#include "engine/fabric/shm/rendezvous.hpp"
#include "engine/fabric/shm/segment.hpp"
#include "rings/spsc_ring.hpp"

namespace sanpoll::tests {

inline engine::shm::ControlMessage control(engine::shm::MessageKind kind) {
    return engine::shm::message_of(kind);
}

/// Has a control socket to the engine that listens at an address, and a link with it.
class Liar {
public:
    explicit Liar(const engine::Address& at) : fd_(engine::shm::connect_rendezvous(at)) {
        using engine::shm::MessageKind;
        EXPECT_GE(fd_, 0);
        std::string error;
        const engine::shm::SegmentShape shape{256, 256U << 10};
        segment_ = engine::shm::Segment::create(shape, error);
        int bell[2];
        EXPECT_TRUE(segment_ && engine::shm::make_doorbell(bell));
        inbox_.emplace(segment_->mailbox(1));
        inbox_->arm();
        engine::shm::ControlMessage hello = control(MessageKind::kHello);
        hello.engine_id[0] = 77;
        say(hello);
        EXPECT_EQ(hear().kind, MessageKind::kHello);
        engine::shm::ControlMessage offer = control(MessageKind::kOffer);
        offer.ring_slots = shape.ring_slots;
        offer.staging_bytes = shape.staging_bytes;
        const int fds[] = {segment_->fd(), bell[1]};
        EXPECT_EQ(send_message(fd_, offer, fds, 2), 1);
        EXPECT_EQ(hear().kind, MessageKind::kReady);
        ::close(bell[0]);
        ::close(bell[1]);
    }
    ~Liar() {
        close_received();
        if (fd_ >= 0) {
            ::close(fd_);
        }
    }
    Liar(const Liar&) = delete;
    Liar& operator=(const Liar&) = delete;

    void say(const engine::shm::ControlMessage& message) const {
        EXPECT_EQ(send_message(fd_, message, nullptr, 0), 1);
    }
    void say_with(const engine::shm::ControlMessage& message, int along) const {
        EXPECT_EQ(send_message(fd_, message, &along, 1), 1);
    }
    /// The next letter or message, kMail apart; kind 0 if the engine has hung up.
    engine::shm::ControlMessage hear() {
        for (;;) {
            engine::shm::ControlMessage message;
            close_received();
            if (reads_letters && inbox_->take(message) == engine::shm::MailReader::Found::kLetter) {
                return message;
            }
            const int result = receive_message(fd_, message, received_, received_count_);
            if (result > 0 && message.kind != engine::shm::MessageKind::kMail) {
                return message;
            }
            if (result > 0) {
                inbox_->arm();
                continue;
            }
            pollfd item{fd_, POLLIN, 0};
            if (result < 0 || ::poll(&item, 1, 60000) <= 0) {
                EXPECT_LT(result, 0) << "no answer";
                return control(engine::shm::MessageKind{});
            }
        }
    }
    [[nodiscard]] bool hung_up() {
        while (hear().kind != engine::shm::MessageKind{}) {
        }
        return true;
    }
    /// The descriptor that came with the last message.
    [[nodiscard]] int received() const { return received_count_ > 0 ? received_[0] : -1; }
    [[nodiscard]] int fd() const { return fd_; }
    void hang_up() { ::close(std::exchange(fd_, -1)); }
    void close_received() {
        for (int i = 0; i < received_count_; ++i) {
            ::close(received_[i]);
        }
        received_count_ = 0;
    }

    /// Whether the engine has hung up by now; what it has said before is not heard any more.
    [[nodiscard]] bool has_hung_up() {
        for (;;) {
            engine::shm::ControlMessage unheard;
            close_received();
            const int result = receive_message(fd_, unheard, received_, received_count_);
            if (result <= 0) {
                return result < 0;
            }
        }
    }

    /// The first record that it writes, of a kind that there is not.
    void lie_in_the_ring() {
        const engine::shm::Direction direction = segment_->direction(0);
        rings::SpscProducer producer(direction.slots, segment_->shape().ring_slots,
                                     direction.slots_consumed);
        ASSERT_TRUE(producer.has_room(1));
        engine::shm::write_header(producer.payload(),
                                  {static_cast<engine::shm::RecordKind>(99), 1, 0, 0, 0, 0}, 1);
        producer.publish();
    }
    /// A record of a header only, behind those that it has told before.
    void tell(engine::shm::RecordKind kind, std::uint32_t connection, std::uint32_t credit) {
        const engine::shm::Direction direction = segment_->direction(0);
        rings::SpscProducer producer(direction.slots, segment_->shape().ring_slots,
                                     direction.slots_consumed, told_++);
        engine::shm::write_header(producer.payload(), {kind, 1, 0, connection, 0, credit}, 1);
        producer.publish();
    }
    /// What the engine has exposed to it, as it says itself.
    [[nodiscard]] engine::shm::ExposureSlot* exposed_to_it() {
        return segment_->direction(0).exposures;
    }
    /// What the engine has offered to it to copy of a message, as it says itself.
    [[nodiscard]] engine::shm::CopyJob* offered_to_it() { return segment_->direction(0).job; }
    /// What it writes, and what is written to it.
    [[nodiscard]] engine::shm::MailboxMemory& outbox() { return segment_->mailbox(0); }
    [[nodiscard]] engine::shm::MailboxMemory& inbox() { return segment_->mailbox(1); }

    bool reads_letters = true;

private:
    int fd_;
    std::unique_ptr<engine::shm::Segment> segment_;
    std::optional<engine::shm::MailReader> inbox_;
    int received_[2] = {-1, -1};
    int received_count_ = 0;
    std::uint32_t told_ = 0;
};

}  // namespace sanpoll::tests
