// WSPSend and WSPRecv: sections 6 and 8.
#include <algorithm>
#include <cstring>

#include "tests/conformance/conformance_fixture.hpp"

namespace sanpoll::conformance {
namespace {

class TransferTest : public PairTest {};

// [R1.1 R8.1 R8.2 R20.8 R7.1]
TEST_F(TransferTest, MessagesKeepTheirBoundariesAndOrder) {
    const std::size_t lengths[] = {1, 0, 63, 64, 65, 200, 1000, 4096, 2, 20000, 0, 7};
    std::deque<Polled> receives(std::size(lengths));
    std::size_t at = 0;
    for (std::size_t i = 0; i < std::size(lengths); ++i) {
        // Room for more than the message: what is not sent must not be counted.
        ASSERT_EQ(recv(pair.server, &receives[i], lengths[i] + 100, at), WSA_IO_PENDING);
        at += lengths[i] + 100;
    }
    for (std::size_t i = 0; i < std::size(lengths); ++i) {
        std::memset(pair.client.at(0), static_cast<int>('a' + i), lengths[i]);
        Polled operation;
        ASSERT_EQ(send(pair.client, &operation, lengths[i]), WSA_IO_PENDING);
        EXPECT_EQ(san.finish(pair.client.s, &operation).bytes, lengths[i]);
    }
    at = 0;
    for (std::size_t i = 0; i < std::size(lengths); ++i) {
        const Result result = san.finish(pair.server.s, &receives[i]);
        EXPECT_EQ(result.error, 0);
        ASSERT_EQ(result.bytes, lengths[i]) << i;
        EXPECT_EQ(std::string(pair.server.at(at), lengths[i]),
                  std::string(lengths[i], static_cast<char>('a' + i)));
        // [R8.3] nothing behind the message
        EXPECT_EQ(std::string(pair.server.at(at + lengths[i]), 100), std::string(100, '\0'));
        at += lengths[i] + 100;
    }
}

// [R8.3]
TEST_F(TransferTest, NothingIsWrittenBesideTheMessage) {
    for (const std::size_t length : {0U, 1U, 63U, 64U, 500U, 5000U, 20000U}) {
        std::memset(pair.server.at(0), '#', pair.server.memory.size());
        std::memset(pair.client.at(0), 'm', length);
        Polled receive;
        Polled operation;
        ASSERT_EQ(recv(pair.server, &receive, length + 50, 100), WSA_IO_PENDING);
        ASSERT_EQ(send(pair.client, &operation, length), WSA_IO_PENDING);
        ASSERT_EQ(san.finish(pair.server.s, &receive).bytes, length);
        ASSERT_EQ(san.finish(pair.client.s, &operation).error, 0);
        EXPECT_EQ(std::count(pair.server.memory.begin(), pair.server.memory.end(), 'm'),
                  static_cast<std::ptrdiff_t>(length));
        EXPECT_EQ(std::string(pair.server.at(0), 100), std::string(100, '#'));
        EXPECT_EQ(std::string(pair.server.at(100), length), std::string(length, 'm'));
        EXPECT_EQ(std::string(pair.server.at(100 + length), 50), std::string(50, '#'));
    }
}

// [R8.4 R8.7]
TEST_F(TransferTest, ReceivesAreRepostedWithoutEnd) {
    for (int i = 0; i < 3000; ++i) {
        const std::string message = std::to_string(i);
        send_now(pair.client, message);
        ASSERT_EQ(receive_now(pair.server, 16), message);
    }
}

// [R8.5 F.WSPSend.3 F.WSPRecv.2 R20.8]
TEST_F(TransferTest, ListsAreGatheredAndScatteredWithoutHoles) {
    const std::string message = "The quick brown fox jumps over the lazy dog";
    message.copy(pair.client.at(0), 10);
    message.copy(pair.client.at(1000), 1, 10);
    message.copy(pair.client.at(3000), std::string::npos, 11);
    WSABUF gather[] = {{10, pair.client.at(0)},
                       {0, pair.client.at(500)},
                       {1, pair.client.at(1000)},
                       {static_cast<ULONG>(message.size() - 11), pair.client.at(3000)}};
    WSABUF scatter[] = {{3, pair.server.at(100)},
                        {0, nullptr},
                        {20, pair.server.at(200)},
                        {100, pair.server.at(300)}};
    Polled receive;
    Polled operation;
    ASSERT_EQ(san.recv_list(pair.server.s, scatter, 4, &receive), WSA_IO_PENDING);
    ASSERT_EQ(san.send_list(pair.client.s, gather, 4, &operation), WSA_IO_PENDING);
    EXPECT_EQ(san.finish(pair.client.s, &operation).bytes, message.size());
    EXPECT_EQ(san.finish(pair.server.s, &receive).bytes, message.size());
    EXPECT_EQ(std::string(pair.server.at(100), 3), message.substr(0, 3));
    EXPECT_EQ(*pair.server.at(103), '\0');
    EXPECT_EQ(std::string(pair.server.at(200), 20), message.substr(3, 20));
    EXPECT_EQ(std::string(pair.server.at(300)), message.substr(23));
}

// [F.WSPSend.1 B2]
TEST_F(TransferTest, TheListOfBuffersIsCapturedByTheCall) {  // project decision
    std::memcpy(pair.client.at(0), "captured", 8);
    WSABUF in{64, pair.server.at(0)};
    WSABUF out{8, pair.client.at(0)};
    Polled receive;
    Polled operation;
    ASSERT_EQ(san.recv_list(pair.server.s, &in, 1, &receive), WSA_IO_PENDING);
    in = {0, nullptr};
    ASSERT_EQ(san.send_list(pair.client.s, &out, 1, &operation), WSA_IO_PENDING);
    out = {0, nullptr};
    EXPECT_EQ(san.finish(pair.server.s, &receive).bytes, 8U);
    EXPECT_EQ(std::string(pair.server.at(0)), "captured");
    EXPECT_EQ(san.finish(pair.client.s, &operation).error, 0);
}

// [F.WSPSend.2]
TEST_F(TransferTest, AfterCompletionTheSendersBufferMayBeUsedAgain) {
    std::deque<Polled> receives(20);
    for (std::size_t i = 0; i < receives.size(); ++i) {
        ASSERT_EQ(recv(pair.server, &receives[i], 300, i * 300), WSA_IO_PENDING);
    }
    for (std::size_t i = 0; i < receives.size(); ++i) {
        std::memset(pair.client.at(0), static_cast<int>('a' + i), 300);
        Polled operation;
        ASSERT_EQ(send(pair.client, &operation, 300), WSA_IO_PENDING);
        ASSERT_EQ(san.finish(pair.client.s, &operation).error, 0);
    }
    for (std::size_t i = 0; i < receives.size(); ++i) {
        ASSERT_EQ(san.finish(pair.server.s, &receives[i]).bytes, 300U);
        EXPECT_EQ(std::string(pair.server.at(i * 300), 300),
                  std::string(300, static_cast<char>('a' + i)));
    }
}

// [F.WSPRecv.1 R19.1 B19 R20.8]
TEST_F(TransferTest, ManyReceivesAreFilledInTheOrderOfPosting) {
    constexpr std::size_t kCount = 64;  // at least that many each direction: project decision
    std::deque<Polled> receives(kCount);
    std::deque<Polled> sends(kCount);
    for (std::size_t i = 0; i < kCount; ++i) {
        ASSERT_EQ(recv(pair.server, &receives[i], 64, i * 64), WSA_IO_PENDING);
    }
    for (std::size_t i = 0; i < kCount; ++i) {
        *pair.client.at(i) = static_cast<char>(i);
        ASSERT_EQ(send(pair.client, &sends[i], 1, i), WSA_IO_PENDING);
    }
    for (std::size_t i = 0; i < kCount; ++i) {
        EXPECT_EQ(san.finish(pair.server.s, &receives[i]).bytes, 1U);
        EXPECT_EQ(*pair.server.at(i * 64), static_cast<char>(i));
        EXPECT_EQ(san.finish(pair.client.s, &sends[i]).bytes, 1U);
    }
}

// [F.WSPSend.WSAEWOULDBLOCK F.WSPRecv.WSAEWOULDBLOCK B19]
TEST_F(TransferTest, FarTooManyOutstandingWouldBlock) {  // project decision
    std::deque<Polled> receives;
    std::deque<Polled> sends;
    int error = WSA_IO_PENDING;
    while (error == WSA_IO_PENDING && receives.size() < 1'000'000) {
        error = recv(pair.server, &receives.emplace_back(), 0);
    }
    EXPECT_TRUE(error == WSAEWOULDBLOCK || error == WSAENOBUFS) << error;
    EXPECT_GT(receives.size(), 64U);
    EXPECT_NE(receives.back().Internal, kInProgress);
    error = WSA_IO_PENDING;
    while (error == WSA_IO_PENDING && sends.size() < 1'000'000) {
        error = send(pair.server, &sends.emplace_back(), 20000);
    }
    EXPECT_TRUE(error == WSAEWOULDBLOCK || error == WSAENOBUFS) << error;
    EXPECT_GT(sends.size(), 64U);
    EXPECT_EQ(san.close(pair.server.s), 0);
}

// [C8 R8.1]
TEST_F(TransferTest, MessagesOfLengthZeroAreMessages) {  // project decision
    Polled receive;
    Polled with_null;
    Polled without_buffers;
    Polled receive_without_buffers;
    ASSERT_EQ(recv(pair.server, &receive, 64), WSA_IO_PENDING);
    ASSERT_EQ(san.recv_list(pair.server.s, nullptr, 0, &receive_without_buffers), WSA_IO_PENDING);
    ASSERT_EQ(san.send(pair.client.s, nullptr, 0, &with_null), WSA_IO_PENDING);
    ASSERT_EQ(san.send_list(pair.client.s, nullptr, 0, &without_buffers), WSA_IO_PENDING);
    for (Polled* operation : {&receive, &receive_without_buffers}) {
        const Result result = san.finish(pair.server.s, operation);
        EXPECT_EQ(result.error, 0);
        EXPECT_EQ(result.bytes, 0U);
    }
    EXPECT_EQ(san.finish(pair.client.s, &with_null).error, 0);
    EXPECT_EQ(san.finish(pair.client.s, &without_buffers).error, 0);
}

// [R10.15 F.WSPRecv.WSAEMSGSIZE B28]
TEST_F(TransferTest, AMessageThatDoesNotFitIsKeptForALargerReceive) {  // project decision
    std::memset(pair.server.at(0), '#', 200);
    Polled small;
    ASSERT_EQ(recv(pair.server, &small, 4), WSA_IO_PENDING);
    send_now(pair.client, "longer than four");
    send_now(pair.client, "next");
    EXPECT_EQ(san.finish(pair.server.s, &small).error, WSAEMSGSIZE);
    EXPECT_EQ(std::string(pair.server.at(4), 100), std::string(100, '#'));
    EXPECT_EQ(receive_now(pair.server), "longer than four");
    EXPECT_EQ(receive_now(pair.server), "next");
}

// [F.WSPSend.4 F.WSPSend.WSAEMSGSIZE R20.8]
TEST_F(TransferTest, AMessageLongerThanTheMaximumIsNotSent) {
    stop();
    Knobs small = knobs();
    small.emplace_back("max_message", "65536");
    test::set_knobs(small);
    ASSERT_EQ(san.start(), 0);
    test::unset_knobs(small);
    Pair other = connected(200000);
    Polled operation;
    operation.Internal = 4711;
    EXPECT_EQ(send(other.client, &operation, 65537), WSAEMSGSIZE);
    WSABUF list[] = {{65536, other.client.at(0)}, {1, other.client.at(0)}};
    EXPECT_EQ(san.send_list(other.client.s, list, 2, &operation), WSAEMSGSIZE);
    list[0].len = list[1].len = 0x80000000U;  // 0 in 32 bits
    EXPECT_EQ(san.send_list(other.client.s, list, 2, &operation), WSAEMSGSIZE);
    EXPECT_EQ(operation.Internal, 4711U);
    Polled receive;
    ASSERT_EQ(recv(other.server, &receive, 70000), WSA_IO_PENDING);
    ASSERT_EQ(send(other.client, &operation, 65536), WSA_IO_PENDING);
    EXPECT_EQ(san.finish(other.server.s, &receive).bytes, 65536U);
    EXPECT_EQ(san.finish(other.client.s, &operation).error, 0);
    stop();
}

// ---- section 6 ----------------------------------------------------------------------------------------------

// [R6.1 R6.2 R6.3 R6.4 F.WSPRecv.5 R20.7]
TEST_F(TransferTest, MessagesBeforeAnyReceiveWaitForOneEach) {
    std::vector<std::string> messages{std::string(256, 'n'), "second", "", "fourth"};
    std::deque<Polled> sends(messages.size());  // may wait, with the message, for a receive
    for (std::size_t i = 0; i < messages.size(); ++i) {
        messages[i].copy(pair.client.at(i * 256), messages[i].size());
        ASSERT_EQ(send(pair.client, &sends[i], messages[i].size(), i * 256), WSA_IO_PENDING);
    }
    let_time_pass();
    for (const std::string& message : messages) {
        EXPECT_EQ(receive_now(pair.server), message);
    }
    for (Polled& operation : sends) {
        EXPECT_EQ(san.finish(pair.client.s, &operation).error, 0);
    }
    expect_delivery(pair.client, pair.server, "and ordinary receiving goes on");
}

// [R6.2]
TEST_F(TransferTest, WaitingMessagesComeBeforeLaterOnes) {
    send_now(pair.client, "early");
    Polled receives[3];
    for (std::size_t i = 0; i < 3; ++i) {
        ASSERT_EQ(recv(pair.server, &receives[i], 64, i * 64), WSA_IO_PENDING);
    }
    send_now(pair.client, "late");
    send_now(pair.client, "last");
    const std::string expected[] = {"early", "late", "last"};
    for (std::size_t i = 0; i < 3; ++i) {
        const DWORD bytes = san.finish(pair.server.s, &receives[i]).bytes;
        EXPECT_EQ(std::string(pair.server.at(i * 64), bytes), expected[i]);
    }
}

// [R6.3 R8.7]
TEST_F(TransferTest, ALongMessageWithoutAReceiveBreaksNothing) {
    std::memset(pair.client.at(0), 'L', 60000);
    Polled operation;
    ASSERT_EQ(send(pair.client, &operation, 60000), WSA_IO_PENDING);
    expect_delivery(pair.server, pair.client, "the other direction is free");
    let_time_pass();
    Polled receive;
    ASSERT_EQ(recv(pair.server, &receive, 65536), WSA_IO_PENDING);
    EXPECT_EQ(san.finish(pair.server.s, &receive).bytes, 60000U);
    EXPECT_EQ(san.finish(pair.client.s, &operation).bytes, 60000U);
}

// ---- what is refused, and starts nothing --------------------------------------------------------------------

class RefusedTransferTest : public PairTest {
protected:
    void TearDown() override {
        if (!HasFatalFailure()) {
            // Nothing was started: the fields are as they were, and the next messages find no stray.
            EXPECT_EQ(operation.Internal, 4711U);
            EXPECT_EQ(upcalls.count(UpcallKind::kComplete), 0U);
            expect_delivery(pair.client, pair.server, "still in order");
            expect_delivery(pair.server, pair.client, "this way too");
        }
        ConformanceTest::TearDown();
    }
    void expect_refused(int error, LPWSABUF buffers, DWORD count, DWORD flags = 0) {
        operation.Internal = 4711;
        EXPECT_EQ(san.send_list(pair.client.s, buffers, count, &operation, flags), error);
        EXPECT_EQ(san.recv_list(pair.client.s, buffers, count, &operation, flags), error);
    }

    Notified operation;
    char outside[64] = {};
};

// [F.WSPSend.WSAEFAULT F.WSPRecv.WSAEFAULT C4 P8 R10.1 R20.8]
TEST_F(RefusedTransferTest, MemoryThatIsNotRegisteredIsAFault) {  // at submission: project decision
    WSABUF stray{8, outside};
    expect_refused(WSAEFAULT, &stray, 1);
    WSABUF theirs{8, pair.server.at(0)};
    expect_refused(WSAEFAULT, &theirs, 1);
    WSABUF null{8, nullptr};
    expect_refused(WSAEFAULT, &null, 1);
    expect_refused(WSAEFAULT, nullptr, 1);
    WSABUF list[] = {{8, pair.client.at(0)}, {8, outside}};
    expect_refused(WSAEFAULT, list, 2);
}

// [F.WSPSend.WSAEFAULT F.WSPRecv.WSAEFAULT C4 R20.8]
TEST_F(RefusedTransferTest, MemoryThatReachesBeyondItsRegistrationIsAFault) {
    const auto size = static_cast<ULONG>(pair.client.memory.size());
    for (WSABUF buffer : {WSABUF{size, pair.client.at(1)}, WSABUF{2, pair.client.at(0) - 1},
                          WSABUF{1, pair.client.at(0) + size}, WSABUF{2, pair.client.at(size - 1)},
                          WSABUF{8, reinterpret_cast<CHAR*>(UINTPTR_MAX - 3)}}) {
        expect_refused(WSAEFAULT, &buffer, 1);
    }
}

// [C4]
TEST_F(RefusedTransferTest, ABufferMayNotSpanTwoRegistrations) {  // project decision
    std::vector<char> memory(8192);
    EXPECT_NE(san.register_memory(pair.client.s, memory.data(), 4096, MEM_READWRITE), nullptr);
    EXPECT_NE(san.register_memory(pair.client.s, memory.data() + 4096, 4096, MEM_READWRITE),
              nullptr);
    WSABUF buffer{200, memory.data() + 4000};
    expect_refused(WSAEFAULT, &buffer, 1);
}

// [F.WSPSend.WSAEINVAL F.WSPRecv.WSAEINVAL]
TEST_F(RefusedTransferTest, TooManyBuffersAreInvalid) {
    std::vector<WSABUF> buffers(1000, WSABUF{1, pair.client.at(0)});
    expect_refused(WSAEINVAL, buffers.data(), 1000);
    expect_refused(WSAEINVAL, buffers.data(), 0xFFFFFFFFU);
}

// [F.WSPSend.WSAEOPNOTSUPP F.WSPRecv.WSAEOPNOTSUPP R8.6]
TEST_F(RefusedTransferTest, OutOfBandAndPartialAreNotSupported) {
    WSABUF buffer{8, pair.client.at(0)};
    expect_refused(WSAEOPNOTSUPP, &buffer, 1, WSP_MSG_OOB);
    expect_refused(WSAEOPNOTSUPP, &buffer, 1, WSP_MSG_PARTIAL);
}

// [F.WSPSend.WSAEINVAL F.WSPRecv.WSAEINVAL R8.6]
TEST_F(RefusedTransferTest, OtherFlagsAreInvalid) {  // project decision
    WSABUF buffer{8, pair.client.at(0)};
    for (const DWORD flags : {0x4U, 0x8U, 0x10U, 0x80000000U}) {
        expect_refused(WSAEINVAL, &buffer, 1, flags);
    }
}

// [C9 F.WSPSend.WSAEINVAL F.WSPRecv.WSAEINVAL]
TEST_F(RefusedTransferTest, NoOverlappedIsInvalid) {  // project decision
    operation.Internal = 4711;
    EXPECT_EQ(san.send(pair.client.s, pair.client.at(0), 8, nullptr), WSAEINVAL);
    EXPECT_EQ(san.recv(pair.client.s, pair.client.at(0), 8, nullptr), WSAEINVAL);
}

}  // namespace
}  // namespace sanpoll::conformance
