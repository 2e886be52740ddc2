#include "bench/bare_exchange.hpp"

#include <gtest/gtest.h>

#include <system_error>
#include <thread>

#include "bench/paced_loop.hpp"

namespace sanpoll::bench {
namespace {

// More threads than processors is what a test has to reckon with.
const SpinRule kRule{Clock{}, true};

TEST(BareMemory, AnotherMappingIsTheSameMemory) {
    const BareMemory memory(64, 4);
    const BareMemory other(memory.path(), 64, 4);
    EXPECT_EQ(other.slots(), 4U);
    *memory.slot(true, 3) = std::byte{7};
    EXPECT_EQ(*other.slot(true, 3), std::byte{7});
    *other.slot(false, 0) = std::byte{9};
    EXPECT_EQ(*memory.slot(false, 0), std::byte{9});
}

TEST(BareMemory, SlotsDoNotOverlap) {
    for (const std::uint32_t bytes : {0U, 8U, 64U, 65U, 129U, 4096U}) {
        const BareMemory memory(bytes, 3);
        for (const bool of_client : {true, false}) {
            for (std::uint32_t i = 0; i + 1 < 3; ++i)
                EXPECT_GE(memory.slot(of_client, i + 1) - memory.slot(of_client, i),
                          static_cast<std::ptrdiff_t>(bytes));
        }
        EXPECT_GE(memory.slot(false, 0) - memory.slot(true, 2), static_cast<std::ptrdiff_t>(bytes));
    }
}

TEST(BareMemory, OfAProcessThatIsNotThereIsRefused) {
    EXPECT_THROW(BareMemory("/proc/self/fd/99999", 64, 4), std::system_error);
}

TEST(BareConnection, NothingIsThereBeforeItIsSent) {
    const BareMemory memory(64, 2);
    BareConnection client(memory, true, kRule);
    BareConnection server(memory, false, kRule);
    EXPECT_FALSE(server.try_receive(64));
    client.send(64, 1);
    EXPECT_FALSE(client.try_receive(64)) << "what the other end sends is elsewhere";
    EXPECT_EQ(server.try_receive(64), 1U);
    EXPECT_FALSE(server.try_receive(64)) << "once is enough";
    server.send(64, 10);
    EXPECT_EQ(client.try_receive(64), 10U);
}

TEST(BareConnection, MessagesComeInOrderRoundAndRound) {
    const BareMemory memory(200, 4);
    BareConnection client(memory, true, kRule);
    BareConnection server(memory, false, kRule);
    for (std::uint64_t i = 1; i < 40; i += 3) {
        for (std::uint64_t j = i; j < i + 3; ++j)
            client.send(200, j);
        for (std::uint64_t j = i; j < i + 3; ++j)
            EXPECT_EQ(server.receive(200), j);
    }
}

TEST(BareConnection, CarriesAPacedLoad) {
    const BareMemory memory(64, 8);
    constexpr std::uint64_t kFirst = 1;
    constexpr std::uint64_t kAll = 2000;
    std::thread other([&] {
        BareConnection server(memory, false, kRule);
        serve(server, 64, kFirst, kAll);
    });
    BareConnection client(memory, true, kRule);
    LatencyHistogram latencies;
    const PacedLoad load{64, kFirst, 500, kAll - 500, 0, 8};
    (void)send_paced(client, kRule, load, latencies);  // throws when a stamp is wrong
    other.join();
    EXPECT_EQ(latencies.total(), kAll - 500);
}

}  // namespace
}  // namespace sanpoll::bench
