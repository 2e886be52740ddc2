// Two processes with memory of the provider's: RDMA into it is done by the initiator, and the other process neither has to
// do anything nor can be surprised by it later.
#include <arpa/inet.h>
#include <signal.h>

#include <chrono>
#include <cstring>
#include <string>
#include <thread>

#include "tests/provider/arena_fixture.hpp"
#include "tests/provider/child_process.hpp"
#include "tests/provider/rdma_fixture.hpp"

namespace sanpoll::test {
namespace {

constexpr std::size_t kRoom = 8U << 20;

std::string to_hex(const Exposed& exposed) {
    std::string text;
    char two[3];
    for (DWORD i = 0; i < exposed.length; ++i) {
        std::snprintf(two, sizeof(two), "%02x", static_cast<unsigned char>(exposed.block[i]));
        text += two;
    }
    return text;
}
Exposed from_hex(const std::string& text) {
    Exposed exposed;
    exposed.length = static_cast<DWORD>(text.size() / 2);
    for (DWORD i = 0; i < exposed.length && i < exposed.block.size(); ++i) {
        exposed.block[i] = static_cast<char>(std::stoi(text.substr(2 * i, 2), nullptr, 16));
    }
    return exposed;
}

// One end, with one buffer that is registered, and exposed when it is asked to be.
class StoreUser : public ArenaUser {
protected:
    void use(SOCKET socket) {
        s = socket;
        region = san.register_memory(s, memory, kRoom, MEM_READWRITE);
        EXPECT_NE(region, nullptr);
    }
    [[nodiscard]] Exposed expose() {
        Exposed exposed;
        EXPECT_EQ(san.register_rdma(s, memory, kRoom, MEM_READWRITE, exposed.block.data(),
                                    &exposed.length),
                  0);
        return exposed;
    }
    [[nodiscard]] int conceal(Exposed& exposed) {
        return san.deregister_rdma(s, exposed.block.data(), exposed.length);
    }
    /// The whole operation: its error.
    int move(bool writes, char* at, std::size_t bytes, Exposed& there, DWORD offset = 0) {
        WSABUFEX buffer{static_cast<ULONG>(bytes), at, region};
        Polled operation;
        const int error = writes ? san.rdma_write(s, &buffer, 1, there.block.data(), there.length,
                                                  offset, &operation)
                                 : san.rdma_read(s, &buffer, 1, there.block.data(), there.length,
                                                 offset, &operation);
        return error == WSA_IO_PENDING ? san.finish(s, &operation).error : error;
    }
    [[nodiscard]] bool stores() { return arenas_of(s).find("store") != std::string::npos; }

    SOCKET s = INVALID_SOCKET;
    char* memory = nullptr;
    HANDLE region = nullptr;
};

// The other process: calls the provider only when it is told to.
class StoreServer : public StoreUser {
public:
    void TestBody() override {}
    int run() {
        ProviderTest::SetUp();
        ask_for_functions();
        memory = allocate(kRoom);
        if (memory == nullptr) {
            return 3;
        }
        const sockaddr_in address = fresh_address();
        const SOCKET listener = listening(address);
        const WSAEVENT event = upcalls.create_event();
        say(std::to_string(ntohl(address.sin_addr.s_addr)) + " " +
            std::to_string(ntohs(address.sin_port)));
        if (!wait_for_request(listener, event)) {
            return 2;
        }
        use(san.accept(listener));
        Exposed exposed;
        for (std::string line = hear(); !line.empty(); line = hear()) {
            if (line == "expose") {
                exposed = expose();
                say(to_hex(exposed));
            } else if (line == "conceal") {
                say(std::to_string(conceal(exposed)));
            } else if (line.starts_with("fill")) {
                fill(memory, kRoom, std::stoul(line.substr(5)));
                say("filled");
            } else if (line.starts_with("holds")) {
                come_after_the_core();
                say(holds(memory, kRoom, std::stoul(line.substr(6))) ? "yes" : "no");
            } else if (line == "close") {
                say(std::to_string(san.close(s)));
            } else if (line.starts_with("flood")) {
                const std::size_t space = line.rfind(' ');
                flood(std::stoul(line.substr(6)), from_hex(line.substr(space + 1)));
            }
        }
        return 0;
    }

private:
    // What came by requests was copied by a thread of this process, and no message has told of it. On a connection
    // that has ended there is nothing to come after.
    void come_after_the_core() {
        Exposed exposed;
        if (san.register_rdma(s, memory, kRoom, MEM_READWRITE, exposed.block.data(),
                              &exposed.length) == 0) {
            EXPECT_EQ(conceal(exposed), 0);
        }
    }
    // Writes again and again, until it is ended: so many bytes at once, all over the room.
    void flood(std::size_t bytes, Exposed there) {
        say("flooding");
        for (std::size_t number = 1;; ++number) {
            std::memset(memory, static_cast<int>(number), bytes);
            const auto offset = static_cast<DWORD>(number % (kRoom / bytes) * bytes);
            if (move(true, memory, bytes, there, offset) != 0) {
                return;
            }
        }
    }
};

const Role store_server("store",
                        [](const std::vector<std::string>&) { return StoreServer().run(); });

class ArenaRdmaTest : public StoreUser {
protected:
    void SetUp() override {
        ProviderTest::SetUp();
        ASSERT_NO_FATAL_FAILURE(ask_for_functions());
        memory = allocate(kRoom);
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
    Knobs knobs() const override { return {{"hugepages", "off"}}; }
    void connect(Knobs settings = {}) {
        settings.emplace_back("hugepages", "off");
        server = std::make_unique<Child>("store", std::vector<std::string>{}, settings);
        std::uint32_t ip = 0;
        std::uint32_t port = 0;
        const std::string line = server->hear();
        ASSERT_EQ(std::sscanf(line.c_str(), "%u %u", &ip, &port), 2) << server->errors();
        WSAEVENT event = nullptr;
        const SOCKET made = connecting(address_of(ip, static_cast<std::uint16_t>(port)), &event);
        ASSERT_EQ(connect_result(made, event), 0);
        use(made);
    }
    void connect_and_share() {
        ASSERT_NO_FATAL_FAILURE(connect());
        ASSERT_TRUE(eventually([&] { return stores(); })) << arenas_of(s);
    }
    static std::string flood_of(std::size_t bytes, const Exposed& ours) {
        return "flood " + std::to_string(bytes) + " " + to_hex(ours);
    }
    std::string ask(const std::string& command) {
        server->say(command);
        return server->hear();
    }

    std::unique_ptr<Child> server;
};

TEST_F(ArenaRdmaTest, AStoppedProcessIsWrittenToAndReadFrom) {
    ASSERT_NO_FATAL_FAILURE(connect_and_share());
    Exposed there = from_hex(ask("expose"));
    server->stop();
    for (const std::size_t length : {std::size_t{1}, std::size_t{8}, std::size_t{4096}, kRoom}) {
        fill(memory, length, length);
        ASSERT_EQ(move(true, memory, length, there), 0) << length;
        std::memset(memory, 0, length);
        ASSERT_EQ(move(false, memory, length, there), 0) << length;
        ASSERT_TRUE(holds(memory, length, length)) << length;
    }
    ASSERT_EQ(::kill(server->pid(), SIGCONT), 0);
    EXPECT_EQ(ask("holds " + std::to_string(kRoom)), "yes");
    EXPECT_EQ(ask("conceal"), "0");
    EXPECT_EQ(san.close(s), 0);
}

TEST_F(ArenaRdmaTest, WhatIsConcealedIsRefused) {
    ASSERT_NO_FATAL_FAILURE(connect_and_share());
    Exposed there = from_hex(ask("expose"));
    EXPECT_EQ(ask("fill 7"), "filled");
    EXPECT_EQ(ask("conceal"), "0");
    EXPECT_EQ(move(true, memory, 100, there), WSAECONNABORTED);
    EXPECT_EQ(ask("holds 7"), "yes");
    EXPECT_EQ(san.close(s), 0);
}

TEST_F(ArenaRdmaTest, OffAtThePeerTheWritesComeAllTheSame) {
    for (const char* value : {"off", "read"}) {
        ASSERT_NO_FATAL_FAILURE(connect({{"share_arenas", value}}));
        Exposed there = from_hex(ask("expose"));
        fill(memory, kRoom, 3);
        ASSERT_EQ(move(true, memory, 100, there), 0);
        ASSERT_EQ(move(true, memory, kRoom, there), 0);
        EXPECT_FALSE(stores());
        EXPECT_EQ(ask("holds 3"), "yes");
        EXPECT_EQ(san.close(s), 0);
    }
}

TEST_F(ArenaRdmaTest, OneThatCloses) {
    ASSERT_NO_FATAL_FAILURE(connect_and_share());
    Exposed there = from_hex(ask("expose"));
    EXPECT_EQ(move(true, memory, 100, there), 0);
    EXPECT_EQ(ask("close"), "0");
    EXPECT_EQ(ask("fill 4"), "filled");
    EXPECT_NE(move(true, memory, kRoom, there), 0);
    EXPECT_EQ(ask("holds 4"), "yes");
    EXPECT_EQ(san.close(s), 0);
}

// Somewhere in a write, most of the time; where it is not, another one is tried.
TEST_F(ArenaRdmaTest, AWriterThatIsStoppedKeepsTheMemoryInUseUntilItEnds) {
    bool in_use = false;
    for (int tries = 0; tries < 20 && !in_use; ++tries) {
        ASSERT_NO_FATAL_FAILURE(connect_and_share());
        Exposed ours = expose();
        ASSERT_EQ(ask(flood_of(kRoom, ours)), "flooding");
        const char before = *static_cast<volatile char*>(memory);
        ASSERT_TRUE(eventually([&] { return *static_cast<volatile char*>(memory) != before; }));
        server->stop();
        const int error = conceal(ours);
        if (error == WSAEINVAL) {
            in_use = true;
            EXPECT_EQ(conceal(ours), WSAEINVAL);
            server->kill();
            EXPECT_TRUE(eventually([&] { return conceal(ours) == 0; }));
        } else {
            EXPECT_EQ(error, 0);
            std::memset(memory, 0x66, kRoom);
            ASSERT_EQ(::kill(server->pid(), SIGCONT), 0);
            std::this_thread::sleep_for(std::chrono::milliseconds(2));
            server->stop();
            for (std::size_t i = 0; i < kRoom; ++i) {
                ASSERT_EQ(memory[i], 0x66) << "written to after it was deregistered";
            }
            server->kill();
        }
        EXPECT_EQ(san.close(s), 0);
    }
    EXPECT_TRUE(in_use);
}

TEST_F(ArenaRdmaTest, AWriterThatIsKilledLeavesNothingBehind) {
    for (int round = 0; round < 5; ++round) {
        ASSERT_NO_FATAL_FAILURE(connect_and_share());
        Exposed ours = expose();
        ASSERT_EQ(ask(flood_of(kRoom, ours)), "flooding");
        std::this_thread::sleep_for(std::chrono::milliseconds(round));
        server->kill();
        EXPECT_TRUE(eventually([&] { return conceal(ours) == 0; }));
        EXPECT_EQ(san.close(s), 0);
    }
}

// A close does not wait for it for ever.
TEST_F(ArenaRdmaTest, AnEndClosesAlthoughTheWriterIsStopped) {
    ASSERT_NO_FATAL_FAILURE(connect_and_share());
    Exposed ours = expose();
    ASSERT_EQ(ask(flood_of(kRoom, ours)), "flooding");
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    server->stop();
    EXPECT_EQ(san.close(s), 0);
}

// Deregistrations beside writes that never stop, from another process: refused or final. Short ones go the direct way.
TEST_F(ArenaRdmaTest, AfterADeregistrationNothingChangesAnyMore) {
    for (const std::size_t bytes : {kRoom, std::size_t{8}, std::size_t{64}}) {
        for (int round = 0; round < 10; ++round) {
            ASSERT_NO_FATAL_FAILURE(connect_and_share());
            std::memset(memory, 0, kRoom);
            Exposed ours = expose();
            ASSERT_EQ(ask(flood_of(bytes, ours)), "flooding");
            ASSERT_TRUE(eventually(
                [&] { return static_cast<volatile char*>(memory)[bytes % kRoom] != 0; }));
            int error = WSAEINVAL;
            ASSERT_TRUE(eventually([&] { return (error = conceal(ours)) != WSAEINVAL; }));
            ASSERT_EQ(error, 0);
            std::memset(memory, 0x66, kRoom);
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
            // Each byte is like the one before it: one by one they take seconds under a sanitizer.
            ASSERT_EQ(memory[0], 0x66);
            ASSERT_EQ(std::memcmp(memory, memory + 1, kRoom - 1), 0);
            server->kill();
            EXPECT_EQ(san.close(s), 0);
        }
    }
}

// What is wrong with an operation is told as well if the one before, on the same memory, was good.
TEST_F(ArenaRdmaTest, MistakesAreFoundBehindGoodOperations) {
    ASSERT_NO_FATAL_FAILURE(connect_and_share());
    Exposed there = from_hex(ask("expose"));
    for (int i = 0; i < 3; ++i) {
        ASSERT_EQ(move(true, memory, 8, there), 0);
        ASSERT_EQ(move(false, memory, 8, there), 0);
    }
    for (const bool writes : {true, false}) {
        Exposed damaged = there;
        damaged.block[0] = static_cast<char>(damaged.block[0] ^ 1);
        EXPECT_EQ(move(writes, memory, 8, damaged), WSAEINVAL);
        Exposed cut = there;
        --cut.length;
        EXPECT_EQ(move(writes, memory, 8, cut), WSAEINVAL);
        EXPECT_EQ(move(writes, memory, 8, there, kRoom - 7), WSAEFAULT);
        EXPECT_EQ(move(writes, memory, 8, there, kRoom - 8), 0);
        EXPECT_EQ(move(writes, memory + kRoom - 7, 8, there), WSAEFAULT);
        EXPECT_EQ(move(writes, memory - 1, 8, there), WSAEFAULT);
        EXPECT_EQ(move(writes, memory, 8, there), 0);
    }
    HANDLE before = region;
    region = nullptr;
    EXPECT_EQ(move(true, memory, 8, there), WSAEINVAL);
    region = before;
    EXPECT_EQ(san.deregister_memory(s, region), 0);
    EXPECT_EQ(move(true, memory, 8, there), WSAEINVAL);
    EXPECT_EQ(move(false, memory, 8, there), WSAEINVAL);
    EXPECT_EQ(san.close(s), 0);
}

// What was exposed by one process is not by the next; see WSPDuplicateSocket.
TEST_F(ArenaRdmaTest, AChangeOfProcessAtTheInitiatorsEnd) {
    ASSERT_NO_FATAL_FAILURE(connect_and_share());
    Exposed there = from_hex(ask("expose"));
    fill(memory, kRoom, 1);
    ASSERT_EQ(move(true, memory, kRoom, there), 0);
    WSAPROTOCOL_INFOW info{};
    ASSERT_EQ(san.duplicate(s, static_cast<DWORD>(::getpid()), &info), 0);
    int error = 0;
    const SOCKET next =
        san.socket(&error, FROM_PROTOCOL_INFO, FROM_PROTOCOL_INFO, FROM_PROTOCOL_INFO, &info);
    ASSERT_EQ(error, 0);
    EXPECT_EQ(san.close(s), 0);
    use(next);
    // The owner has not taken it back: the new end may use it, by asking.
    fill(memory, kRoom, 2);
    EXPECT_EQ(move(true, memory, kRoom, there), 0);
    EXPECT_EQ(ask("holds 2"), "yes");
    EXPECT_EQ(ask("conceal"), "0");
    // What is exposed from now on is found again.
    Exposed anew = from_hex(ask("expose"));
    fill(memory, kRoom, 3);
    EXPECT_EQ(move(true, memory, kRoom, anew), 0);
    EXPECT_EQ(ask("holds 3"), "yes");
    EXPECT_EQ(ask("conceal"), "0");
    EXPECT_EQ(san.close(s), 0);
}

}  // namespace
}  // namespace sanpoll::test
