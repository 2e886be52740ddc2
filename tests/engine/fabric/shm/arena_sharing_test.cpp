// Processes that show each other their arenas, and those that offer what they should not.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "engine/fabric/shm/segment.hpp"
#include "tests/engine/fabric/shm/engine_bench.hpp"
#include "tests/engine/fabric/shm/shared_arena.hpp"

namespace sanpoll::engine::shm {
namespace {

using tests::Backlog;
using tests::EngineBench;
using tests::eventually;
using tests::Operation;
using tests::Socket;

constexpr std::uint32_t kLong = 3U << 20;
constexpr SegmentShape kShape{256, 256U << 10};

Config with(ShareArenas share, Mode mode = Mode::kInline) {
    Config config;
    config.share_arenas = share;
    config.mode = mode;
    config.core_count = mode == Mode::kInline ? 2 : 1;
    return config;
}

// What is described then lies in an arena.
Config without_process_copies(ShareArenas share) {
    Config config = with(share);
    config.copy = Copy::kStaged;
    return config;
}

// An engine that is connected with itself.
class ArenaSharingTest : public testing::Test {
protected:
    void connect(const Config& config) {
        bench_ = std::make_unique<EngineBench>(config);
        backlog_ = std::make_unique<Backlog>(*bench_, at_);
        ASSERT_NO_FATAL_FAILURE(join(*bench_, *backlog_, at_, from_, to_));
    }
    void TearDown() override {
        if (bench_) {
            tests::close_all({&from_, &to_});
        }
    }
    [[nodiscard]] static std::string_view words(const Socket& socket) {
        const Endpoint& endpoint = *socket.slot.load();
        return endpoint.port->arenas(endpoint);
    }
    [[nodiscard]] static const ShmCounters& counters(const Socket& socket) {
        return static_cast<const ShmPort*>(socket.slot.load()->port)->counters();
    }
    void exchange(std::uint64_t number, const memory::Arena& arena) {
        Operation& receive = to_.receive(kLong);
        Operation& send = send_at(from_, reinterpret_cast<std::byte*>(arena.base),
                                  tests::message_of(number, kLong));
        wait_for(to_, receive);
        wait_for(from_, send);
        ASSERT_TRUE(receive.good() && send.good());
        ASSERT_TRUE(receive.content() == tests::message_of(number, kLong));
    }

    const Address at_ = EngineBench::fresh_address();
    Socket from_;
    Socket to_;
    std::unique_ptr<EngineBench> bench_;
    std::unique_ptr<Backlog> backlog_;
};

TEST_F(ArenaSharingTest, AnArenaIsSharedWhenTheLinkStands) {
    const memory::Arena& arena = tests::shareable_arena();
    ASSERT_NO_FATAL_FAILURE(connect(with(ShareArenas::kOn)));
    ASSERT_TRUE(eventually([&] { return words(from_) == to_words(Sharing::kStores); }));
    for (std::uint64_t number = 0; number < 20; ++number) {
        ASSERT_NO_FATAL_FAILURE(exchange(number, arena));
    }
    // Both directions of both links become shared one after the other.
    ASSERT_TRUE(eventually([&] {
        const std::uint64_t before = counters(from_).messages_described.value();
        exchange(100, arena);
        return counters(from_).messages_described.value() != before;
    }));
    EXPECT_NE(counters(to_).bytes_from_arenas.value(), 0U);
}

TEST_F(ArenaSharingTest, AnArenaThatIsMadeLaterIsSharedToo) {
    ASSERT_NO_FATAL_FAILURE(connect(with(ShareArenas::kOn)));
    memory::Refusal refusal;
    const memory::Arena* late = memory::Arenas::of_process().make(true, 0, refusal);
    ASSERT_NE(late, nullptr) << refusal.text;
    ASSERT_TRUE(eventually([&] {
        const std::uint64_t before = counters(from_).messages_described.value();
        exchange(1, *late);
        return counters(from_).messages_described.value() != before;
    }));
    EXPECT_EQ(words(to_), to_words(Sharing::kStores));
}

TEST_F(ArenaSharingTest, SharedForReadingItIsSaidSo) {
    (void)tests::shareable_arena();
    ASSERT_NO_FATAL_FAILURE(connect(with(ShareArenas::kRead)));
    ASSERT_TRUE(eventually([&] { return words(from_) == to_words(Sharing::kShared); }));
    EXPECT_EQ(words(to_), to_words(Sharing::kShared));
}

TEST_F(ArenaSharingTest, APrivateArenaIsNot) {
    memory::Refusal refusal;
    const memory::Arena* arena = memory::Arenas::of_process().make(false, 0, refusal);
    ASSERT_NE(arena, nullptr) << refusal.text;
    ASSERT_NO_FATAL_FAILURE(connect(without_process_copies(ShareArenas::kOn)));
    for (std::uint64_t number = 0; number < 5; ++number) {
        ASSERT_NO_FATAL_FAILURE(exchange(number, *arena));
    }
    EXPECT_EQ(counters(from_).messages_described.value(), 0U);
}

TEST_F(ArenaSharingTest, OffIsOff) {
    const memory::Arena& arena = tests::shareable_arena();
    ASSERT_NO_FATAL_FAILURE(connect(without_process_copies(ShareArenas::kOff)));
    for (std::uint64_t number = 0; number < 5; ++number) {
        ASSERT_NO_FATAL_FAILURE(exchange(number, arena));
    }
    EXPECT_EQ(words(from_), to_words(Sharing::kOffHere));
    EXPECT_EQ(words(to_), to_words(Sharing::kOffHere));
    EXPECT_EQ(counters(from_).messages_described.value(), 0U);
}

// ---- a peer that is not one of ours -----------------------------------------------------------------

// Keeps to the order of introduction until a link stands, then offers what it likes.
class ForgedOfferTest : public testing::Test {
protected:
    void introduce(ShareArenas shares = ShareArenas::kOn) {
        bench_ = std::make_unique<EngineBench>(with(shared_here_));
        backlog_ = std::make_unique<Backlog>(*bench_, at_);
        ASSERT_EQ(backlog_->status, Status::kOk);
        link(shares);
    }
    void link(ShareArenas shares = ShareArenas::kOn) {
        if (fd_ >= 0) {
            ::close(fd_);
        }
        fd_ = connect_rendezvous(at_);
        ASSERT_GE(fd_, 0);
        ControlMessage hello = message_of(MessageKind::kHello);
        hello.shares_arenas = static_cast<std::uint32_t>(shares);
        ASSERT_EQ(send_message(fd_, hello, nullptr, 0), 1);
        ControlMessage answer;
        ASSERT_TRUE(hear(answer));
        ASSERT_EQ(answer.kind, MessageKind::kHello);
        EXPECT_EQ(answer.shares_arenas, static_cast<std::uint32_t>(shared_here_));
        std::string error;
        segment_ = Segment::create(kShape, error);
        ASSERT_NE(segment_, nullptr) << error;
        int doorbell[2];
        ASSERT_TRUE(make_doorbell(doorbell));
        ControlMessage offer = message_of(MessageKind::kOffer);
        offer.ring_slots = kShape.ring_slots;
        offer.staging_bytes = kShape.staging_bytes;
        const int fds[2] = {segment_->fd(), doorbell[1]};
        ASSERT_EQ(send_message(fd_, offer, fds, 2), 1);
        ASSERT_TRUE(hear(answer));
        ASSERT_EQ(answer.kind, MessageKind::kReady);
        ::close(doorbell[0]);
        ::close(doorbell[1]);
    }
    void TearDown() override {
        if (fd_ >= 0) {
            ::close(fd_);
        }
    }

    // The engine's next word; false if it has hung up. Descriptors and offers of its own are passed over.
    bool hear(ControlMessage& message) const {
        for (;;) {
            pollfd item{fd_, POLLIN, 0};
            if (::poll(&item, 1, 60000) <= 0) {
                ADD_FAILURE() << "it says nothing";
                return false;
            }
            int fds[2];
            int count = 0;
            if (receive_message(fd_, message, fds, count) < 0) {
                return false;
            }
            for (int i = 0; i < count; ++i) {
                ::close(fds[i]);
            }
            if (message.kind != MessageKind::kArena) {
                return true;
            }
        }
    }
    enum class Answer { kMapped, kRefused, kSentAway };
    Answer offer(std::uint32_t id, std::uint64_t size, int file) const {
        ControlMessage message = message_of(MessageKind::kArena);
        message.arena_id = id;
        message.arena_size = size;
        EXPECT_EQ(send_message(fd_, message, &file, file >= 0 ? 1 : 0), 1);
        ControlMessage answer;
        if (!hear(answer)) {
            return Answer::kSentAway;
        }
        EXPECT_EQ(answer.kind, MessageKind::kArenaAnswer);
        EXPECT_EQ(answer.arena_id, id);
        return answer.status == 0 ? Answer::kMapped : Answer::kRefused;
    }
    static int file(unsigned seals) {
        const int fd = ::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        EXPECT_GE(fd, 0);
        EXPECT_EQ(::ftruncate(fd, memory::kArenaAlignment), 0);
        EXPECT_TRUE(seals == 0 || ::fcntl(fd, F_ADD_SEALS, seals) == 0);
        return fd;
    }

    ShareArenas shared_here_ = ShareArenas::kOn;
    const Address at_ = EngineBench::fresh_address();
    std::unique_ptr<EngineBench> bench_;
    std::unique_ptr<Backlog> backlog_;
    std::unique_ptr<Segment> segment_;
    int fd_ = -1;
};

constexpr std::uint64_t kSize = memory::kArenaAlignment;

TEST_F(ForgedOfferTest, EachIdIsTakenOnceAndThereAreNoMoreThanCanBe) {
    ASSERT_NO_FATAL_FAILURE(introduce());
    const int good = file(F_SEAL_SHRINK);
    for (std::uint32_t id = 1; id <= memory::kMaxArenas; ++id) {
        ASSERT_EQ(offer(id, kSize, good), Answer::kMapped) << id;
    }
    EXPECT_EQ(offer(5, kSize, good), Answer::kSentAway);
    for (const std::uint32_t id : {0U, memory::kMaxArenas + 1, ~0U}) {
        ASSERT_NO_FATAL_FAILURE(link());
        EXPECT_EQ(offer(id, kSize, good), Answer::kSentAway) << id;
    }
    ::close(good);
}

TEST_F(ForgedOfferTest, WhatCannotBeMappedIsRefusedAndTheLinkGoesOn) {
    ASSERT_NO_FATAL_FAILURE(introduce());
    const int unsealed = file(0);
    const int good = file(F_SEAL_SHRINK);
    EXPECT_EQ(offer(1, kSize, unsealed), Answer::kRefused);
    EXPECT_EQ(offer(1, 2 * kSize, good), Answer::kRefused);
    EXPECT_EQ(offer(1, 0, good), Answer::kRefused);
    EXPECT_EQ(offer(1, kSize, fd_), Answer::kRefused);
    EXPECT_EQ(offer(1, kSize, good), Answer::kMapped);
    ::close(unsealed);
    ::close(good);
}

TEST_F(ForgedOfferTest, AnOfferWithoutAFileIsSentAway) {
    ASSERT_NO_FATAL_FAILURE(introduce());
    EXPECT_EQ(offer(1, kSize, -1), Answer::kSentAway);
}

TEST_F(ForgedOfferTest, WhoDoesNotShareGetsNoMapping) {
    shared_here_ = ShareArenas::kOff;
    const int good = file(F_SEAL_SHRINK);
    ASSERT_NO_FATAL_FAILURE(introduce());
    EXPECT_EQ(offer(1, kSize, good), Answer::kSentAway);
    ::close(good);
}

TEST_F(ForgedOfferTest, WhoSaidThatItDoesNotShareOffersNothing) {
    const int good = file(F_SEAL_SHRINK);
    ASSERT_NO_FATAL_FAILURE(introduce(ShareArenas::kOff));
    EXPECT_EQ(offer(1, kSize, good), Answer::kSentAway);
    ::close(good);
}

TEST_F(ForgedOfferTest, WhoSharesAsNobodyDoesSharesNothing) {
    const int good = file(F_SEAL_SHRINK);
    ASSERT_NO_FATAL_FAILURE(introduce(static_cast<ShareArenas>(3)));
    EXPECT_EQ(offer(1, kSize, good), Answer::kSentAway);
    ::close(good);
}

TEST_F(ForgedOfferTest, WhatMayNotBeWrittenIsMappedForReading) {
    const int sealed = file(F_SEAL_SHRINK | F_SEAL_WRITE);
    ASSERT_NO_FATAL_FAILURE(introduce());
    EXPECT_EQ(offer(1, kSize, sealed), Answer::kMapped);
    ::close(sealed);
}

TEST_F(ForgedOfferTest, AnAnswerToNoOfferIsSentAway) {
    ASSERT_NO_FATAL_FAILURE(introduce());
    ControlMessage message = message_of(MessageKind::kArenaAnswer);
    message.arena_id = 60;
    ASSERT_EQ(send_message(fd_, message, nullptr, 0), 1);
    ControlMessage answer;
    EXPECT_FALSE(hear(answer));
}

}  // namespace
}  // namespace sanpoll::engine::shm
