// WSPSend and WSPRecv: messages.
#include <algorithm>
#include <cstring>
#include <deque>
#include <numeric>

#include "tests/provider/provider_fixture.hpp"

namespace sanpoll::test {
namespace {

constexpr std::size_t kLargest = 16U << 20;  // SANPOLL_MAX_MESSAGE's default

void fill(char* to, std::size_t length, std::uint32_t seed) {
    for (std::size_t i = 0; i < length; ++i) {
        seed = seed * 1664525U + 1013904223U;
        to[i] = static_cast<char>(seed >> 24);
    }
}

class TransferTest : public ProviderTest {
protected:
    void SetUp() override {
        ProviderTest::SetUp();
        pair = connected();
        from = &pair.client;
        to = &pair.server;
    }
    int send(std::size_t offset, std::size_t length, LPWSAOVERLAPPED operation) {
        return san.send(from->s, from->at(offset), length, operation);
    }
    int recv(std::size_t offset, std::size_t length, LPWSAOVERLAPPED operation) {
        return san.recv(to->s, to->at(offset), length, operation);
    }
    /// A message of that length from one end's memory to the other's.
    void expect_length(std::size_t length) {
        fill(from->at(0), length, static_cast<std::uint32_t>(length));
        std::memset(to->at(0), 0x55, to->memory.size());
        Polled receive;
        Polled sent;
        ASSERT_EQ(recv(0, to->memory.size(), &receive), WSA_IO_PENDING);
        ASSERT_EQ(send(0, length, &sent), WSA_IO_PENDING);
        const Result received = san.finish(to->s, &receive);
        EXPECT_EQ(received.error, 0);
        EXPECT_EQ(received.bytes, length);
        EXPECT_EQ(received.flags, 0U);
        EXPECT_EQ(std::memcmp(from->at(0), to->at(0), length), 0) << length;
        EXPECT_TRUE(std::all_of(to->memory.begin() + static_cast<std::ptrdiff_t>(length),
                                to->memory.end(), [](char c) { return c == 0x55; }))
            << "written beyond the message";
        const Result done = san.finish(from->s, &sent);
        EXPECT_EQ(done.error, 0);
        EXPECT_EQ(done.bytes, length);
    }

    Pair pair;
    End* from = nullptr;
    End* to = nullptr;
};

TEST_F(TransferTest, EveryShortLengthArrivesWhole) {
    for (std::size_t length = 0; length <= 600; ++length) {
        expect_length(length);
    }
}

TEST_F(TransferTest, LengthsAroundEveryThresholdArriveWhole) {
    for (const std::size_t middle : {1024U, 2048U, 4096U, 8192U, 16384U, 32768U, 65520U}) {
        for (std::size_t length = middle - 15; length <= middle + 15; ++length) {
            expect_length(length);
        }
    }
}

TEST_F(TransferTest, BothDirectionsCarryMessages) {
    expect_delivery(pair.client, pair.server, "from the client");
    expect_delivery(pair.server, pair.client, "from the server");
}

TEST_F(TransferTest, MessagesAreNeitherMergedNorSplit) {
    const std::vector<std::size_t> lengths{1, 100, 0, 7, 4000, 1, 1, 20000, 3, 0, 0, 300};
    std::deque<Polled> receives(lengths.size());
    std::deque<Polled> sends(lengths.size());
    for (Polled& receive : receives) {
        ASSERT_EQ(recv(0, 20000, &receive), WSA_IO_PENDING);
    }
    for (std::size_t i = 0; i < lengths.size(); ++i) {
        ASSERT_EQ(send(0, lengths[i], &sends[i]), WSA_IO_PENDING);
    }
    for (std::size_t i = 0; i < lengths.size(); ++i) {
        EXPECT_EQ(san.finish(to->s, &receives[i]).bytes, lengths[i]) << i;
        EXPECT_EQ(san.finish(from->s, &sends[i]).bytes, lengths[i]) << i;
    }
}

TEST_F(TransferTest, ReceivesAreFilledInTheOrderOfPosting) {
    constexpr std::size_t kCount = 200;
    std::deque<Polled> receives(kCount);
    std::deque<Polled> sends(kCount);
    for (std::size_t i = 0; i < kCount; ++i) {
        ASSERT_EQ(patiently([&] { return recv(i * 8, 8, &receives[i]); }), WSA_IO_PENDING);
    }
    for (std::size_t i = 0; i < kCount; ++i) {
        std::memcpy(from->at(i * 8), &i, sizeof(i));
        ASSERT_EQ(patiently([&] { return send(i * 8, 8, &sends[i]); }), WSA_IO_PENDING);
    }
    for (std::size_t i = 0; i < kCount; ++i) {
        EXPECT_EQ(san.finish(to->s, &receives[i]).error, 0);
        std::size_t number = 0;
        std::memcpy(&number, to->at(i * 8), sizeof(number));
        EXPECT_EQ(number, i);
        EXPECT_EQ(san.finish(from->s, &sends[i]).error, 0);
    }
}

TEST_F(TransferTest, ManySendsWithoutAnyReceiveWaitInOrder) {
    constexpr std::size_t kCount = 1000;  // far more than may travel unasked
    std::deque<Polled> sends(kCount);
    for (std::size_t i = 0; i < kCount; ++i) {
        std::memcpy(from->at(i * 8), &i, sizeof(i));
        ASSERT_EQ(patiently([&] { return send(i * 8, 8, &sends[i]); }), WSA_IO_PENDING);
    }
    for (std::size_t i = 0; i < kCount; ++i) {
        Polled receive;
        ASSERT_EQ(patiently([&] { return recv(0, 64, &receive); }), WSA_IO_PENDING);
        ASSERT_EQ(san.finish(to->s, &receive).error, 0);
        std::size_t number = 0;
        std::memcpy(&number, to->at(0), sizeof(number));
        ASSERT_EQ(number, i);
    }
    for (Polled& sent : sends) {
        EXPECT_EQ(san.finish(from->s, &sent).error, 0);
    }
}

TEST_F(TransferTest, ManyReceivesMayBeOutstanding) {
    constexpr std::size_t kCount = 1000;
    std::deque<Polled> receives(kCount);
    for (Polled& receive : receives) {
        ASSERT_EQ(patiently([&] { return recv(0, 64, &receive); }), WSA_IO_PENDING);
    }
    for (std::size_t i = 0; i < kCount; ++i) {
        Polled sent;
        ASSERT_EQ(send(0, i % 64, &sent), WSA_IO_PENDING);
        ASSERT_EQ(san.finish(from->s, &sent).error, 0);
        ASSERT_EQ(san.finish(to->s, &receives[i]).bytes, i % 64);
    }
}

TEST_F(TransferTest, TooManyOutstandingReceivesWouldBlock) {  // project decision: a high limit
    stop();
    const Knobs few{{"queue_depth", "64"}};
    set_knobs(few);
    ASSERT_EQ(san.start(), 0);
    unset_knobs(few);
    pair = connected();
    std::deque<Polled> receives(100000);
    int error = WSA_IO_PENDING;
    std::size_t posted = 0;
    for (; posted < receives.size() && error == WSA_IO_PENDING; ++posted) {
        error = san.recv(pair.server.s, pair.server.at(0), 8, &receives[posted]);
    }
    EXPECT_TRUE(error == WSAEWOULDBLOCK || error == WSAENOBUFS) << error;
    EXPECT_GE(posted, 65U);
    stop();
}

TEST_F(TransferTest, TheFirstMessageMayComeBeforeAnyReceive) {
    const std::string message(256, 'n');
    message.copy(from->at(0), message.size());
    Polled sent;
    ASSERT_EQ(send(0, message.size(), &sent), WSA_IO_PENDING);
    EXPECT_EQ(san.finish(from->s, &sent).error, 0);  // buffered: it need not wait for the receive
    std::deque<Polled> receives(3);
    for (std::size_t i = 0; i < receives.size(); ++i) {
        ASSERT_EQ(recv(i * 256, 256, &receives[i]), WSA_IO_PENDING);
    }
    EXPECT_EQ(san.finish(to->s, &receives[0]).bytes, 256U);
    EXPECT_EQ(std::string(to->at(0), 256), message);
    EXPECT_EQ(san.overlapped_result(to->s, &receives[1], 0).error, WSA_IO_INCOMPLETE);
    Polled second;
    ASSERT_EQ(send(0, 10, &second), WSA_IO_PENDING);
    EXPECT_EQ(san.finish(to->s, &receives[1]).bytes, 10U);
    Polled third;
    ASSERT_EQ(send(0, 11, &third), WSA_IO_PENDING);
    EXPECT_EQ(san.finish(to->s, &receives[2]).bytes, 11U);
}

TEST_F(TransferTest, EarlyMessagesGoToLaterReceivesOldestFirst) {
    std::deque<Polled> sends(4);
    for (std::size_t i = 0; i < sends.size(); ++i) {
        *from->at(i) = static_cast<char>('a' + i);
        ASSERT_EQ(send(i, 1, &sends[i]), WSA_IO_PENDING);
    }
    for (std::size_t i = 0; i < sends.size(); ++i) {
        Polled receive;
        ASSERT_EQ(recv(0, 64, &receive), WSA_IO_PENDING);
        EXPECT_EQ(san.finish(to->s, &receive).bytes, 1U);
        EXPECT_EQ(*to->at(0), static_cast<char>('a' + i));
    }
}

TEST_F(TransferTest, ALongMessageMayComeBeforeItsReceive) {
    fill(from->at(0), 60000, 1);
    Polled sent;
    ASSERT_EQ(send(0, 60000, &sent), WSA_IO_PENDING);
    let_time_pass();
    Polled receive;
    ASSERT_EQ(recv(0, 65536, &receive), WSA_IO_PENDING);
    EXPECT_EQ(san.finish(to->s, &receive).bytes, 60000U);
    EXPECT_EQ(std::memcmp(from->at(0), to->at(0), 60000), 0);
    EXPECT_EQ(san.finish(from->s, &sent).error, 0);
}

TEST_F(TransferTest, SendersBuffersMayBeReusedAfterCompletion) {
    std::deque<Polled> receives(50);
    for (std::size_t i = 0; i < receives.size(); ++i) {
        ASSERT_EQ(recv(i * 1000, 1000, &receives[i]), WSA_IO_PENDING);
    }
    for (std::size_t i = 0; i < receives.size(); ++i) {
        std::memset(from->at(0), static_cast<int>(i + 1), 1000);
        Polled sent;
        ASSERT_EQ(send(0, 1000, &sent), WSA_IO_PENDING);
        ASSERT_EQ(san.finish(from->s, &sent).error, 0);
    }
    for (std::size_t i = 0; i < receives.size(); ++i) {
        ASSERT_EQ(san.finish(to->s, &receives[i]).error, 0);
        EXPECT_EQ(*to->at(i * 1000), static_cast<char>(i + 1));
        EXPECT_EQ(*to->at(i * 1000 + 999), static_cast<char>(i + 1));
    }
}

// ---- too short a receive ------------------------------------------------------------------------------

class ShortReceiveTest : public TransferTest, public testing::WithParamInterface<std::size_t> {};

TEST_P(ShortReceiveTest, CompletesWithMessageSizeAndKeepsTheMessage) {  // project decision
    const std::size_t length = GetParam();
    fill(from->at(0), length, 3);
    std::deque<Polled> receives(3);
    ASSERT_EQ(recv(0, length - 1, &receives[0]), WSA_IO_PENDING);
    ASSERT_EQ(recv(0, 1, &receives[1]), WSA_IO_PENDING);
    ASSERT_EQ(recv(0, length, &receives[2]), WSA_IO_PENDING);
    Polled sent;
    ASSERT_EQ(send(0, length, &sent), WSA_IO_PENDING);
    EXPECT_EQ(san.finish(to->s, &receives[0]).error, WSAEMSGSIZE);
    EXPECT_EQ(san.finish(to->s, &receives[1]).error, WSAEMSGSIZE);
    const Result received = san.finish(to->s, &receives[2]);
    EXPECT_EQ(received.error, 0);
    EXPECT_EQ(received.bytes, length);
    EXPECT_EQ(std::memcmp(from->at(0), to->at(0), length), 0);
    EXPECT_EQ(san.finish(from->s, &sent).error, 0);
    // And the connection goes on, in order.
    for (int i = 0; i < 100; ++i) {
        expect_delivery(*from, *to, "message " + std::to_string(i));
    }
}

TEST_P(ShortReceiveTest, AMessageThatWaitedIsKeptAsWell) {  // project decision
    const std::size_t length = GetParam();
    fill(from->at(0), length, 4);
    Polled sent;
    ASSERT_EQ(send(0, length, &sent), WSA_IO_PENDING);
    for (int i = 0; i < 40; ++i) {
        Polled receive;
        ASSERT_EQ(recv(0, 1, &receive), WSA_IO_PENDING);
        EXPECT_EQ(san.finish(to->s, &receive).error, WSAEMSGSIZE);
    }
    Polled receive;
    ASSERT_EQ(recv(0, 65536, &receive), WSA_IO_PENDING);
    EXPECT_EQ(san.finish(to->s, &receive).bytes, length);
    EXPECT_EQ(std::memcmp(from->at(0), to->at(0), length), 0);
    for (int i = 0; i < 100; ++i) {
        expect_delivery(*from, *to, "message " + std::to_string(i));
    }
}

INSTANTIATE_TEST_SUITE_P(Lengths, ShortReceiveTest, testing::Values(2, 200, 5000, 60000));

// ---- large messages -----------------------------------------------------------------------------------

class LargeMessageTest : public TransferTest {
protected:
    void SetUp() override {
        ProviderTest::SetUp();
        pair = connected(kLargest);
        from = &pair.client;
        to = &pair.server;
    }
};

TEST_F(LargeMessageTest, LengthsUpToTheMaximumArriveWhole) {
    for (const std::size_t length : {std::size_t{100000}, std::size_t{1} << 20,
                                     (std::size_t{2} << 20) + 1, kLargest - 1, kLargest}) {
        expect_length(length);
    }
}

TEST_F(LargeMessageTest, LargeOnesBothWaysAtOnceArriveWhole) {
    constexpr std::size_t kHalf = kLargest / 2;
    fill(from->at(0), kHalf, 5);
    fill(to->at(0), kHalf, 6);
    Polled receive_there;
    Polled receive_here;
    Polled send_here;
    Polled send_there;
    ASSERT_EQ(san.recv(to->s, to->at(kHalf), kHalf, &receive_there), WSA_IO_PENDING);
    ASSERT_EQ(san.recv(from->s, from->at(kHalf), kHalf, &receive_here), WSA_IO_PENDING);
    ASSERT_EQ(san.send(from->s, from->at(0), kHalf, &send_here), WSA_IO_PENDING);
    ASSERT_EQ(san.send(to->s, to->at(0), kHalf, &send_there), WSA_IO_PENDING);
    EXPECT_EQ(san.finish(to->s, &receive_there).bytes, kHalf);
    EXPECT_EQ(san.finish(from->s, &receive_here).bytes, kHalf);
    EXPECT_EQ(san.finish(from->s, &send_here).error, 0);
    EXPECT_EQ(san.finish(to->s, &send_there).error, 0);
    EXPECT_EQ(std::memcmp(from->at(0), to->at(kHalf), kHalf), 0);
    EXPECT_EQ(std::memcmp(to->at(0), from->at(kHalf), kHalf), 0);
}

TEST_F(LargeMessageTest, SmallOnesKeepTheirPlaceBetweenLargeOnes) {
    const std::vector<std::size_t> lengths{10, 3000000, 20, 0, 500000, 30, 100000, 40};
    std::deque<Polled> receives(lengths.size());
    std::deque<Polled> sends(lengths.size());
    for (std::size_t i = 0; i < lengths.size(); ++i) {
        ASSERT_EQ(recv(i * 3000000 % 6000000, 3000000, &receives[i]), WSA_IO_PENDING);
        ASSERT_EQ(send(0, lengths[i], &sends[i]), WSA_IO_PENDING);
    }
    for (std::size_t i = 0; i < lengths.size(); ++i) {
        EXPECT_EQ(san.finish(to->s, &receives[i]).bytes, lengths[i]);
        EXPECT_EQ(san.finish(from->s, &sends[i]).bytes, lengths[i]);
    }
}

// ---- gather and scatter -------------------------------------------------------------------------------

class GatherTest : public TransferTest, public testing::WithParamInterface<std::size_t> {};

TEST_P(GatherTest, PiecesAreGatheredAndScatteredInOrderWithoutHoles) {
    const std::size_t piece = GetParam();
    for (DWORD out = 1; out <= 8; ++out) {
        for (DWORD in = 1; in <= 8; ++in) {
            std::string expected;
            WSABUF sources[8];
            for (DWORD i = 0; i < out; ++i) {
                const std::size_t length = piece + i * 3;
                sources[i] = {static_cast<ULONG>(length), from->at(i * 4096 + i)};
                fill(sources[i].buf, length, i + 1);
                expected.append(sources[i].buf, length);
            }
            WSABUF targets[8];
            std::size_t room = 0;
            for (DWORD i = 0; i < in; ++i) {
                const std::size_t length =
                    i + 1 < in ? expected.size() / in : expected.size() - room;
                targets[i] = {static_cast<ULONG>(length), to->at(room + 5 * i)};
                room += length;
            }
            Polled receive;
            Polled sent;
            ASSERT_EQ(san.recv_list(to->s, targets, in, &receive), WSA_IO_PENDING);
            ASSERT_EQ(san.send_list(from->s, sources, out, &sent), WSA_IO_PENDING);
            EXPECT_EQ(san.finish(to->s, &receive).bytes, expected.size());
            EXPECT_EQ(san.finish(from->s, &sent).error, 0);
            std::string arrived;
            for (DWORD i = 0; i < in; ++i) {
                arrived.append(targets[i].buf, targets[i].len);
            }
            ASSERT_TRUE(arrived == expected) << out << " pieces into " << in;
        }
    }
}

TEST_P(GatherTest, PiecesThatHaveToWaitKeepTheirOrder) {
    const std::size_t piece = GetParam();
    constexpr std::size_t kCount = 40;
    std::deque<Polled> sends(kCount);
    std::string expected;
    WSABUF sources[8];
    for (DWORD i = 0; i < 8; ++i) {
        sources[i] = {static_cast<ULONG>(piece), from->at(i * 4096)};
        fill(sources[i].buf, piece, i + 1);
        expected.append(sources[i].buf, piece);
    }
    for (std::size_t i = 0; i < kCount; ++i) {
        ASSERT_EQ(san.send_list(from->s, sources, static_cast<DWORD>(i % 8 + 1), &sends[i]),
                  WSA_IO_PENDING);
    }
    for (std::size_t i = 0; i < kCount; ++i) {
        Polled receive;
        ASSERT_EQ(recv(0, 65536, &receive), WSA_IO_PENDING);
        const std::size_t length = piece * (i % 8 + 1);
        ASSERT_EQ(san.finish(to->s, &receive).bytes, length);
        ASSERT_EQ(std::memcmp(to->at(0), expected.data(), length), 0);
    }
}

INSTANTIATE_TEST_SUITE_P(PieceLengths, GatherTest, testing::Values(1, 10, 300, 3000, 4000));

TEST_F(TransferTest, EmptyPiecesAreAllowedAmongOthers) {  // project decision
    WSABUF sources[3] = {{0, nullptr}, {5, from->at(0)}, {0, from->at(9)}};
    std::memcpy(from->at(0), "hello", 5);
    WSABUF targets[3] = {{2, to->at(0)}, {0, nullptr}, {3, to->at(10)}};
    Polled receive;
    Polled sent;
    ASSERT_EQ(san.recv_list(to->s, targets, 3, &receive), WSA_IO_PENDING);
    ASSERT_EQ(san.send_list(from->s, sources, 3, &sent), WSA_IO_PENDING);
    EXPECT_EQ(san.finish(to->s, &receive).bytes, 5U);
    EXPECT_EQ(std::string(to->at(0), 2) + std::string(to->at(10), 3), "hello");
}

TEST_F(TransferTest, NoBuffersAreAMessageOfLengthZero) {  // project decision
    Polled receive;
    Polled sent;
    ASSERT_EQ(san.recv_list(to->s, nullptr, 0, &receive), WSA_IO_PENDING);
    ASSERT_EQ(san.send_list(from->s, nullptr, 0, &sent), WSA_IO_PENDING);
    const Result received = san.finish(to->s, &receive);
    EXPECT_EQ(received.error, 0);
    EXPECT_EQ(received.bytes, 0U);
    EXPECT_EQ(san.finish(from->s, &sent).error, 0);
}

TEST_F(TransferTest, TheBufferListIsCapturedByTheCall) {
    WSABUF targets[3] = {{1, to->at(0)}, {1, to->at(1)}, {1, to->at(2)}};
    Polled receive;
    ASSERT_EQ(san.recv_list(to->s, targets, 3, &receive), WSA_IO_PENDING);
    std::memset(static_cast<void*>(targets), 0xFF, sizeof(targets));
    std::memcpy(from->at(0), "abc", 3);
    Polled sent;
    ASSERT_EQ(send(0, 3, &sent), WSA_IO_PENDING);
    EXPECT_EQ(san.finish(to->s, &receive).bytes, 3U);
    EXPECT_EQ(std::string(to->at(0), 3), "abc");
}

}  // namespace
}  // namespace sanpoll::test
