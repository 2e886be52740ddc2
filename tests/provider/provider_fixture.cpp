#include "tests/provider/provider_fixture.hpp"

#include <arpa/inet.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>

namespace sanpoll::test {
namespace {

std::atomic<std::uint32_t> chosen_ip{0};

std::string variable(const std::string& knob) {
    std::string name = "SANPOLL_";
    for (const char c : knob) {
        name += static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    }
    return name;
}

}  // namespace

void set_knobs(const Knobs& knobs) {
    for (const auto& [name, value] : knobs) {
        ::setenv(variable(name).c_str(), value.c_str(), 1);
    }
}

void unset_knobs(const Knobs& knobs) {
    for (const auto& [name, value] : knobs) {
        ::unsetenv(variable(name).c_str());
    }
}

sockaddr_in address_of(std::uint32_t ip, std::uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(ip);
    return address;
}

sockaddr_in fresh_address() {
    static std::atomic<std::uint32_t> next{0};
    const auto pid = static_cast<std::uint32_t>(::getpid());
    if (const std::uint32_t ip = chosen_ip.load(); ip != 0) {
        // Processes that share an address begin far from each other's ports.
        return address_of(
            ip, static_cast<std::uint16_t>(1024 + (pid * 7001U + next.fetch_add(1)) % 60000));
    }
    const std::uint32_t loopback = (127U << 24) | (1U << 23) | (pid & 0x7FFFFFU);
    return address_of(loopback, static_cast<std::uint16_t>(1024 + next.fetch_add(1) % 60000));
}

void use_address(std::uint32_t ip) { chosen_ip = ip; }

std::string text(const sockaddr_in& address) {
    char ip[INET_ADDRSTRLEN] = {};
    ::inet_ntop(AF_INET, &address.sin_addr, ip, sizeof(ip));
    return std::string(ip) + ":" + std::to_string(ntohs(address.sin_port));
}

void ProviderTest::SetUp() {
    upcalls.reset();
    const Knobs settings = knobs();
    set_knobs(settings);
    const int error = san.start();
    unset_knobs(settings);
    ASSERT_EQ(error, 0);
    running_ = true;
}

void ProviderTest::TearDown() {
    if (running_) {
        stop();
    }
    EXPECT_EQ(upcalls.open_handles(), 0U);
    EXPECT_EQ(upcalls.violations(), std::vector<std::string>{});
}

void ProviderTest::stop() {
    running_ = false;
    EXPECT_EQ(san.cleanup(), 0);
}

SOCKET ProviderTest::socket() {
    const SOCKET s = san.socket();
    EXPECT_NE(s, INVALID_SOCKET);
    return s;
}

SOCKET ProviderTest::bound(const sockaddr_in& address) {
    const SOCKET s = socket();
    EXPECT_EQ(san.bind(s, address), 0);
    return s;
}

SOCKET ProviderTest::listening(const sockaddr_in& address, int backlog) {
    const SOCKET s = bound(address);
    EXPECT_EQ(san.listen(s, backlog), 0);
    return s;
}

SOCKET ProviderTest::connecting(const sockaddr_in& address, WSAEVENT* event) {
    const SOCKET s = bound();
    const WSAEVENT made = upcalls.create_event();
    EXPECT_EQ(san.event_select(s, made, FD_CONNECT), 0);
    EXPECT_EQ(san.connect(s, address), WSAEWOULDBLOCK);
    if (event != nullptr) {
        *event = made;
    }
    return s;
}

int ProviderTest::connect_result(SOCKET s, WSAEVENT event) {
    if (!upcalls.wait_for(event)) {
        ADD_FAILURE() << "no FD_CONNECT came";
        return -1;
    }
    WSANETWORKEVENTS events{};
    EXPECT_EQ(san.enum_events(s, event, &events), 0);
    EXPECT_EQ(events.lNetworkEvents, FD_CONNECT);
    return events.iErrorCode[FD_CONNECT_BIT];
}

int ProviderTest::try_connect(const sockaddr_in& address) {
    WSAEVENT event = nullptr;
    const SOCKET s = connecting(address, &event);
    const int error = connect_result(s, event);
    EXPECT_EQ(san.close(s), 0);
    return error;
}

bool ProviderTest::wait_for_request(SOCKET listener, WSAEVENT event) {
    return san.event_select(listener, event, FD_ACCEPT) == 0 && upcalls.wait_for(event);
}

void ProviderTest::give_memory(End& end, std::size_t bytes) {
    end.memory.assign(bytes, '\0');
    end.region = san.register_memory(end.s, end.memory.data(), bytes, MEM_READWRITE);
    EXPECT_NE(end.region, nullptr);
}

Pair ProviderTest::connected(std::size_t bytes) {
    Pair pair;
    const sockaddr_in address = fresh_address();
    const SOCKET listener = listening(address);
    const WSAEVENT accept_event = upcalls.create_event();
    WSAEVENT connect_event = nullptr;
    pair.client.s = connecting(address, &connect_event);
    pair.client.handle = upcalls.latest_handle();
    EXPECT_TRUE(wait_for_request(listener, accept_event));
    pair.server.s = san.accept(listener);
    pair.server.handle = upcalls.latest_handle();
    EXPECT_NE(pair.server.s, INVALID_SOCKET);
    EXPECT_EQ(connect_result(pair.client.s, connect_event), 0);
    EXPECT_EQ(san.close(listener), 0);
    give_memory(pair.client, bytes);
    give_memory(pair.server, bytes);
    return pair;
}

End ProviderTest::broken() {
    Pair pair = connected();
    Polled receive;
    EXPECT_EQ(san.recv(pair.client.s, pair.client.at(0), 16, &receive), WSA_IO_PENDING);
    EXPECT_EQ(san.close(pair.server.s), 0);
    EXPECT_EQ(san.finish(pair.client.s, &receive).error, WSAECONNRESET);
    return std::move(pair.client);
}

void ProviderTest::expect_delivery(End& from, End& to, const std::string& message) {
    ASSERT_LE(message.size(), from.memory.size() / 2);
    char* const out = from.at(from.memory.size() / 2);
    char* const in = to.at(to.memory.size() / 2);
    message.copy(out, message.size());
    std::memset(in, 0, message.size());
    Polled receive;
    Polled send;
    ASSERT_EQ(san.recv(to.s, in, to.memory.size() / 2, &receive), WSA_IO_PENDING);
    ASSERT_EQ(san.send(from.s, out, message.size(), &send), WSA_IO_PENDING);
    const Result received = san.finish(to.s, &receive);
    EXPECT_EQ(received.error, 0);
    EXPECT_EQ(std::string(in, received.bytes), message);
    EXPECT_EQ(san.finish(from.s, &send).error, 0);
}

}  // namespace sanpoll::test
