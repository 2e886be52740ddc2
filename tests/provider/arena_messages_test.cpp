// Two processes with memory of the provider's: long messages are copied once, straight out of it, and nothing is
// different for whoever sends and receives them.
#include <arpa/inet.h>

#include <cstring>
#include <deque>
#include <string>

#include "tests/provider/arena_fixture.hpp"
#include "tests/provider/child_process.hpp"

namespace sanpoll::test {
namespace {

constexpr std::size_t kMiB = 1U << 20;
constexpr std::size_t kRoom = 4 * kMiB;  // of a message, in either half of a buffer

// Every byte follows from the message's number.
char byte_of(std::uint64_t number, std::size_t at) {
    return static_cast<char>((at ^ (at >> 8)) * 31 + number * 17);
}
void fill(char* to, std::size_t length, std::uint64_t number) {
    for (std::size_t i = 0; i < length; ++i) {
        to[i] = byte_of(number, i);
    }
}
bool is(const char* bytes, std::size_t length, std::uint64_t number) {
    for (std::size_t i = 0; i < length; ++i) {
        if (bytes[i] != byte_of(number, i)) {
            return false;
        }
    }
    return true;
}

// Returns every message out of the arena that it was received into; "flood" sends messages of kRoom instead.
class Server : public ArenaUser {
public:
    void TestBody() override {}
    int run(bool floods) {
        ProviderTest::SetUp();
        ask_for_functions();
        const sockaddr_in address = fresh_address();
        const SOCKET listener = listening(address);
        const WSAEVENT event = upcalls.create_event();
        char* const buffer = allocate(2 * kRoom);
        if (buffer == nullptr) {
            return 3;
        }
        say(std::to_string(ntohl(address.sin_addr.s_addr)) + " " +
            std::to_string(ntohs(address.sin_port)));
        while (wait_for_request(listener, event)) {
            const SOCKET s = san.accept(listener);
            if (s == INVALID_SOCKET) {
                continue;
            }
            EXPECT_NE(san.register_memory(s, buffer, 2 * kRoom, MEM_READWRITE), nullptr);
            floods ? flood(s, buffer) : echo(s, buffer);
            EXPECT_EQ(san.close(s), 0);
        }
        return 2;
    }

private:
    void echo(SOCKET s, char* buffer) {
        for (;;) {
            Polled receive;
            if (san.recv(s, buffer, kRoom, &receive) != WSA_IO_PENDING) {
                return;
            }
            const Result received = san.overlapped_result(s, &receive, 1);
            Polled sent;
            if (received.error != 0 ||
                san.send(s, buffer, received.bytes, &sent) != WSA_IO_PENDING ||
                san.overlapped_result(s, &sent, 1).error != 0) {
                return;
            }
        }
    }
    void flood(SOCKET s, char* buffer) {
        for (std::uint64_t number = 0;; ++number) {
            fill(buffer, kRoom, number);
            Polled sent;
            if (san.send(s, buffer, kRoom, &sent) != WSA_IO_PENDING ||
                san.overlapped_result(s, &sent, 1).error != 0) {
                return;
            }
        }
    }
};

const Role arena_server("arena", [](const std::vector<std::string>& arguments) {
    return Server().run(!arguments.empty() && arguments[0] == "flood");
});

class ArenaMessagesTest : public ArenaUser {
protected:
    void SetUp() override {
        ProviderTest::SetUp();
        ASSERT_NO_FATAL_FAILURE(ask_for_functions());
        memory = allocate(2 * kRoom);
        if (memory == nullptr) {
            GTEST_SKIP() << "libmimalloc is not installed";
        }
    }
    void TearDown() override {
        if (memory != nullptr) {
            give_back(memory);
        }
        ArenaUser::TearDown();
    }
    void connect(const std::vector<std::string>& arguments = {}, const Knobs& settings = {}) {
        server = std::make_unique<Child>("arena", arguments, settings);
        std::uint32_t ip = 0;
        std::uint32_t port = 0;
        const std::string line = server->hear();
        ASSERT_EQ(std::sscanf(line.c_str(), "%u %u", &ip, &port), 2) << server->errors();
        WSAEVENT event = nullptr;
        s = connecting(address_of(ip, static_cast<std::uint16_t>(port)), &event);
        ASSERT_EQ(connect_result(s, event), 0);
        ASSERT_NE(san.register_memory(s, memory, 2 * kRoom, MEM_READWRITE), nullptr);
    }
    void wait_until_shared() {
        ASSERT_TRUE(eventually([&] { return arenas_of(s).starts_with("shared: "); }))
            << arenas_of(s);
    }
    void expect_echo(std::size_t length, std::uint64_t number) {
        Polled receive;
        Polled sent;
        fill(memory, length, number);
        std::memset(memory + kRoom, 0, length);
        ASSERT_EQ(san.recv(s, memory + kRoom, kRoom, &receive), WSA_IO_PENDING);
        ASSERT_EQ(san.send(s, memory, length, &sent), WSA_IO_PENDING);
        EXPECT_EQ(san.finish(s, &receive).bytes, length);
        EXPECT_EQ(san.finish(s, &sent).error, 0);
        EXPECT_TRUE(is(memory + kRoom, length, number)) << length;
    }

    std::unique_ptr<Child> server;
    SOCKET s = INVALID_SOCKET;
    char* memory = nullptr;
};

TEST_F(ArenaMessagesTest, MessagesOfEverySizeGoThereAndBack) {
    ASSERT_NO_FATAL_FAILURE(connect());
    ASSERT_NO_FATAL_FAILURE(wait_until_shared());
    std::uint64_t number = 0;
    for (int round = 0; round < 3; ++round) {
        for (const std::size_t length :
             {std::size_t{0}, std::size_t{1}, std::size_t{1000}, std::size_t{16384},
              std::size_t{16385}, std::size_t{100000}, kMiB, kRoom}) {
            ASSERT_NO_FATAL_FAILURE(expect_echo(length, ++number));
        }
    }
    EXPECT_EQ(san.close(s), 0);
}

TEST_F(ArenaMessagesTest, OffAtThePeerIsSaidAndTheMessagesArriveAllTheSame) {
    ASSERT_NO_FATAL_FAILURE(connect({}, {{"share_arenas", "off"}}));
    EXPECT_EQ(arenas_of(s), "not shared: the peer has SANPOLL_SHARE_ARENAS=off");
    ASSERT_NO_FATAL_FAILURE(expect_echo(kRoom, 1));
    EXPECT_EQ(san.close(s), 0);
}

TEST_F(ArenaMessagesTest, AKilledPeersPendingSendsAreReset) {
    ASSERT_NO_FATAL_FAILURE(connect());
    ASSERT_NO_FATAL_FAILURE(wait_until_shared());
    ASSERT_NO_FATAL_FAILURE(expect_echo(kRoom, 1));
    server->stop();
    std::deque<Polled> sends(10);
    for (Polled& operation : sends) {
        ASSERT_EQ(san.send(s, memory, kRoom, &operation), WSA_IO_PENDING);
    }
    server->kill();
    for (Polled& operation : sends) {
        EXPECT_EQ(san.finish(s, &operation).error, WSAECONNRESET);
    }
    EXPECT_EQ(san.close(s), 0);
}

// Wherever the sender is when it dies: what is received is whole, then comes the reset.
TEST_F(ArenaMessagesTest, ASenderThatIsKilledInTheMiddleSpoilsNothing) {
    for (int round = 0; round < 5; ++round) {
        ASSERT_NO_FATAL_FAILURE(connect({"flood"}));
        std::uint64_t number = 0;
        int error = 0;
        while (error == 0) {
            Polled receive;
            error = san.recv(s, memory, kRoom, &receive);
            if (error == WSAECONNRESET) {
                break;  // seen between two receives
            }
            ASSERT_EQ(error, WSA_IO_PENDING);
            if (number == static_cast<std::uint64_t>(3 + round)) {
                server->kill();
            }
            const Result received = san.finish(s, &receive);
            error = received.error;
            if (error == 0) {
                ASSERT_EQ(received.bytes, kRoom);
                ASSERT_TRUE(is(memory, kRoom, number)) << number;
                ++number;
            }
        }
        EXPECT_EQ(error, WSAECONNRESET);
        EXPECT_GE(number, static_cast<std::uint64_t>(3 + round));
        EXPECT_EQ(san.close(s), 0);
    }
}

}  // namespace
}  // namespace sanpoll::test
