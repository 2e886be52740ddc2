// A second process that takes sockets over and does with them what it is told.
#pragma once

#include <memory>

#include "tests/conformance/conformance_fixture.hpp"
#include "tests/provider/child_process.hpp"

namespace sanpoll::conformance {

/// The process in which sockets are to go on. It has one socket at a time; each command waits for its
/// answer.
class Taker {
public:
    Taker();
    [[nodiscard]] DWORD pid() const { return static_cast<DWORD>(child_.pid()); }
    /// WSPSocket with the token: the error.
    [[nodiscard]] int take(DWORD token);
    void register_memory();
    void send(const std::string& message);
    [[nodiscard]] std::string receive();
    /// Of its socket: WSPDuplicateSocket for a process.
    [[nodiscard]] DWORD give(DWORD process);
    /// Accepts one request on its listening socket, which it closes; the new socket is its socket then.
    [[nodiscard]] int accept();
    /// WSPAccept on its listening socket, which it keeps, once: the error.
    [[nodiscard]] int accept_and_listen_on();
    [[nodiscard]] DWORD priority();  // SO_GROUP_PRIORITY
    [[nodiscard]] int close();
    /// Connects its socket anew, to an address, and registers memory.
    [[nodiscard]] int connect(const sockaddr_in& address);
    void kill();

private:
    [[nodiscard]] std::string ask(const std::string& command);
    test::Child child_;
};

class DuplicationTest : public PairTest {
protected:
    void SetUp() override {
        if (!fabric_under_test().moves_sockets) {
            GTEST_SKIP() << "a socket of this fabric stays in its process";
        }
        PairTest::SetUp();
    }
    /// WSPDuplicateSocket that must succeed: the token.
    [[nodiscard]] DWORD give(SOCKET s, DWORD process) {
        WSAPROTOCOL_INFOW info{};
        EXPECT_EQ(san.duplicate(s, process, &info), 0);
        EXPECT_NE(info.dwProviderReserved, 0U);
        return info.dwProviderReserved;
    }
    [[nodiscard]] SOCKET take(DWORD token, int* error = nullptr) {
        WSAPROTOCOL_INFOW info{};
        info.dwProviderReserved = token;
        return san.socket(error, AF_INET, SOCK_STREAM, IPPROTO_TCP, &info);
    }
    [[nodiscard]] static DWORD own_pid();
};

}  // namespace sanpoll::conformance
