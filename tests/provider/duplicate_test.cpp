// WSPDuplicateSocket for the own process, and the rules that need no second one. Between processes:
// tests/system/duplicate_test.cpp.
#include <sanpoll.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <deque>
#include <thread>
#include <utility>

#include "tests/provider/duplicate_fixture.hpp"

namespace sanpoll::test {
namespace {

TEST_F(DuplicateTest, OptionsGoAlong) {
    Pair pair = connected();
    BOOL on = TRUE;
    INT priority = 7;
    ASSERT_EQ(san.set_option(pair.client.s, WSP_SOL_SOCKET, WSP_SO_DEBUG,
                             reinterpret_cast<const char*>(&on), sizeof(on)),
              0);
    ASSERT_EQ(san.set_option(pair.client.s, WSP_SOL_SOCKET, SO_GROUP_PRIORITY,
                             reinterpret_cast<const char*>(&priority), sizeof(priority)),
              0);
    const SOCKET moved = arrive(leave(pair.client.s));
    on = FALSE;
    priority = 0;
    INT length = sizeof(on);
    EXPECT_EQ(
        san.get_option(moved, WSP_SOL_SOCKET, WSP_SO_DEBUG, reinterpret_cast<char*>(&on), &length),
        0);
    EXPECT_EQ(on, TRUE);
    length = sizeof(priority);
    EXPECT_EQ(san.get_option(moved, WSP_SOL_SOCKET, SO_GROUP_PRIORITY,
                             reinterpret_cast<char*>(&priority), &length),
              0);
    EXPECT_EQ(priority, 7);
}

// ---- a connection -------------------------------------------------------------------------------------

TEST_F(DuplicateTest, TheWholeProtocolInformationIsFilled) {
    Pair pair = connected();
    WSAPROTOCOL_INFOW info;
    std::memset(&info, 0xA5, sizeof(info));
    ASSERT_EQ(san.duplicate(pair.client.s, static_cast<DWORD>(::getpid()), &info), 0);
    EXPECT_EQ(info.dwServiceFlags1, 0x2EU);
    EXPECT_EQ(info.dwServiceFlags2 | info.dwServiceFlags3 | info.dwServiceFlags4, 0U);
    EXPECT_EQ(info.dwProviderFlags, static_cast<DWORD>(PFL_HIDDEN));
    EXPECT_EQ(info.ProtocolChain.ChainLen, 1);
    EXPECT_EQ(info.iVersion, 2);
    EXPECT_EQ(info.iAddressFamily, AF_INET);
    EXPECT_EQ(info.iMaxSockAddr, 16);
    EXPECT_EQ(info.iMinSockAddr, 16);
    EXPECT_EQ(info.iSocketType, SOCK_STREAM);
    EXPECT_EQ(info.iProtocol, IPPROTO_TCP);
    EXPECT_NE(info.szProtocol[0], 0);
    EXPECT_EQ(info.szProtocol[WSAPROTOCOL_LEN], 0);
}

TEST_F(DuplicateTest, TheFabricAndItsReasonFollowTheConnection) {
    Pair pair = connected();
    SANPOLL_FABRIC fabric;
    DWORD returned = 0;
    const WSAPROTOCOL_INFOW info = leave(pair.client.s);
    EXPECT_EQ(san.ioctl(pair.client.s, SIO_SANPOLL_FABRIC, nullptr, 0, &fabric, sizeof(fabric),
                        &returned),
              WSAENOTCONN);
    const SOCKET moved = arrive(info);
    ASSERT_EQ(san.ioctl(moved, SIO_SANPOLL_FABRIC, nullptr, 0, &fabric, sizeof(fabric), &returned),
              0);
    EXPECT_STREQ(fabric.fabric, "shm");
    EXPECT_STREQ(fabric.reason, "the process that had the socket before had it so");
}

TEST_F(DuplicateTest, PendingReceivesCompleteWithSuccessAndNoBytesBeforeTheCallReturns) {
    Pair pair = connected();
    std::deque<Polled> polled(3);
    std::deque<Notified> notified(3);
    for (std::size_t i = 0; i < 3; ++i) {
        ASSERT_EQ(san.recv(pair.client.s, pair.client.at(0), 64, &polled[i]), WSA_IO_PENDING);
        ASSERT_EQ(san.recv(pair.client.s, pair.client.at(0), 64, &notified[i]), WSA_IO_PENDING);
    }
    const WSAPROTOCOL_INFOW info = leave(pair.client.s);
    for (std::size_t i = 0; i < 3; ++i) {
        EXPECT_EQ(polled[i].Internal, 0U);
        EXPECT_EQ(polled[i].OffsetHigh, 0U);
        EXPECT_EQ(polled[i].InternalHigh, 0U);
        const std::vector<Upcall> told = upcalls.completions(&notified[i]);
        ASSERT_EQ(told.size(), 1U);
        EXPECT_EQ(told[0].handle, pair.client.handle);
        EXPECT_EQ(told[0].error, 0U);
        EXPECT_EQ(told[0].bytes, 0U);
    }
    EXPECT_EQ(upcalls.count(UpcallKind::kCloseSocketHandle), 1U);  // the listener's
    (void)arrive(info);
}

TEST_F(DuplicateTest, TheOldDescriptorAnswersButGivesNothing) {
    Pair pair = connected();
    const SOCKET old = pair.client.s;
    const WSAPROTOCOL_INFOW info = leave(old);
    for (const bool fetched : {false, true}) {
        Polled operation;
        int error = 0;
        WSANETWORKEVENTS events{};
        const WSAEVENT event = upcalls.create_event();
        EXPECT_EQ(san.send(old, pair.client.at(0), 8, &operation), WSAENOTCONN);
        EXPECT_EQ(san.recv(old, pair.client.at(0), 8, &operation), WSAENOTCONN);
        (void)san.register_memory(old, pair.client.at(0), 8, MEM_READ, &error);
        EXPECT_EQ(error, WSAENOTCONN);
        EXPECT_EQ(san.deregister_memory(old, pair.client.region), WSAEINVAL);
        EXPECT_EQ(san.bind(old, fresh_address()), WSAEINVAL);
        EXPECT_EQ(san.listen(old, 5), WSAEINVAL);
        EXPECT_EQ(san.connect(old, fresh_address()), WSAEINVAL);
        (void)san.accept(old, &error);
        EXPECT_EQ(error, WSAEINVAL);
        EXPECT_EQ(san.event_select(old, event, FD_CONNECT), WSAEINVAL);
        EXPECT_EQ(san.enum_events(old, event, &events), WSAEINVAL);
        WSAPROTOCOL_INFOW again{};
        EXPECT_EQ(san.duplicate(old, static_cast<DWORD>(::getpid()), &again), WSAEINVAL);
        if (!fetched) {
            pair.client.s = arrive(info);
            EXPECT_NE(pair.client.s, old);
        }
    }
    give_memory(pair.client, 1 << 16);
    EXPECT_EQ(san.close(old), 0);
    EXPECT_EQ(san.close(old), WSAENOTSOCK);
    expect_delivery(pair.client, pair.server, "closing the old one does no harm");
    expect_delivery(pair.server, pair.client, "in no direction");
}

TEST_F(DuplicateTest, TheOldDescriptorMayBeClosedBeforeTheSocketIsFetched) {
    Pair pair = connected();
    const WSAPROTOCOL_INFOW info = leave(pair.client.s);
    EXPECT_EQ(san.close(pair.client.s), 0);
    pair.client.s = arrive(info);
    give_memory(pair.client, 1 << 16);
    expect_delivery(pair.client, pair.server, "it lives on");
}

TEST_F(DuplicateTest, ThePeersReceivesStayPending) {
    Pair pair = connected();
    std::deque<Polled> receives(4);
    Notified last;
    for (std::size_t i = 0; i < 4; ++i) {
        ASSERT_EQ(san.recv(pair.server.s, pair.server.at(i * 64), 64, &receives[i]),
                  WSA_IO_PENDING);
    }
    ASSERT_EQ(san.recv(pair.server.s, pair.server.at(256), 64, &last), WSA_IO_PENDING);
    for (int i = 0; i < 3; ++i) {
        swap(pair.client);
    }
    let_time_pass();
    for (Polled& operation : receives) {
        EXPECT_EQ(san.overlapped_result(pair.server.s, &operation, 0).error, WSA_IO_INCOMPLETE);
    }
    EXPECT_TRUE(upcalls.completions(&last).empty());
    for (std::size_t i = 0; i < 4; ++i) {
        send_text(pair.client, std::to_string(i));
        EXPECT_EQ(san.finish(pair.server.s, &receives[i]).bytes, 1U);
        EXPECT_EQ(*pair.server.at(i * 64), static_cast<char>('0' + i));
    }
    send_text(pair.client, "last");
    EXPECT_TRUE(upcalls.wait_for(&last));
}

TEST_F(DuplicateTest, MessagesThatNoReceiveHasTakenGoAlong) {
    Pair pair = connected();
    for (int i = 0; i < 10; ++i) {
        send_text(pair.server, "before " + std::to_string(i));
    }
    swap(pair.client);
    expect_text(pair.client, "before 0");
    swap(pair.client);
    for (int i = 1; i < 10; ++i) {
        expect_text(pair.client, "before " + std::to_string(i));
    }
    expect_delivery(pair.server, pair.client, "after");
}

TEST_F(DuplicateTest, LongerMessagesThatWaitForALongerReceiveGoAlong) {
    Pair pair = connected();
    std::deque<Polled> receives(3);
    for (Polled& operation : receives) {
        ASSERT_EQ(san.recv(pair.client.s, pair.client.at(0), 10, &operation), WSA_IO_PENDING);
    }
    for (int i = 0; i < 3; ++i) {
        std::memset(pair.server.at(0), 'a' + i, 5000);
        Polled operation;
        ASSERT_EQ(san.send(pair.server.s, pair.server.at(0), 5000, &operation), WSA_IO_PENDING);
        ASSERT_EQ(san.finish(pair.server.s, &operation).error, 0);
    }
    for (Polled& operation : receives) {
        EXPECT_EQ(san.finish(pair.client.s, &operation).error, WSAEMSGSIZE);
    }
    swap(pair.client);
    for (int i = 0; i < 3; ++i) {
        EXPECT_EQ(receive(pair.client, 6000).bytes, 5000U);
        EXPECT_EQ(*pair.client.at(4999), 'a' + i);
    }
    expect_delivery(pair.server, pair.client, "after");
}

TEST_F(DuplicateTest, WhatThePeerSendsMeanwhileIsDeliveredAfterwards) {
    Pair pair = connected();
    const WSAPROTOCOL_INFOW info = leave(pair.client.s);
    std::deque<Polled> sends(30);
    for (std::size_t i = 0; i < sends.size(); ++i) {
        *pair.server.at(i) = static_cast<char>(i);
        ASSERT_EQ(san.send(pair.server.s, pair.server.at(i), 1, &sends[i]), WSA_IO_PENDING);
    }
    let_time_pass();
    EXPECT_EQ(san.overlapped_result(pair.server.s, &sends[0], 0).error, WSA_IO_INCOMPLETE);
    EXPECT_EQ(san.close(pair.client.s), 0);
    pair.client.s = arrive(info);
    give_memory(pair.client, 1 << 16);
    for (std::size_t i = 0; i < sends.size(); ++i) {
        ASSERT_EQ(receive(pair.client).bytes, 1U);
        EXPECT_EQ(*pair.client.at(0), static_cast<char>(i));
        EXPECT_EQ(san.finish(pair.server.s, &sends[i]).error, 0);
    }
}

TEST_F(DuplicateTest, ALongMessageThatWaitsForItsReceiveIsSentToTheNextOne) {
    constexpr std::size_t kLong = 3 << 20;
    Pair pair = connected(4 << 20);
    std::memset(pair.server.at(0), 'L', kLong);
    Polled send;
    ASSERT_EQ(san.send(pair.server.s, pair.server.at(0), kLong, &send), WSA_IO_PENDING);
    swap(pair.client, 4 << 20);
    swap(pair.client, 4 << 20);
    Polled receive;
    ASSERT_EQ(san.recv(pair.client.s, pair.client.at(0), kLong, &receive), WSA_IO_PENDING);
    Result received;
    ASSERT_TRUE(eventually([&] {  // both ends are ours to turn
        (void)san.overlapped_result(pair.server.s, &send, 0);
        received = san.overlapped_result(pair.client.s, &receive, 0);
        return received.error != WSA_IO_INCOMPLETE;
    }));
    EXPECT_EQ(received.bytes, kLong);
    EXPECT_EQ(*pair.client.at(kLong - 1), 'L');
    EXPECT_EQ(san.finish(pair.server.s, &send).error, 0);
    expect_delivery(pair.server, pair.client, "after");
}

TEST_F(DuplicateTest, ALongMessageUnderWayArrivesWhole) {
    constexpr std::size_t kLong = 15 << 20;
    for (int round = 0; round < 5; ++round) {
        Pair pair = connected(16 << 20);
        std::memset(pair.server.at(0), 'a' + round, kLong);
        Polled receive;
        Polled send;
        ASSERT_EQ(san.recv(pair.client.s, pair.client.at(0), kLong, &receive), WSA_IO_PENDING);
        ASSERT_EQ(san.send(pair.server.s, pair.server.at(0), kLong, &send), WSA_IO_PENDING);
        for (int turn = 0; turn < round; ++turn) {
            (void)san.overlapped_result(pair.server.s, &send, 0);
        }
        const WSAPROTOCOL_INFOW info = leave(pair.client.s);
        const auto first = static_cast<std::size_t>(receive.InternalHigh);
        EXPECT_EQ(receive.Internal, 0U);
        EXPECT_EQ(receive.OffsetHigh, 0U);
        if (first != 0) {  // finished before it left
            EXPECT_EQ(first, kLong);
            EXPECT_EQ(*pair.client.at(kLong - 1), 'a' + round);
        }
        EXPECT_EQ(san.close(pair.client.s), 0);
        pair.client.s = arrive(info);
        give_memory(pair.client, 16 << 20);
        if (first == 0) {
            EXPECT_EQ(this->receive(pair.client, kLong).bytes, kLong);
            EXPECT_EQ(*pair.client.at(kLong - 1), 'a' + round);
        }
        EXPECT_EQ(san.finish(pair.server.s, &send).error, 0);
        expect_delivery(pair.server, pair.client, "after");
        EXPECT_EQ(san.close(pair.client.s), 0);
        EXPECT_EQ(san.close(pair.server.s), 0);
    }
}

TEST_F(DuplicateTest, BothEndsChangeAgainAndAgain) {
    Pair pair = connected();
    for (int i = 0; i < 50; ++i) {
        swap(i % 3 == 0 ? pair.server : pair.client);
        expect_delivery(pair.client, pair.server, "there " + std::to_string(i));
        expect_delivery(pair.server, pair.client, "back " + std::to_string(i));
    }
}

TEST_F(DuplicateTest, BothEndsLeaveAtOnce) {
    Pair pair = connected();
    for (int i = 0; i < 20; ++i) {
        const auto change = [this](End& end) {
            const WSAPROTOCOL_INFOW info = leave(end.s);
            EXPECT_EQ(san.close(end.s), 0);
            end.s = arrive(info);
        };
        std::thread other([&] { change(pair.server); });
        change(pair.client);
        other.join();
        give_memory(pair.client, 1 << 16);
        give_memory(pair.server, 1 << 16);
        expect_delivery(pair.client, pair.server, "there " + std::to_string(i));
        expect_delivery(pair.server, pair.client, "back " + std::to_string(i));
    }
}

// ---- ends ---------------------------------------------------------------------------------------------

TEST_F(DuplicateTest, ASocketThatNobodyFetchesIsResetWithItsProvider) {
    Pair pair = connected();
    (void)leave(pair.client.s);
    stop();
}

TEST_F(DuplicateTest, ThePeerMayCloseWhileNobodyHasTheSocket) {
    Pair pair = connected();
    const WSAPROTOCOL_INFOW info = leave(pair.client.s);
    const std::size_t handles = upcalls.open_handles();
    EXPECT_EQ(san.close(pair.server.s), 0);
    (void)arrive(info, WSAENETDOWN);
    EXPECT_EQ(upcalls.open_handles(), handles - 1);
    EXPECT_EQ(san.close(pair.client.s), 0);
}

TEST_F(DuplicateTest, WhatAPeerSentBeforeItClosedIsDeliveredFirst) {  // project decision
    Pair pair = connected();
    send_text(pair.server, "last words");
    const WSAPROTOCOL_INFOW info = leave(pair.client.s);
    EXPECT_EQ(san.close(pair.server.s), 0);
    EXPECT_EQ(san.close(pair.client.s), 0);
    pair.client.s = arrive(info);
    ASSERT_NE(pair.client.s, INVALID_SOCKET);
    give_memory(pair.client, 1 << 16);
    expect_text(pair.client, "last words");
    EXPECT_EQ(receive(pair.client).error, WSAECONNRESET);
    WSAPROTOCOL_INFOW again{};
    EXPECT_EQ(san.duplicate(pair.client.s, static_cast<DWORD>(::getpid()), &again), WSAENOTCONN);
}

TEST_F(DuplicateTest, TheNextDescriptorsCloseIsSeenByThePeer) {
    Pair pair = connected();
    Polled receive;
    ASSERT_EQ(san.recv(pair.server.s, pair.server.at(0), 64, &receive), WSA_IO_PENDING);
    swap(pair.client);
    send_text(pair.client, "bye");
    EXPECT_EQ(san.close(pair.client.s), 0);
    EXPECT_EQ(san.finish(pair.server.s, &receive).bytes, 3U);
    EXPECT_EQ(this->receive(pair.server).error, WSAECONNRESET);
}

TEST_F(DuplicateTest, NoHandleIsLeftIfTheSwitchGivesNone) {
    Pair pair = connected();
    Polled receive;
    ASSERT_EQ(san.recv(pair.server.s, pair.server.at(0), 64, &receive), WSA_IO_PENDING);
    const WSAPROTOCOL_INFOW info = leave(pair.client.s);
    upcalls.on_create_handle([](SOCKET) { return INVALID_SOCKET; });
    (void)arrive(info, WSAENOBUFS);
    upcalls.on_create_handle(nullptr);
    // The token is used up, and nobody can come any more.
    EXPECT_EQ(san.finish(pair.server.s, &receive).error, WSAECONNRESET);
}

TEST_F(DuplicateTest, ACloseMeanwhileReturnsBehindTheLastUpcalls) {
    Pair pair = connected();
    const std::size_t handles = upcalls.open_handles();
    std::atomic<bool> inside{false};
    std::atomic<bool> go_on{false};
    const ActionScope scope = upcalls.on_complete([&](const Upcall&) {
        inside.store(true);
        EXPECT_TRUE(eventually([&] { return go_on.load(); }));
    });
    Notified receive;
    ASSERT_EQ(san.recv(pair.client.s, pair.client.at(0), 64, &receive), WSA_IO_PENDING);
    int error = -1;
    WSAPROTOCOL_INFOW info{};
    std::thread other(
        [&] { error = san.duplicate(pair.client.s, static_cast<DWORD>(::getpid()), &info); });
    ASSERT_TRUE(eventually([&] { return inside.load(); }));
    std::atomic<bool> closed{false};
    std::thread closing([&] {
        EXPECT_EQ(san.close(pair.client.s), 0);
        EXPECT_EQ(upcalls.open_handles(), handles - 1);
        closed.store(true);
    });
    let_time_pass();
    EXPECT_FALSE(closed.load());
    go_on.store(true);
    closing.join();
    other.join();
    EXPECT_EQ(error, 0);
    EXPECT_EQ(san.close(arrive(info)), 0);
}

TEST_F(DuplicateTest, BothThreadsEndIfOneClosesMeanwhile) {
    for (int i = 0; i < 20; ++i) {
        Pair pair = connected(64);
        Notified receive;
        ASSERT_EQ(san.recv(pair.client.s, pair.client.at(0), 64, &receive), WSA_IO_PENDING);
        int error = -1;
        WSAPROTOCOL_INFOW info{};
        std::thread other(
            [&] { error = san.duplicate(pair.client.s, static_cast<DWORD>(::getpid()), &info); });
        EXPECT_EQ(san.close(pair.client.s), 0);
        other.join();
        EXPECT_TRUE(error == 0 || error == WSAENOTSOCK) << error;
        EXPECT_TRUE(upcalls.wait_for(&receive));
        if (error == 0) {
            EXPECT_EQ(san.close(arrive(info)), 0);
        }
        EXPECT_EQ(this->receive(pair.server, 64).error, WSAECONNRESET);
    }
}

class DedicatedDuplicateTest : public DuplicateTest {
protected:
    Knobs knobs() const override { return {{"mode", "dedicated"}, {"profile", "eco"}}; }
};

TEST_F(DedicatedDuplicateTest, ItWorksAlike) {
    Pair pair = connected();
    Notified pending;
    ASSERT_EQ(san.recv(pair.client.s, pair.client.at(0), 64, &pending), WSA_IO_PENDING);
    for (int i = 0; i < 10; ++i) {
        swap(pair.client);
        swap(pair.server);
        expect_delivery(pair.client, pair.server, "there " + std::to_string(i));
        expect_delivery(pair.server, pair.client, "back " + std::to_string(i));
    }
    EXPECT_EQ(upcalls.completions(&pending).size(), 1U);
}

class TwoCoresDuplicateTest : public DuplicateTest {
protected:
    Knobs knobs() const override { return {{"core_count", "2"}}; }
};

TEST_F(TwoCoresDuplicateTest, LinksOfEveryCoreAreUsed) {
    std::deque<Pair> pairs;
    for (int i = 0; i < 4; ++i) {
        pairs.push_back(connected());
    }
    for (int i = 0; i < 5; ++i) {
        for (Pair& pair : pairs) {
            swap(pair.client);
            swap(pair.server);
            expect_delivery(pair.client, pair.server, "there " + std::to_string(i));
            expect_delivery(pair.server, pair.client, "back " + std::to_string(i));
        }
    }
}

TEST_F(DuplicateTest, AConnectionMayMoveFromWithinTheEndOfAHandle) {
    Pair pair = connected();
    const SOCKET other = socket();
    bool moved = false;
    {
        const ActionScope acting = upcalls.on_close_handle([&](SOCKET) {
            if (!std::exchange(moved, true)) {
                swap(pair.client);
            }
        });
        EXPECT_EQ(san.close(other), 0);
    }
    ASSERT_TRUE(moved);
    expect_delivery(pair.client, pair.server, "after the move");
}

}  // namespace
}  // namespace sanpoll::test
