// Starts the provider under a recording switch for one test, and connects sockets in it.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "tests/provider/calls.hpp"
#include "tests/provider/patience.hpp"
#include "tests/provider/recording_switch.hpp"

namespace sanpoll::test {

/// Settings of the provider for the time of a test: "mode", "dedicated" is SANPOLL_MODE=dedicated.
using Knobs = std::vector<std::pair<std::string, std::string>>;

void set_knobs(const Knobs& knobs);
void unset_knobs(const Knobs& knobs);

/// An address of this host that no other process and no earlier call has: 127.x.y.z by process id, and
/// the next port.
sockaddr_in fresh_address();
/// From here on the fresh addresses are ports of this one; 0: of the loopback address, as before.
void use_address(std::uint32_t ip);
sockaddr_in address_of(std::uint32_t ip, std::uint16_t port);
/// As "127.0.0.1:5000", for messages and comparisons.
std::string text(const sockaddr_in& address);

/// A connected socket with memory that is registered for both directions.
struct End {
    SOCKET s = INVALID_SOCKET;
    SOCKET handle = INVALID_SOCKET;  // the switch's
    std::vector<char> memory;
    HANDLE region = nullptr;

    [[nodiscard]] char* at(std::size_t offset) { return memory.data() + offset; }
};

struct Pair {
    End client;
    End server;
};

/// Each test gets a provider that was started for it; afterwards the switch must have nothing to complain
/// about and no handle left.
class ProviderTest : public testing::Test {
protected:
    void SetUp() override;
    void TearDown() override;

    /// Settings of this fixture's provider.
    virtual Knobs knobs() const { return {}; }
    /// For tests that end it themselves.
    void stop();

    [[nodiscard]] SOCKET socket();
    [[nodiscard]] SOCKET bound(const sockaddr_in& address = fresh_address());
    [[nodiscard]] SOCKET listening(const sockaddr_in& address, int backlog = 16);
    /// Bound, told of FD_CONNECT by *event, and on its way to `address`.
    [[nodiscard]] SOCKET connecting(const sockaddr_in& address, WSAEVENT* event = nullptr);
    /// Waits for the socket's FD_CONNECT and returns its error number.
    [[nodiscard]] int connect_result(SOCKET s, WSAEVENT event);
    /// Connects, waits, closes the socket, and returns the error number.
    [[nodiscard]] int try_connect(const sockaddr_in& address);
    /// Waits until a request is queued at the listener, without taking it.
    [[nodiscard]] bool wait_for_request(SOCKET listener, WSAEVENT event);

    /// A connection; each end with `bytes` of registered memory.
    [[nodiscard]] Pair connected(std::size_t bytes = 1 << 16);
    /// One end connected, the other broken by its peer's close.
    [[nodiscard]] End broken();
    void give_memory(End& end, std::size_t bytes);
    /// Sends text from one end, receives it at the other, with the upper half of their memories.
    void expect_delivery(End& from, End& to, const std::string& message);

    RecordingSwitch& upcalls = RecordingSwitch::instance();
    Calls san;

private:
    bool running_ = false;
};

}  // namespace sanpoll::test
