// Sockets that are given to the own process.
#pragma once

#include <unistd.h>

#include <string>

#include "tests/provider/provider_fixture.hpp"

namespace sanpoll::test {

class DuplicateTest : public ProviderTest {
protected:
    /// The token of a duplicate for this process; 0 if it was refused.
    [[nodiscard]] WSAPROTOCOL_INFOW leave(SOCKET s) {
        WSAPROTOCOL_INFOW info{};
        EXPECT_EQ(san.duplicate(s, static_cast<DWORD>(::getpid()), &info), 0);
        EXPECT_NE(info.dwProviderReserved, 0U);
        return info;
    }
    /// WSPSocket with the token.
    [[nodiscard]] SOCKET arrive(WSAPROTOCOL_INFOW info, int expected = 0) {
        int error = 0;
        const SOCKET s =
            san.socket(&error, FROM_PROTOCOL_INFO, FROM_PROTOCOL_INFO, FROM_PROTOCOL_INFO, &info);
        EXPECT_EQ(error, expected);
        return s;
    }
    /// The connection at a new descriptor of this process, the old one closed.
    void swap(End& end, std::size_t bytes = 1 << 16) {
        const WSAPROTOCOL_INFOW info = leave(end.s);
        const SOCKET old = end.s;
        end.s = arrive(info);
        ASSERT_NE(end.s, INVALID_SOCKET);
        EXPECT_NE(end.s, old);
        end.handle = upcalls.latest_handle();
        give_memory(end, bytes);
        EXPECT_EQ(san.close(old), 0);
    }
    [[nodiscard]] Result receive(End& end, std::size_t room = 4096) {
        Polled operation;
        const int error = san.recv(end.s, end.at(0), room, &operation);
        return error == WSA_IO_PENDING ? san.finish(end.s, &operation) : Result{error, 0, 0};
    }
    void send_text(End& end, const std::string& text) {
        text.copy(end.at(0), text.size());
        Polled operation;
        ASSERT_EQ(san.send(end.s, end.at(0), text.size(), &operation), WSA_IO_PENDING);
        ASSERT_EQ(san.finish(end.s, &operation).error, 0);
    }
    void expect_text(End& end, const std::string& text) {
        const Result result = receive(end);
        ASSERT_EQ(result.error, 0);
        EXPECT_EQ(std::string(end.at(0), result.bytes), text);
    }
};

}  // namespace sanpoll::test
