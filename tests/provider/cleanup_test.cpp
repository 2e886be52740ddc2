// The last WSPCleanup while other threads are in calls that use the engine: each is done before or is refused.
#include <unistd.h>

#include <atomic>
#include <functional>
#include <thread>

#include "tests/provider/provider_fixture.hpp"

namespace sanpoll::test {
namespace {

class CleanupTest : public ProviderTest {
protected:
    // Ends the provider while a thread repeats `call`, which returns a WSA error, and starts it again: many times, for
    // what could go wrong takes a narrow moment.
    template <typename Call>
    void expect_refused_in_time(Call call) {
        for (int round = 0; round < 40; ++round) {
            std::atomic<int> called{0};
            std::thread calling([&] {
                for (int error = 0; error != WSANOTINITIALISED; ++called) {
                    error = call();
                }
            });
            EXPECT_TRUE(eventually([&] { return called.load() > 20; }));
            stop();
            calling.join();
            EXPECT_EQ(upcalls.open_handles(), 0U);
            ProviderTest::SetUp();
        }
    }
    // A new socket for each call: WSANOTINITIALISED, if there is none to be had any more.
    template <typename Use>
    int with_socket(Use use) {
        int error = 0;
        const SOCKET s = san.socket(&error);
        if (s == INVALID_SOCKET) {
            return error;
        }
        error = use(s);
        (void)san.close(s);
        return error;
    }
};

TEST_F(CleanupTest, WhileSocketsAreMade) {
    expect_refused_in_time([&] { return with_socket([](SOCKET) { return 0; }); });
}

TEST_F(CleanupTest, WhileSocketsAreBound) {
    const sockaddr_in address = fresh_address();
    expect_refused_in_time(
        [&] { return with_socket([&](SOCKET s) { return san.bind(s, address); }); });
}

TEST_F(CleanupTest, WhileSocketsListen) {
    const sockaddr_in address = fresh_address();
    expect_refused_in_time([&] {
        return with_socket([&](SOCKET s) {
            (void)san.bind(s, address);
            (void)san.listen(s, 1);
            return san.listen(s, 2);
        });
    });
}

TEST_F(CleanupTest, WhileAddressesAreAskedFor) {
    expect_refused_in_time([&] {
        return with_socket([&](SOCKET s) {
            char list[4096];
            DWORD returned = 0;
            return san.ioctl(s, SIO_ADDRESS_LIST_QUERY, nullptr, 0, list, sizeof(list), &returned);
        });
    });
}

TEST_F(CleanupTest, WhileConnectionsAreMade) {
    const sockaddr_in address = fresh_address();
    expect_refused_in_time([&] {
        return with_socket([&](SOCKET s) {
            (void)san.bind(s, address);
            int error = san.listen(s, 1);
            if (error == 0) {
                error = with_socket([&](SOCKET other) {
                    (void)san.bind(other, address_of(INADDR_ANY, 0));
                    (void)san.connect(other, address);
                    const SOCKET accepted = san.accept(s, &error);
                    if (accepted != INVALID_SOCKET) {
                        (void)san.close(accepted);
                    }
                    return error;
                });
            }
            return error;
        });
    });
}

TEST_F(CleanupTest, WhileSocketsAreGivenAway) {
    const sockaddr_in address = fresh_address();
    expect_refused_in_time([&] {
        return with_socket([&](SOCKET s) {
            (void)san.bind(s, address);
            (void)san.listen(s, 1);
            WSAPROTOCOL_INFOW info{};
            return san.duplicate(s, static_cast<DWORD>(::getpid()), &info);
        });
    });
}

// Whoever closes it, and is overtaken: what was pending is reported before the handle ends, and that before the cleanup.
TEST_F(CleanupTest, WhileASocketIsClosed) {
    for (int round = 0; round < 60; ++round) {
        Pair pair = connected(64);
        Notified receive;
        ASSERT_EQ(san.recv(pair.server.s, pair.server.at(0), 64, &receive), WSA_IO_PENDING);
        std::atomic<bool> closing{false};
        std::thread closer([&] {
            closing = true;
            (void)san.close(pair.server.s);
        });
        EXPECT_TRUE(eventually([&] { return closing.load(); }));
        for (int i = 0; i < round % 20; ++i) {
            std::this_thread::yield();
        }
        stop();
        EXPECT_EQ(upcalls.open_handles(), 0U);
        EXPECT_EQ(upcalls.completions(&receive).size(), 1U);
        EXPECT_EQ(upcalls.violations(), std::vector<std::string>{});
        closer.join();
        ProviderTest::SetUp();
    }
}

// The close waits for an event that is being set, and the cleanup for the close: it has not ended before the handle has,
// and what was pending ends by the close.
TEST_F(CleanupTest, WhileACloseWaitsForASignal) {
    const sockaddr_in address = fresh_address();
    const SOCKET listener = listening(address);
    WSAEVENT connected = nullptr;
    End client;
    client.s = connecting(address, &connected);
    ASSERT_TRUE(wait_for_request(listener, upcalls.create_event()));
    ASSERT_NE(san.accept(listener), INVALID_SOCKET);
    ASSERT_TRUE(upcalls.wait_for(connected));
    give_memory(client, 64);
    Notified receive;
    ASSERT_EQ(san.recv(client.s, client.at(0), 64, &receive), WSA_IO_PENDING);
    std::atomic<bool> signalling{false};
    std::atomic<bool> closed{false};
    const WSAEVENT event = upcalls.create_event();
    const ActionScope acting = upcalls.on_set_event([&](WSAEVENT which) {
        if (which == event) {
            signalling = true;
            EXPECT_TRUE(eventually([&] { return closed.load(); }));
            for (int i = 0; i < 5; ++i) {
                let_time_pass();
            }
        }
    });
    std::thread signaller([&] { EXPECT_EQ(san.event_select(client.s, event, FD_CONNECT), 0); });
    EXPECT_TRUE(eventually([&] { return signalling.load(); }));
    std::thread closer([&] { EXPECT_EQ(san.close(client.s), 0); });
    EXPECT_TRUE(eventually([&] { return san.event_select(client.s, nullptr, -1) == WSAENOTSOCK; }));
    closed = true;
    stop();
    EXPECT_EQ(upcalls.open_handles(), 0U);
    ASSERT_EQ(upcalls.completions(&receive).size(), 1U);
    EXPECT_EQ(upcalls.completions(&receive)[0].error, static_cast<DWORD>(WSA_OPERATION_ABORTED));
    signaller.join();
    closer.join();
}

TEST_F(CleanupTest, TheLastOneFromWithinTheSettingOfAnEventIsRefused) {  // project decision
    const sockaddr_in address = fresh_address();
    const SOCKET listener = listening(address);
    (void)connecting(address);
    ASSERT_TRUE(wait_for_request(listener, upcalls.create_event()));
    const WSAEVENT event = upcalls.create_event();
    int refused = 0;
    const ActionScope acting = upcalls.on_set_event([&](WSAEVENT which) {
        if (which == event) {
            refused = san.cleanup();
        }
    });
    EXPECT_EQ(san.event_select(listener, event, FD_ACCEPT), 0);
    EXPECT_EQ(refused, WSAENETDOWN);
}

// The switch calls it while it is asked for a handle: the call that asks has to be over first.
TEST_F(CleanupTest, TheLastOneFromWithinTheMakingOfAHandleIsRefused) {  // project decision
    int refused = 0;
    upcalls.on_create_handle([&](SOCKET proposed) {
        refused = san.cleanup();
        return proposed;
    });
    EXPECT_NE(socket(), INVALID_SOCKET);
    upcalls.on_create_handle({});
    EXPECT_EQ(refused, WSAENETDOWN);
}

// Likewise a start: it would wait for the end, and that for the call.
TEST_F(CleanupTest, NoStartFromWithinACallThatTheLastOneWaitsFor) {  // project decision
    std::thread ending;
    int refused = 0;
    upcalls.on_create_handle([&](SOCKET proposed) {
        ending = std::thread([&] { stop(); });
        EXPECT_TRUE(eventually([&] { return san.close(INVALID_SOCKET) == WSANOTINITIALISED; }));
        refused = Calls().start();
        return proposed;
    });
    (void)san.socket();
    upcalls.on_create_handle({});
    ending.join();
    EXPECT_EQ(refused, WSASYSNOTREADY);
}

// Who is asked about a request ends the provider and starts it again: the request was the first one's.
TEST_F(CleanupTest, AndAStartWhileARequestIsDecidedOn) {
    static std::function<int()> decide;
    const LPCONDITIONPROC condition = [](LPWSABUF, LPWSABUF, LPQOS, LPQOS, LPWSABUF, LPWSABUF,
                                         GROUP*, DWORD_PTR) { return decide(); };
    for (const int answer : {CF_ACCEPT, CF_REJECT, CF_DEFER}) {
        const sockaddr_in address = fresh_address();
        const SOCKET listener = listening(address);
        (void)connecting(address);
        ASSERT_TRUE(wait_for_request(listener, upcalls.create_event()));
        decide = [&] {
            stop();
            ProviderTest::SetUp();
            return answer;
        };
        int error = 0;
        EXPECT_EQ(san.accept(listener, &error, condition), INVALID_SOCKET);
        EXPECT_EQ(error, answer == CF_ACCEPT   ? WSAECONNRESET
                         : answer == CF_REJECT ? WSAECONNREFUSED
                                               : WSAENOTSOCK);
    }
    decide = {};
}

}  // namespace
}  // namespace sanpoll::test
