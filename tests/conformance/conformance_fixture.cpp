#include "tests/conformance/conformance_fixture.hpp"

#include <algorithm>
#include <cstring>

namespace sanpoll::conformance {

int Condition::function(LPWSABUF caller_id, LPWSABUF caller_data, LPQOS sqos, LPQOS gqos,
                        LPWSABUF callee_id, LPWSABUF callee_data, GROUP* g, DWORD_PTR data) {
    auto& self = *reinterpret_cast<Condition*>(data);
    ++self.calls;
    self.thread = std::this_thread::get_id();
    EXPECT_EQ(caller_id->len, sizeof(sockaddr_in));
    EXPECT_EQ(callee_id->len, sizeof(sockaddr_in));
    std::memcpy(&self.caller, caller_id->buf, sizeof(self.caller));
    std::memcpy(&self.callee, callee_id->buf, sizeof(self.callee));
    self.caller_data.reset();
    if (caller_data != nullptr) {
        self.caller_data.emplace(caller_data->buf, caller_data->len);
    }
    self.callee_room = callee_data != nullptr ? callee_data->len : 0;
    if (!self.callee_data.empty() && self.callee_data.size() <= self.callee_room) {
        self.callee_data.copy(callee_data->buf, self.callee_data.size());
        callee_data->len = static_cast<ULONG>(self.callee_data.size());
    } else if (callee_data != nullptr) {
        callee_data->len = 0;
    }
    self.qos = sqos != nullptr || gqos != nullptr;
    self.group.reset();
    if (g != nullptr) {
        self.group = *g;
    }
    return self.answer(g);
}

void ConformanceTest::SetUp() {
    test::use_address(fabric_under_test().address);
    ProviderTest::SetUp();
}

void ConformanceTest::send_now(End& end, const std::string& message) {
    ASSERT_LE(message.size(), end.memory.size() / 2);
    const std::size_t half = end.memory.size() / 2;
    message.copy(end.at(half), message.size());
    Polled operation;
    ASSERT_EQ(send(end, &operation, message.size(), half), WSA_IO_PENDING);
    const Result result = san.finish(end.s, &operation);
    EXPECT_EQ(result.error, 0);
    EXPECT_EQ(result.bytes, message.size());
}

std::string ConformanceTest::receive_now(End& end, std::size_t room) {
    Polled operation;
    EXPECT_EQ(recv(end, &operation, room), WSA_IO_PENDING);
    const Result result = san.finish(end.s, &operation);
    EXPECT_EQ(result.error, 0);
    return result.error == 0 ? std::string(end.at(0), result.bytes) : std::string();
}

void ConformanceTest::expect_upcall(LPWSAOVERLAPPED operation, SOCKET handle, int error,
                                    DWORD bytes) {
    ASSERT_TRUE(upcalls.wait_for(operation));
    const std::vector<Upcall> made = upcalls.completions(operation);
    ASSERT_EQ(made.size(), 1U);
    EXPECT_EQ(made[0].handle, handle);
    EXPECT_EQ(made[0].error, static_cast<DWORD>(error));
    EXPECT_EQ(made[0].bytes, bytes);
    EXPECT_EQ(made[0].at_entry.OffsetHigh, static_cast<DWORD>(error));
    EXPECT_EQ(made[0].at_entry.Offset, 0U);
    EXPECT_EQ(made[0].at_entry.InternalHigh, bytes);
}

LONG ConformanceTest::events_of(SOCKET s, WSAEVENT reset) {
    WSANETWORKEVENTS events{};
    EXPECT_EQ(san.enum_events(s, reset, &events), 0);
    return events.lNetworkEvents;
}

int ConformanceTest::accept_error(SOCKET listener, Condition& condition, SOCKET* accepted) {
    int error = 0;
    const SOCKET s = san.accept(listener, &error, Condition::function, condition.data());
    if (accepted != nullptr) {
        *accepted = s;
    }
    return error;
}

std::size_t ConformanceTest::completions_of(SOCKET handle, LPWSAOVERLAPPED operation) const {
    const std::vector<Upcall> made = upcalls.completions(operation);
    return static_cast<std::size_t>(std::count_if(
        made.begin(), made.end(), [handle](const Upcall& call) { return call.handle == handle; }));
}

std::size_t ConformanceTest::closes_of(SOCKET handle) const {
    const std::vector<Upcall> closes = upcalls.upcalls(UpcallKind::kCloseSocketHandle);
    return static_cast<std::size_t>(
        std::count_if(closes.begin(), closes.end(),
                      [handle](const Upcall& call) { return call.handle == handle; }));
}

void CalledTest::be_called(int backlog) {
    address = fresh_address();
    accept_event = upcalls.create_event();
    listener = listening(address, backlog);
    client = connecting(address, &connect_event);
    ASSERT_TRUE(wait_for_request(listener, accept_event));
}

}  // namespace sanpoll::conformance
