// Several processes: connections between them, their ends, and a cleanup with the peer elsewhere.
#include <arpa/inet.h>
#include <signal.h>
#include <unistd.h>

#include "tests/conformance/conformance_fixture.hpp"
#include "tests/provider/child_process.hpp"

namespace sanpoll::conformance {
namespace {

using test::Child;
using test::hear;
using test::Role;
using test::say;

// A process that listens, says where, and returns every message of one connection after the other.
class Echo : public ConformanceTest {
public:
    void TestBody() override {}
    int run() {
        ConformanceTest::SetUp();
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
            give_memory(end, 1 << 17);
            for (;;) {
                Polled receive;
                Polled reply;
                if (recv(end, &receive, end.memory.size()) != WSA_IO_PENDING) {
                    break;
                }
                const Result got = san.overlapped_result(end.s, &receive, 1);
                if (got.error != 0 || send(end, &reply, got.bytes) != WSA_IO_PENDING ||
                    san.overlapped_result(end.s, &reply, 1).error != 0) {
                    break;
                }
            }
            if (san.close(end.s) != 0) {
                return 1;
            }
        }
        return 2;
    }
};

const Role echo("conformance-echo", [](const std::vector<std::string>&) { return Echo().run(); });

class ProcessesTest : public ConformanceTest {
protected:
    void SetUp() override {
        ConformanceTest::SetUp();
        start_server();
    }
    void start_server() {
        server = std::make_unique<Child>("conformance-echo", std::vector<std::string>{});
        std::uint32_t ip = 0;
        std::uint32_t port = 0;
        const std::string line = server->hear();
        ASSERT_EQ(std::sscanf(line.c_str(), "%u %u", &ip, &port), 2) << server->errors();
        address = address_of(ip, static_cast<std::uint16_t>(port));
    }
    End connect() {
        End end;
        WSAEVENT event = nullptr;
        end.s = connecting(address, &event);
        end.handle = upcalls.latest_handle();
        EXPECT_EQ(connect_result(end.s, event), 0);
        give_memory(end, 1 << 18);
        return end;
    }
    void expect_echo(End& end, const std::string& message) {
        Polled receive;
        ASSERT_EQ(recv(end, &receive, 1 << 17), WSA_IO_PENDING);
        send_now(end, message);
        const Result back = san.finish(end.s, &receive);
        EXPECT_EQ(back.error, 0);
        EXPECT_EQ(std::string(end.at(0), back.bytes), message);
    }

    std::unique_ptr<Child> server;
    sockaddr_in address{};
};

// [R1.1 R8.1]
TEST_F(ProcessesTest, MessagesOfEverySizeGoThereAndBack) {
    End end = connect();
    for (const std::size_t length : {0U, 1U, 64U, 1000U, 20000U, 100000U}) {
        expect_echo(end, std::string(length, static_cast<char>('a' + length % 26)));
    }
    EXPECT_EQ(san.close(end.s), 0);
}

// [R5.13 R12.1]
TEST_F(ProcessesTest, ConnectionsFollowOneAnother) {
    for (int i = 0; i < 5; ++i) {
        End end = connect();
        expect_echo(end, std::to_string(i));
        EXPECT_EQ(san.close(end.s), 0);
    }
}

// [R17.6 R11.2 R10.12]
TEST_F(ProcessesTest, TheDeathOfThePeersProcessResetsItsConnections) {
    End end = connect();
    expect_echo(end, "alive");
    Polled polled;
    Notified told;
    ASSERT_EQ(recv(end, &polled), WSA_IO_PENDING);
    ASSERT_EQ(recv(end, &told), WSA_IO_PENDING);
    server->kill();
    EXPECT_EQ(san.finish(end.s, &polled).error, WSAECONNRESET);
    expect_upcall(&told, end.handle, WSAECONNRESET, 0);
    Polled later;
    EXPECT_EQ(send(end, &later), WSAECONNRESET);
    EXPECT_EQ(closes_of(end.handle), 0U);
    EXPECT_EQ(san.close(end.s), 0);
}

// [R17.6 R4.3]
TEST_F(ProcessesTest, AfterAProcessDiedItsAddressIsFree) {
    server->kill();
    EXPECT_EQ(server->wait(), -SIGKILL);
    EXPECT_EQ(try_connect(address), WSAECONNRESET);
    start_server();
    End end = connect();
    expect_echo(end, "another one");
    EXPECT_EQ(san.close(end.s), 0);
}

// [R4.5]
TEST_F(ProcessesTest, AProcessThatDiesWithARequestQueuedFailsIt) {
    server->stop();
    WSAEVENT event = nullptr;
    const SOCKET s = connecting(address, &event);
    server->kill();
    const int error = connect_result(s, event);
    EXPECT_TRUE(error == WSAECONNRESET || error == WSAECONNREFUSED || error == WSAETIMEDOUT)
        << error;
}

// [R17.2 B31 F.WSPCleanup.2 R10.11]
TEST_F(ProcessesTest, TheLastCleanupAbortsWhatIsPending) {
    End end = connect();
    Polled polled;
    Notified told;
    ASSERT_EQ(recv(end, &polled), WSA_IO_PENDING);
    ASSERT_EQ(recv(end, &told), WSA_IO_PENDING);
    stop();
    EXPECT_EQ(polled.OffsetHigh, static_cast<DWORD>(WSA_OPERATION_ABORTED));
    expect_upcall(&told, end.handle, WSA_OPERATION_ABORTED, 0);
    EXPECT_EQ(upcalls.upcalls().back().kind, UpcallKind::kCloseSocketHandle);
    EXPECT_EQ(closes_of(end.handle), 1U);
}

}  // namespace
}  // namespace sanpoll::conformance
