// Connections between processes, and the death of one of them.
#include <arpa/inet.h>
#include <signal.h>
#include <unistd.h>

#include <cstring>
#include <deque>

#include "tests/provider/child_process.hpp"
#include "tests/provider/provider_fixture.hpp"

namespace sanpoll::test {
namespace {

// A process that listens, accepts one connection and returns every message, until the connection ends.
// Says its port; "fork" as argument makes it fork a child that outlives it.
class EchoServer : public ProviderTest {
public:
    void TestBody() override {}
    int run(bool forks) {
        ProviderTest::SetUp();
        const sockaddr_in address = fresh_address();
        const SOCKET listener = listening(address);
        const WSAEVENT event = upcalls.create_event();
        say(std::to_string(ntohl(address.sin_addr.s_addr)) + " " +
            std::to_string(ntohs(address.sin_port)));
        while (wait_for_request(listener, event)) {
            End end;
            end.s = san.accept(listener);
            if (end.s == INVALID_SOCKET) {
                continue;
            }
            give_memory(end, 1 << 20);
            if (forks && ::fork() == 0) {
                ::signal(SIGHUP, SIG_IGN);
                char byte = 0;
                (void)!::read(STDIN_FILENO, &byte, 1);  // until the test is over
                ::_exit(0);
            }
            echo(end);
            if (san.close(end.s) != 0) {
                return 1;
            }
        }
        return 2;
    }

private:
    void echo(End& end) {
        for (;;) {
            Polled receive;
            if (san.recv(end.s, end.at(0), end.memory.size(), &receive) != WSA_IO_PENDING) {
                return;
            }
            const Result received = san.overlapped_result(end.s, &receive, 1);
            if (received.error != 0) {
                return;
            }
            Polled sent;
            if (san.send(end.s, end.at(0), received.bytes, &sent) != WSA_IO_PENDING ||
                san.overlapped_result(end.s, &sent, 1).error != 0) {
                return;
            }
        }
    }
};

const Role echo_server("echo", [](const std::vector<std::string>& arguments) {
    return EchoServer().run(!arguments.empty() && arguments[0] == "fork");
});

class TwoProcessesTest : public ProviderTest {
protected:
    void SetUp() override {
        ProviderTest::SetUp();
        start_server({});
    }
    void start_server(const std::vector<std::string>& arguments, const Knobs& settings = {}) {
        server = std::make_unique<Child>("echo", arguments, settings);
        std::uint32_t ip = 0;
        std::uint32_t port = 0;
        const std::string line = server->hear();
        ASSERT_EQ(std::sscanf(line.c_str(), "%u %u", &ip, &port), 2) << server->errors();
        address = address_of(ip, static_cast<std::uint16_t>(port));
    }
    [[nodiscard]] End connect() {
        End end;
        WSAEVENT event = nullptr;
        end.s = connecting(address, &event);
        end.handle = upcalls.latest_handle();
        EXPECT_EQ(connect_result(end.s, event), 0);
        give_memory(end, 2 << 20);
        return end;
    }
    void expect_echo(End& end, std::size_t length) {
        Polled receive;
        Polled sent;
        for (std::size_t i = 0; i < length; ++i) {
            *end.at(i) = static_cast<char>(i * 7 + length);
        }
        char* const back = end.at(1 << 20);
        std::memset(back, 0, 1 << 20);
        ASSERT_EQ(san.recv(end.s, back, 1 << 20, &receive), WSA_IO_PENDING);
        ASSERT_EQ(san.send(end.s, end.at(0), length, &sent), WSA_IO_PENDING);
        EXPECT_EQ(san.finish(end.s, &receive).bytes, length);
        EXPECT_EQ(san.finish(end.s, &sent).error, 0);
        EXPECT_EQ(std::memcmp(end.at(0), back, length), 0);
    }

    std::unique_ptr<Child> server;
    sockaddr_in address{};
};

TEST_F(TwoProcessesTest, MessagesOfEverySizeGoThereAndBack) {
    End end = connect();
    for (const std::size_t length :
         {0U, 1U, 63U, 64U, 65U, 1000U, 5000U, 20000U, 100000U, 1U << 20}) {
        expect_echo(end, length);
    }
    for (int i = 0; i < 2000; ++i) {
        expect_echo(end, static_cast<std::size_t>(i % 200));
    }
    EXPECT_EQ(san.close(end.s), 0);
}

TEST_F(TwoProcessesTest, OneServerServesOneConnectionAfterTheOther) {
    for (int i = 0; i < 20; ++i) {
        End end = connect();
        expect_echo(end, 100);
        EXPECT_EQ(san.close(end.s), 0);
    }
}

TEST_F(TwoProcessesTest, ModesMayDifferAtTheTwoEnds) {
    start_server({}, {{"mode", "dedicated"}, {"profile", "eco"}});
    End end = connect();
    for (int i = 0; i < 50; ++i) {
        expect_echo(end, 1000);
    }
    EXPECT_EQ(san.close(end.s), 0);
}

TEST_F(TwoProcessesTest, AnotherProcessesListenerKeepsItsAddress) {
    const SOCKET s = bound(address);
    EXPECT_EQ(san.listen(s, 5), WSAENETDOWN);  // project decision
}

TEST_F(TwoProcessesTest, AKilledPeerIsReset) {
    End end = connect();
    expect_echo(end, 100);
    std::deque<Polled> polled(4);
    std::deque<Notified> notified(4);
    for (std::size_t i = 0; i < 4; ++i) {
        ASSERT_EQ(san.recv(end.s, end.at(0), 64, &polled[i]), WSA_IO_PENDING);
        ASSERT_EQ(san.recv(end.s, end.at(0), 64, &notified[i]), WSA_IO_PENDING);
    }
    server->kill();
    EXPECT_EQ(server->wait(), -SIGKILL);
    for (std::size_t i = 0; i < 4; ++i) {
        EXPECT_EQ(san.finish(end.s, &polled[i]).error, WSAECONNRESET);
        ASSERT_TRUE(upcalls.wait_for(&notified[i]));
        EXPECT_EQ(upcalls.completions(&notified[i]).at(0).error, static_cast<DWORD>(WSAECONNRESET));
    }
    Polled later;
    EXPECT_EQ(san.send(end.s, end.at(0), 8, &later), WSAECONNRESET);
    EXPECT_EQ(san.close(end.s), 0);
}

TEST_F(TwoProcessesTest, AKilledPeersPendingSendsAreReset) {
    End end = connect();
    expect_echo(end, 100);
    server->stop();
    std::deque<Polled> sends(10);
    for (Polled& operation : sends) {
        ASSERT_EQ(san.send(end.s, end.at(0), 1 << 20, &operation), WSA_IO_PENDING);
    }
    server->kill();
    for (Polled& operation : sends) {
        EXPECT_EQ(san.finish(end.s, &operation).error, WSAECONNRESET);
    }
    EXPECT_EQ(san.close(end.s), 0);
}

TEST_F(TwoProcessesTest, AKilledListenersRequestsFail) {
    server->stop();
    WSAEVENT event = nullptr;
    const SOCKET s = connecting(address, &event);
    let_time_pass();
    server->kill();
    const int error = connect_result(s, event);
    EXPECT_TRUE(error == WSAECONNRESET || error == WSAECONNREFUSED || error == WSAETIMEDOUT)
        << error;
}

TEST_F(TwoProcessesTest, AfterAPeersDeathAnotherIsServed) {
    End end = connect();
    expect_echo(end, 100);
    server->kill();
    EXPECT_EQ(server->wait(), -SIGKILL);
    EXPECT_EQ(try_connect(address), WSAECONNRESET);
    start_server({});
    End next = connect();
    expect_echo(next, 1000);
    EXPECT_EQ(san.close(end.s), 0);
    EXPECT_EQ(san.close(next.s), 0);
}

TEST_F(TwoProcessesTest, APeersDeathIsNoticedAlthoughAForkedChildOfItLives) {
    start_server({"fork"});
    End end = connect();
    expect_echo(end, 100);
    Polled receive;
    ASSERT_EQ(san.recv(end.s, end.at(0), 64, &receive), WSA_IO_PENDING);
    server->kill();
    EXPECT_EQ(san.finish(end.s, &receive).error, WSAECONNRESET);
    EXPECT_EQ(try_connect(address), WSAECONNRESET);
    EXPECT_EQ(san.close(end.s), 0);
}

}  // namespace
}  // namespace sanpoll::test
