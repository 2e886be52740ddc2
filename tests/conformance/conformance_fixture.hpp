// What the tests of the suite share, on top of the provider's own fixture. Like that, it reaches the
// provider only through WSPStartupEx and what that hands out.
#pragma once

#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <thread>

#include "tests/conformance/fabric.hpp"
#include "tests/provider/provider_fixture.hpp"

namespace sanpoll::conformance {

using test::ActionScope;
using test::address_of;
using test::Calls;
using test::End;
using test::eventually;
using test::fresh_address;
using test::Knobs;
using test::let_time_pass;
using test::Notified;
using test::Pair;
using test::patiently;
using test::Polled;
using test::RecordingSwitch;
using test::Result;
using test::text;
using test::Upcall;
using test::UpcallKind;

inline constexpr auto kInProgress = static_cast<ULONG_PTR>(WSS_OPERATION_IN_PROGRESS);

/// A condition function with what it was given: pass function and data() to WSPAccept.
struct Condition {
    std::function<int(GROUP*)> answer = [](GROUP*) { return CF_ACCEPT; };
    std::string callee_data;  // what it stores for the peer
    int calls = 0;
    std::thread::id thread;
    sockaddr_in caller{};
    sockaddr_in callee{};
    std::optional<std::string> caller_data;  // nothing: the pointer was NULL
    ULONG callee_room = 0;
    bool qos = false;
    std::optional<GROUP> group;

    Condition() = default;
    explicit Condition(int always) : answer([always](GROUP*) { return always; }) {}

    static int function(LPWSABUF caller_id, LPWSABUF caller_data, LPQOS sqos, LPQOS gqos,
                        LPWSABUF callee_id, LPWSABUF callee_data, GROUP* g, DWORD_PTR data);
    DWORD_PTR data() { return reinterpret_cast<DWORD_PTR>(this); }
};

class ConformanceTest : public test::ProviderTest {
protected:
    Knobs knobs() const override { return fabric_under_test().knobs; }
    void SetUp() override;

    // ---- operations of an end, in its registered memory
    [[nodiscard]] int recv(End& end, LPWSAOVERLAPPED operation, std::size_t length = 64,
                           std::size_t offset = 0) {
        return san.recv(end.s, end.at(offset), length, operation);
    }
    [[nodiscard]] int send(End& end, LPWSAOVERLAPPED operation, std::size_t length = 8,
                           std::size_t offset = 0) {
        return san.send(end.s, end.at(offset), length, operation);
    }
    /// Sends `message` and waits for the send's completion.
    void send_now(End& end, const std::string& message);
    /// Posts a receive of `room` bytes, waits for it, and returns the message.
    [[nodiscard]] std::string receive_now(End& end, std::size_t room = 4096);
    /// Waits for the upcall of an operation and checks that there is one, with these values.
    void expect_upcall(LPWSAOVERLAPPED operation, SOCKET handle, int error, DWORD bytes);

    // ---- events
    /// The record of events, moved out; resets `reset`.
    [[nodiscard]] LONG events_of(SOCKET s, WSAEVENT reset = nullptr);
    [[nodiscard]] int accept_error(SOCKET listener, Condition& condition,
                                   SOCKET* accepted = nullptr);

    /// How many completion upcalls an operation of that handle had. Another socket's operation may have
    /// had the same address before.
    [[nodiscard]] std::size_t completions_of(SOCKET handle, LPWSAOVERLAPPED operation) const;
    /// How many times a handle was closed.
    [[nodiscard]] std::size_t closes_of(SOCKET handle) const;
};

/// A listener with one request that waits, and the event that told of it.
class CalledTest : public ConformanceTest {
protected:
    void be_called(int backlog = 16);
    [[nodiscard]] int accept_error(Condition& condition) {
        return ConformanceTest::accept_error(listener, condition, &accepted);
    }

    sockaddr_in address{};
    SOCKET listener = INVALID_SOCKET;
    SOCKET client = INVALID_SOCKET;
    SOCKET accepted = INVALID_SOCKET;
    WSAEVENT accept_event = nullptr;
    WSAEVENT connect_event = nullptr;
};

/// A connection.
class PairTest : public ConformanceTest {
protected:
    void SetUp() override {
        ConformanceTest::SetUp();
        pair = connected();
    }

    Pair pair;
};

}  // namespace sanpoll::conformance
