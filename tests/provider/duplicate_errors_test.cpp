// What WSPDuplicateSocket refuses, and the tokens that WSPSocket does.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <deque>
#include <set>

#include "tests/provider/duplicate_fixture.hpp"

namespace sanpoll::test {
namespace {

TEST_F(DuplicateTest, ParametersAreChecked) {
    Pair pair = connected();
    WSAPROTOCOL_INFOW info{};
    const auto self = static_cast<DWORD>(::getpid());
    EXPECT_EQ(san.duplicate(pair.client.s, self, nullptr), WSAEINVAL);
    EXPECT_EQ(san.duplicate(pair.client.s, 0, &info), WSAEINVAL);
    EXPECT_EQ(san.duplicate(pair.client.s, 0xFFFFFFFF, &info), WSAEINVAL);
    EXPECT_EQ(san.duplicate(INVALID_SOCKET, self, &info), WSAENOTSOCK);
    EXPECT_EQ(san.duplicate(INVALID_SOCKET, self, nullptr), WSAENOTSOCK);
    EXPECT_EQ(info.dwProviderReserved, 0U);
    expect_delivery(pair.client, pair.server, "still usable");
    expect_delivery(pair.server, pair.client, "both ways");
}

TEST_F(DuplicateTest, AProcessThatDoesNotExistIsRefused) {
    const pid_t gone = ::fork();
    if (gone == 0) {
        ::_exit(0);
    }
    (void)::waitpid(gone, nullptr, 0);
    Pair pair = connected();
    WSAPROTOCOL_INFOW info{};
    EXPECT_EQ(san.duplicate(pair.client.s, static_cast<DWORD>(gone), &info), WSAEINVAL);
    expect_delivery(pair.client, pair.server, "still usable");
}

TEST_F(DuplicateTest, PendingSendsAreRefusedAndTheSocketStaysUsable) {
    Pair pair = connected();
    std::deque<Polled> sends(40);
    for (Polled& operation : sends) {
        ASSERT_EQ(san.send(pair.client.s, pair.client.at(0), 100, &operation), WSA_IO_PENDING);
    }
    Polled receive;
    ASSERT_EQ(san.recv(pair.client.s, pair.client.at(0), 100, &receive), WSA_IO_PENDING);
    WSAPROTOCOL_INFOW info{};
    EXPECT_EQ(san.duplicate(pair.client.s, static_cast<DWORD>(::getpid()), &info), WSAEINVAL);
    EXPECT_EQ(san.overlapped_result(pair.client.s, &receive, 0).error, WSA_IO_INCOMPLETE);
    for (Polled& operation : sends) {
        EXPECT_EQ(this->receive(pair.server).bytes, 100U);
        EXPECT_EQ(san.finish(pair.client.s, &operation).error, 0);
    }
    Polled answer;
    ASSERT_EQ(san.send(pair.server.s, pair.server.at(0), 7, &answer), WSA_IO_PENDING);
    EXPECT_EQ(san.finish(pair.client.s, &receive).bytes, 7U);
}

TEST_F(DuplicateTest, InsideAnUpcallItIsRefused) {  // project decision
    Pair pair = connected();
    std::atomic<int> answer{-1};
    WSAPROTOCOL_INFOW info{};
    Notified receive;
    const ActionScope scope = upcalls.on_complete([&](const Upcall&) {
        answer = san.duplicate(pair.client.s, static_cast<DWORD>(::getpid()), &info);
    });
    ASSERT_EQ(san.recv(pair.client.s, pair.client.at(0), 16, &receive), WSA_IO_PENDING);
    send_text(pair.server, "x");
    ASSERT_TRUE(upcalls.wait_for(&receive));
    EXPECT_EQ(answer, WSAENETDOWN);
    expect_delivery(pair.server, pair.client, "still usable");
}

TEST_F(DuplicateTest, OtherStatesAreRefused) {
    WSAPROTOCOL_INFOW info{};
    const auto self = static_cast<DWORD>(::getpid());
    EXPECT_EQ(san.duplicate(socket(), self, &info), WSAEINVAL);
    EXPECT_EQ(san.duplicate(bound(), self, &info), WSAEINVAL);
    const sockaddr_in address = fresh_address();
    (void)listening(address);
    EXPECT_EQ(san.duplicate(connecting(address), self, &info), WSAEINVAL);
    EXPECT_EQ(san.duplicate(broken().s, self, &info), WSAENOTCONN);
}

TEST_F(DuplicateTest, AnUnknownTokenIsInvalid) {
    WSAPROTOCOL_INFOW info{};
    info.dwProviderReserved = 0x12345678;
    (void)arrive(info, WSAEINVAL);
    EXPECT_EQ(upcalls.count(UpcallKind::kCreateSocketHandle), 0U);
}

TEST_F(DuplicateTest, ATokenIsGoodOnce) {
    Pair pair = connected();
    const WSAPROTOCOL_INFOW info = leave(pair.client.s);
    pair.client.s = arrive(info);
    (void)arrive(info, WSAEINVAL);
    give_memory(pair.client, 1 << 16);
    expect_delivery(pair.client, pair.server, "the one that came first");
}

TEST_F(DuplicateTest, ATokenOfAnotherProcessIsInvalidHere) {
    const pid_t other = ::fork();
    if (other == 0) {
        ::pause();
        ::_exit(0);
    }
    Pair pair = connected();
    WSAPROTOCOL_INFOW info{};
    ASSERT_EQ(san.duplicate(pair.client.s, static_cast<DWORD>(other), &info), 0);
    (void)arrive(info, WSAEINVAL);
    (void)arrive(info, WSAEINVAL);
    ::kill(other, SIGKILL);
    (void)::waitpid(other, nullptr, 0);
}

TEST_F(DuplicateTest, TokensDiffer) {
    std::set<DWORD> tokens;
    for (int i = 0; i < 20; ++i) {
        Pair pair = connected(64);
        tokens.insert(leave(pair.client.s).dwProviderReserved);
    }
    EXPECT_EQ(tokens.size(), 20U);
}

}  // namespace
}  // namespace sanpoll::test
