// fork() after a start: the child's calls fail cleanly and the parent goes on.
#include <sys/wait.h>
#include <unistd.h>

#include "tests/provider/child_process.hpp"
#include "tests/provider/provider_fixture.hpp"

namespace sanpoll::test {
namespace {

// Runs `body` in a forked child and returns its value, or minus the signal. The child may not use
// gtest's assertions: it only says what it found.
template <typename Body>
int in_forked_child(Body body) {
    const pid_t pid = ::fork();
    if (pid == 0) {
        ::_exit(body());
    }
    int status = 0;
    (void)::waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

class ForkTest : public ProviderTest, public testing::WithParamInterface<const char*> {
protected:
    Knobs knobs() const override { return {{"mode", GetParam()}}; }
};

TEST_P(ForkTest, TheChildsCallsAnswerNetDown) {  // project decision
    Pair pair = connected();
    const SOCKET s = pair.client.s;
    const int line = in_forked_child([&]() -> int {
        INT error = 0;
        char byte = 0;
        DWORD number = 0;
        INT length = 16;
        WSABUF buffer{1, pair.client.at(0)};
        const sockaddr_in address = address_of(INADDR_LOOPBACK, 4000);
        const auto* name = reinterpret_cast<const sockaddr*>(&address);
        WSANETWORKEVENTS events{};
        WSAOVERLAPPED operation{};
        operation.Internal = WSS_OPERATION_IN_PROGRESS;
        const auto down = [&](bool failed) {
            const bool good = failed && error == WSAENETDOWN;
            error = 0;
            return good;
        };
        const WSPPROC_TABLE& table = san.table;
        if (!down(table.lpWSPSocket(AF_INET, SOCK_STREAM, IPPROTO_TCP, nullptr, 0,
                                    WSA_FLAG_OVERLAPPED, &error) == INVALID_SOCKET)) {
            return 1;
        }
        if (!down(table.lpWSPSend(s, &buffer, 1, &number, 0, &operation, nullptr, nullptr,
                                  &error) != 0)) {
            return 2;
        }
        if (!down(table.lpWSPRecv(s, &buffer, 1, &number, &number, &operation, nullptr, nullptr,
                                  &error) != 0)) {
            return 3;
        }
        if (!down(table.lpWSPGetOverlappedResult(s, &operation, &number, 1, &number, &error) ==
                  0)) {
            return 4;
        }
        if (!down(table.lpWSPCloseSocket(s, &error) != 0)) {
            return 5;
        }
        if (!down(table.lpWSPBind(s, name, 16, &error) != 0)) {
            return 6;
        }
        if (!down(table.lpWSPListen(s, 5, &error) != 0)) {
            return 7;
        }
        if (!down(table.lpWSPConnect(s, name, 16, nullptr, nullptr, nullptr, nullptr, &error) !=
                  0)) {
            return 8;
        }
        if (!down(table.lpWSPAccept(s, nullptr, nullptr, nullptr, 0, &error) == INVALID_SOCKET)) {
            return 9;
        }
        if (!down(table.lpWSPEventSelect(s, nullptr, 0, &error) != 0)) {
            return 10;
        }
        if (!down(table.lpWSPEnumNetworkEvents(s, nullptr, &events, &error) != 0)) {
            return 11;
        }
        if (!down(table.lpWSPIoctl(s, SIO_ADDRESS_LIST_QUERY, nullptr, 0, nullptr, 0, &number,
                                   nullptr, nullptr, nullptr, &error) != 0)) {
            return 12;
        }
        if (!down(san.register_function(s, &byte, 1, MEM_READ, &error) == nullptr)) {
            return 13;
        }
        if (!down(san.deregister_function(s, pair.client.region, &error) != 0)) {
            return 14;
        }
        if (!down(table.lpWSPGetSockOpt(s, WSP_SOL_SOCKET, SO_MAX_MSG_SIZE, &byte, &length,
                                        &error) != 0)) {
            return 15;
        }
        if (!down(table.lpWSPCleanup(&error) != 0)) {
            return 16;
        }
        return 0;
    });
    EXPECT_EQ(line, 0);
    expect_delivery(pair.client, pair.server, "the parent goes on");
}

TEST_P(ForkTest, AStartInTheChildIsRefused) {  // project decision
    const int answered = in_forked_child([&] {
        WSPUPCALLTABLEEX table = upcalls.table();
        WSPPROC_TABLE procs{};
        WSPDATA data{};
        WSAPROTOCOL_INFOW info{};
        return Calls::startup()(MAKEWORD(2, 2), &data, &info, &table, &procs) == WSASYSNOTREADY ? 0
                                                                                                : 1;
    });
    EXPECT_EQ(answered, 0);
}

TEST_P(ForkTest, TheParentGoesOnWhileTheChildLives) {
    Pair pair = connected();
    int pipe_ends[2];
    ASSERT_EQ(::pipe(pipe_ends), 0);
    const pid_t child = ::fork();
    if (child == 0) {
        char byte = 0;
        ::close(pipe_ends[1]);
        (void)!::read(pipe_ends[0], &byte, 1);  // until the parent is done
        ::_exit(0);
    }
    ::close(pipe_ends[0]);
    for (int i = 0; i < 100; ++i) {
        expect_delivery(pair.client, pair.server, std::to_string(i));
    }
    Polled receive;
    ASSERT_EQ(san.recv(pair.server.s, pair.server.at(0), 8, &receive), WSA_IO_PENDING);
    EXPECT_EQ(san.close(pair.client.s), 0);
    EXPECT_EQ(san.finish(pair.server.s, &receive).error, WSAECONNRESET);
    Pair next = connected();
    expect_delivery(next.client, next.server, "connections are made too");
    stop();
    ::close(pipe_ends[1]);
    int status = 0;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
}

TEST_P(ForkTest, AListenersAddressIsFreeAfterItsCloseAlthoughAChildLives) {
    const sockaddr_in address = fresh_address();
    const SOCKET listener = listening(address);
    int pipe_ends[2];
    ASSERT_EQ(::pipe(pipe_ends), 0);
    const pid_t child = ::fork();
    if (child == 0) {
        char byte = 0;
        ::close(pipe_ends[1]);
        (void)!::read(pipe_ends[0], &byte, 1);
        ::_exit(0);
    }
    ::close(pipe_ends[0]);
    EXPECT_EQ(san.close(listener), 0);
    EXPECT_EQ(try_connect(address), WSAECONNRESET);
    (void)listening(address);
    ::close(pipe_ends[1]);
    int status = 0;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
}

INSTANTIATE_TEST_SUITE_P(Modes, ForkTest, testing::Values("inline", "dedicated"),
                         [](const auto& mode) { return std::string(mode.param); });

}  // namespace
}  // namespace sanpoll::test
