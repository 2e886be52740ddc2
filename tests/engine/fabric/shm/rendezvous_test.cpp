// Garbage at the door: whoever does not keep to the order of introduction is sent away, others go on.
#include "engine/fabric/shm/rendezvous.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <functional>
#include <random>

#include "engine/fabric/shm/segment.hpp"
#include "tests/engine/fabric/shm/engine_bench.hpp"
#include "tests/engine/sanitizers.hpp"
#include "tests/provider/no_descriptors.hpp"

namespace sanpoll::engine::shm {
namespace {

using tests::Backlog;
using tests::EngineBench;
using tests::Operation;
using tests::Socket;

constexpr SegmentShape kShape{256, 256U << 10};

class RendezvousTest : public testing::Test {
protected:
    RendezvousTest() : backlog_(bench_, at_) {}

    [[nodiscard]] int knock() const {
        const int fd = connect_rendezvous(at_);
        EXPECT_GE(fd, 0);
        return fd;
    }

    // Waits for the engine's end of file; whatever it says before is read and dropped.
    static bool is_sent_away(int fd) {
        for (;;) {
            pollfd item{fd, POLLIN, 0};
            if (::poll(&item, 1, 60000) <= 0) {
                return false;
            }
            ControlMessage message;
            int fds[2];
            int count = 0;
            const int result = receive_message(fd, message, fds, count);
            if (result < 0) {
                return true;
            }
            for (int i = 0; i < count; ++i) {
                ::close(fds[i]);
            }
        }
    }

    static ControlMessage message_of(MessageKind kind) {
        ControlMessage message;
        message.kind = kind;
        message.ring_slots = kShape.ring_slots;
        message.staging_bytes = kShape.staging_bytes;
        return message;
    }

    // Says hello and waits for the answer.
    static void introduce(int fd) {
        ASSERT_EQ(send_message(fd, message_of(MessageKind::kHello), nullptr, 0), 1);
        pollfd item{fd, POLLIN, 0};
        ASSERT_EQ(::poll(&item, 1, 60000), 1);
        ControlMessage answer;
        int fds[2];
        int count = 0;
        ASSERT_EQ(receive_message(fd, answer, fds, count), 1);
        ASSERT_EQ(answer.kind, MessageKind::kHello);
    }

    void expect_service() {
        Socket from;
        Socket to;
        ASSERT_NO_FATAL_FAILURE(join(bench_, backlog_, at_, from, to));
        Operation& receive = to.receive(10);
        from.send_number(1, 10);
        wait_for(to, receive);
        EXPECT_TRUE(receive.good());
        tests::close_all({&from, &to});
    }

    EngineBench bench_;
    const Address at_ = EngineBench::fresh_address();
    Backlog backlog_;
};

// Who asked for a suspension still learns what the answer was; anything else that comes with less than it was sent with is nonsense.
TEST(RendezvousMessage, ADescriptorThatThereIsNoNumberForIsSaidToBeLost) {
    if (tests::kSanitizerNeedsDescriptors) {
        GTEST_SKIP() << "the sanitizer finds every object invalid where it has no descriptors";
    }
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    for (const MessageKind kind : {MessageKind::kSuspended, MessageKind::kOffer}) {
        ControlMessage sent;
        sent.kind = kind;
        ASSERT_EQ(send_message(ends[0], sent, &ends[0], 1), 1);
        ControlMessage got;
        int fds[2] = {-1, -1};
        int count = 0;
        const test::NoDescriptors none;
        if (kind == MessageKind::kSuspended) {
            EXPECT_EQ(receive_message(ends[1], got, fds, count), 1);
            EXPECT_EQ(got.kind, MessageKind::kSuspended);
            EXPECT_EQ(count, kLostOne);
        } else {
            EXPECT_EQ(receive_message(ends[1], got, fds, count), -1);
        }
    }
    ::close(ends[0]);
    ::close(ends[1]);
}

TEST_F(RendezvousTest, MessagesOfWrongSizesAreSentAway) {
    for (const std::size_t size : {std::size_t{1}, sizeof(ControlMessage) - 1,
                                   sizeof(ControlMessage) + 1, std::size_t{4096}}) {
        const int fd = knock();
        std::vector<char> bytes(size, 0);
        const ControlMessage hello = message_of(MessageKind::kHello);
        std::memcpy(bytes.data(), &hello, std::min(size, sizeof(hello)));
        ASSERT_EQ(::send(fd, bytes.data(), size, MSG_NOSIGNAL), static_cast<ssize_t>(size));
        EXPECT_TRUE(is_sent_away(fd)) << size;
        ::close(fd);
    }
    expect_service();
}

TEST_F(RendezvousTest, WrongMagicVersionAndDataLengthAreSentAway) {
    const std::function<void(ControlMessage&)> spoil[] = {
        [](ControlMessage& message) { ++message.magic; },
        [](ControlMessage& message) { ++message.version; },
        [](ControlMessage& message) { message.data_length = kMaxConnectData + 1; },
        [](ControlMessage& message) { message.data_length = 0xFFFFFFFF; },
    };
    for (const auto& one : spoil) {
        const int fd = knock();
        ControlMessage message = message_of(MessageKind::kHello);
        one(message);
        ASSERT_EQ(send_message(fd, message, nullptr, 0), 1);
        EXPECT_TRUE(is_sent_away(fd));
        ::close(fd);
    }
    expect_service();
}

TEST_F(RendezvousTest, EveryKindButHelloIsWrongAtFirst) {
    for (const std::uint16_t kind : {0, 2, 3, 4, 5, 6, 7, 8, 14, 15, 99, 0xFFFF}) {
        const int fd = knock();
        ASSERT_EQ(send_message(fd, message_of(static_cast<MessageKind>(kind)), nullptr, 0), 1);
        EXPECT_TRUE(is_sent_away(fd)) << kind;
        ::close(fd);
    }
    expect_service();
}

TEST_F(RendezvousTest, EveryKindButAnOfferIsWrongAfterHello) {
    for (const std::uint16_t kind : {0, 1, 3, 4, 5, 6, 7, 8, 14, 15, 99}) {
        const int fd = knock();
        ASSERT_NO_FATAL_FAILURE(introduce(fd));
        ASSERT_EQ(send_message(fd, message_of(static_cast<MessageKind>(kind)), nullptr, 0), 1);
        EXPECT_TRUE(is_sent_away(fd)) << kind;
        ::close(fd);
    }
    expect_service();
}

TEST_F(RendezvousTest, OffersWithWrongDescriptorsAreSentAway) {
    std::string error;
    const auto segment = Segment::create(kShape, error);
    ASSERT_NE(segment, nullptr) << error;
    int doorbell[2];
    ASSERT_TRUE(make_doorbell(doorbell));
    int pipe_ends[2];
    ASSERT_EQ(::pipe(pipe_ends), 0);
    const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
    const int unsealed = ::memfd_create("unsealed", MFD_CLOEXEC);
    ASSERT_EQ(::ftruncate(unsealed, static_cast<off_t>(kShape.bytes())), 0);
    const std::vector<std::vector<int>> offers = {
        {},
        {segment->fd()},
        {doorbell[1]},
        {doorbell[1], segment->fd()},
        {segment->fd(), segment->fd()},
        {segment->fd(), pipe_ends[1]},
        {segment->fd(), null},
        {null, doorbell[1]},
        {pipe_ends[0], doorbell[1]},
        {unsealed, doorbell[1]},
    };
    for (std::size_t i = 0; i < offers.size(); ++i) {
        const int fd = knock();
        ASSERT_NO_FATAL_FAILURE(introduce(fd));
        ASSERT_EQ(send_message(fd, message_of(MessageKind::kOffer), offers[i].data(),
                               static_cast<int>(offers[i].size())),
                  1);
        EXPECT_TRUE(is_sent_away(fd)) << "offer " << i;
        ::close(fd);
    }
    for (const int fd : {doorbell[0], doorbell[1], pipe_ends[0], pipe_ends[1], null, unsealed}) {
        ::close(fd);
    }
    expect_service();
}

TEST_F(RendezvousTest, OffersOfWrongShapesAreSentAway) {
    std::string error;
    const auto segment = Segment::create(kShape, error);
    ASSERT_NE(segment, nullptr) << error;
    int doorbell[2];
    ASSERT_TRUE(make_doorbell(doorbell));
    for (const SegmentShape shape :
         {SegmentShape{0, 0}, SegmentShape{512, 256U << 10}, SegmentShape{256, 512U << 10},
          SegmentShape{0xFFFFFFFF, 1}, SegmentShape{255, 256U << 10}}) {
        const int fd = knock();
        ASSERT_NO_FATAL_FAILURE(introduce(fd));
        ControlMessage offer = message_of(MessageKind::kOffer);
        offer.ring_slots = shape.ring_slots;
        offer.staging_bytes = shape.staging_bytes;
        const int fds[2] = {segment->fd(), doorbell[1]};
        ASSERT_EQ(send_message(fd, offer, fds, 2), 1);
        EXPECT_TRUE(is_sent_away(fd)) << shape.ring_slots;
        ::close(fd);
    }
    ::close(doorbell[0]);
    ::close(doorbell[1]);
    expect_service();
}

TEST_F(RendezvousTest, RandomMessagesHarmNobody) {
    std::mt19937 random(8);
    for (int round = 0; round < 300; ++round) {
        const int fd = knock();
        if (round % 2 == 0) {
            ASSERT_NO_FATAL_FAILURE(introduce(fd));
        }
        for (int n = 0; n < 5; ++n) {
            ControlMessage message;
            auto* bytes = reinterpret_cast<unsigned char*>(&message);
            for (std::size_t i = 8; i < sizeof(message); ++i) {
                bytes[i] = static_cast<unsigned char>(random());
            }
            message.kind = static_cast<MessageKind>(random() % 9);
            message.data_length = random() % 300;
            (void)send_message(fd, message, nullptr, 0);
        }
        ::close(fd);
    }
    expect_service();
}

TEST_F(RendezvousTest, ItIsSaidWhoWasSentAwayAndWhatWasRead) {
    const auto log_of = [this](auto say) {
        testing::internal::CaptureStderr();
        const int fd = knock();
        say(fd);
        EXPECT_TRUE(is_sent_away(fd));
        ::close(fd);
        return testing::internal::GetCapturedStderr();
    };
    const std::string who = "process " + std::to_string(::getpid()) + " ";
    const std::string other = log_of([](int fd) { ASSERT_EQ(::send(fd, "GET /", 5, 0), 5); });
    EXPECT_NE(other.find(who), std::string::npos) << other;
    EXPECT_NE(other.find("5 bytes"), std::string::npos) << other;
    const std::string newer = log_of([](int fd) {
        ControlMessage message = message_of(MessageKind::kHello);
        message.version = ControlMessage::kVersion + 1;
        ASSERT_EQ(send_message(fd, message, nullptr, 0), 1);
    });
    EXPECT_NE(newer.find(who), std::string::npos) << newer;
    EXPECT_NE(newer.find("version " + std::to_string(ControlMessage::kVersion + 1)),
              std::string::npos)
        << newer;
    const std::string early = log_of([](int fd) {
        ASSERT_EQ(send_message(fd, message_of(MessageKind::kConnect), nullptr, 0), 1);
    });
    EXPECT_NE(early.find("out of order"), std::string::npos) << early;
    // Who just leaves is no news.
    testing::internal::CaptureStderr();
    ::close(knock());
    expect_service();
    EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

TEST_F(RendezvousTest, ManyThatNeverSpeakHoldUpNobody) {
    std::vector<int> silent;
    for (int i = 0; i < 300; ++i) {
        silent.push_back(knock());
    }
    expect_service();
    for (const int fd : silent) {
        ::close(fd);
    }
    expect_service();
}

TEST_F(RendezvousTest, DescriptorsOfThoseSentAwayAreClosed) {
    const auto open_descriptors = [] {
        int count = 0;
        for (int fd = 0; fd < 1024; ++fd) {
            count += ::fcntl(fd, F_GETFD) >= 0 ? 1 : 0;
        }
        return count;
    };
    expect_service();
    const int before = open_descriptors();
    const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int i = 0; i < 20; ++i) {
        for (const MessageKind kind : {MessageKind::kHello, MessageKind::kConnect}) {
            const int fd = knock();
            const int fds[2] = {null, null};
            ASSERT_EQ(send_message(fd, message_of(kind), fds, 2), 1);
            EXPECT_TRUE(is_sent_away(fd));
            ::close(fd);
        }
    }
    ::close(null);
    EXPECT_TRUE(tests::eventually([&] { return open_descriptors() == before; }));
}

TEST(Rendezvous, SocketsOfOneUserKnowEachOther) {
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    std::uint32_t uid = ~0U;
    EXPECT_TRUE(same_user(ends[0], uid));
    EXPECT_EQ(uid, ::geteuid());
    ::close(ends[0]);
    ::close(ends[1]);
    EXPECT_FALSE(same_user(-1, uid));
}

TEST(Rendezvous, TheProcessAtTheOtherEndIsTold) {
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    EXPECT_EQ(peer_process(ends[0]), ::getpid());
    ::close(ends[0]);
    ::close(ends[1]);
    EXPECT_EQ(peer_process(-1), 0);
}

TEST(Rendezvous, ADoorbellIsADatagramSocketAndNothingElse) {
    int ends[2];
    ASSERT_TRUE(make_doorbell(ends));
    EXPECT_TRUE(is_doorbell(ends[0]));
    EXPECT_TRUE(is_doorbell(ends[1]));
    ::close(ends[0]);
    ::close(ends[1]);
    EXPECT_FALSE(is_doorbell(ends[0]));
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    EXPECT_FALSE(is_doorbell(ends[0]));
    ::close(ends[0]);
    ::close(ends[1]);
}

TEST(Rendezvous, ANameIsTakenOnceAndFreeAgain) {
    const Address at = EngineBench::fresh_address();
    const int fd = bind_rendezvous(at);
    ASSERT_GE(fd, 0);
    EXPECT_EQ(bind_rendezvous(at), -EADDRINUSE);
    ::close(fd);
    EXPECT_EQ(connect_rendezvous(at), -ECONNREFUSED);
    const int again = bind_rendezvous(at);
    EXPECT_GE(again, 0);
    ::close(again);
}

}  // namespace
}  // namespace sanpoll::engine::shm
