// The registration cache: it changes nothing that a switch can see, whatever happens to memory between a
// deregistration and the next registration.
#include <cstdlib>
#include <cstring>
#include <random>

#include "tests/conformance/rdma_fixture.hpp"
#include "tests/engine/memory/mapped_pages.hpp"
#include "tests/rings/scale.hpp"

namespace sanpoll::conformance {
namespace {

using tests::MappedPages;

class RegistrationCacheTest : public RdmaTest {
protected:
    Knobs knobs() const override {
        Knobs all = RdmaTest::knobs();
        all.emplace_back("registration_cache", "on");
        all.emplace_back("registration_cache_entries", "64");
        all.emplace_back("registration_cache_mb", "1");
        return all;
    }
    void SetUp() override {
        RdmaTest::SetUp();
        if (san.cache_callback_function == nullptr) {
            GTEST_SKIP() << "changes of memory cannot be noticed here, so nothing is kept";
        }
    }
    /// Deregisters; nothing may be using it any more, but a device may need a moment to say so.
    void release(HANDLE handle) {
        EXPECT_TRUE(
            test::eventually([&] { return san.deregister_memory(pair.client.s, handle) == 0; }));
    }
    void fill(char* at, std::size_t length) {
        for (std::size_t i = 0; i < length; i += 8) {
            const std::uint64_t word = random();
            std::memcpy(at + i, &word, std::min<std::size_t>(8, length - i));
        }
    }
    /// By a message or by RDMA, from the client's memory to the server's or back; compares.
    void transfer(char* at, std::size_t length, HANDLE handle) {
        const std::uint64_t way = random() % 4;
        char* const there = pair.server.at(0);
        End client = pair.client;
        client.region = handle;
        fill(way % 2 == 0 ? at : there, length);
        std::memset(way % 2 == 0 ? there : at, 0, length);
        Polled send;
        Polled receive;
        if (way == 0) {
            ASSERT_EQ(san.recv(pair.server.s, there, length, &receive), WSA_IO_PENDING);
            ASSERT_EQ(san.send(client.s, at, length, &send), WSA_IO_PENDING);
            ASSERT_EQ(san.finish(pair.server.s, &receive).error, 0);
            ASSERT_EQ(san.finish(client.s, &send).error, 0);
        } else if (way == 1) {
            ASSERT_EQ(san.recv(client.s, at, length, &receive), WSA_IO_PENDING);
            ASSERT_EQ(san.send(pair.server.s, there, length, &send), WSA_IO_PENDING);
            ASSERT_EQ(san.finish(client.s, &receive).error, 0);
            ASSERT_EQ(san.finish(pair.server.s, &send).error, 0);
        } else {
            WSABUFEX buffer{static_cast<ULONG>(length), at, handle};
            ASSERT_EQ(
                way == 2
                    ? san.rdma_write(client.s, &buffer, 1, window.data(), window.size(), 0, &send)
                    : san.rdma_read(client.s, &buffer, 1, window.data(), window.size(), 0, &send),
                WSA_IO_PENDING);
            ASSERT_EQ(san.finish(client.s, &send).error, 0);
        }
        ASSERT_EQ(std::memcmp(at, there, length), 0) << "stale pages, way " << way;
    }

    std::mt19937_64 random{23};
    Descriptor window;  // the server's memory, exposed to the client
};

// [B16 F.WSPMemoryRegistrationCacheCallback.1 R7.8]
TEST_F(RegistrationCacheTest, TheCallbackWithNothingCachedSucceeds) {  // project decision
    char memory[4096];
    EXPECT_EQ(san.cache_callback(memory, sizeof(memory)), 0);
    EXPECT_EQ(san.cache_callback(nullptr, 0), 0);
    expect_delivery(pair.client, pair.server, "and drops no registration that lives");
}

// [B17 R7.8]
TEST_F(RegistrationCacheTest, TheCallbackDropsWhatOverlaps) {
    MappedPages pages{8};
    for (std::size_t i = 0; i < 6; ++i) {
        release(san.register_memory(pair.client.s, pages.at(1), 4 * MappedPages::size(),
                                    MEM_READWRITE));
        EXPECT_EQ(san.cache_callback(pages.at(i), MappedPages::size()), 0);
    }
    HANDLE used = san.register_memory(pair.client.s, pages.at(0), 100, MEM_READWRITE);
    EXPECT_EQ(san.cache_callback(pages.at(0), 8 * MappedPages::size()), 0) << "all of it";
    EXPECT_EQ(san.cache_callback(nullptr, ~std::size_t{0}), 0);
    window = expose(pair.server, 0, 100);
    transfer(pages.at(0), 100, used);  // what lives is not dropped
    release(used);
}

// [R7.6 R7.8]
TEST_F(RegistrationCacheTest, WhatIsNoLongerExposedIsOutOfReachThoughItsMemoryIsKept) {
    HANDLE handle = san.register_memory(pair.server.s, pair.server.at(0), 4096, MEM_READWRITE);
    window = expose(pair.server, 0, 4096);
    write_now(pair.client, 0, 4096, window);
    EXPECT_EQ(san.deregister_memory(pair.server.s, handle), 0);
    EXPECT_EQ(conceal(pair.server, window), 0);
    std::memset(pair.server.at(0), 'k', 4096);
    Polled operation;
    if (write(pair.client, 0, 4096, window, 0, &operation) == WSA_IO_PENDING) {
        EXPECT_NE(san.finish(pair.client.s, &operation).error, 0);
    }
    for (std::size_t i = 0; i < 4096; ++i) {
        ASSERT_EQ(*pair.server.at(i), 'k') << i;
    }
}

// [R7.8]
TEST_F(RegistrationCacheTest, UnmappedMemoryIsAFaultAlsoIfItWasKept) {
    MappedPages pages{4};
    const auto error_of = [&](std::size_t page, std::size_t count) {
        int error = 0;
        HANDLE handle = san.register_memory(pair.client.s, pages.at(page),
                                            count * MappedPages::size(), MEM_READWRITE, &error);
        if (handle != nullptr) {
            release(handle);
        }
        return error;
    };
    EXPECT_EQ(error_of(0, 4), 0);
    EXPECT_EQ(error_of(0, 4), 0);
    pages.unmap(2, 1);
    EXPECT_EQ(error_of(0, 4), WSAEFAULT);
    EXPECT_EQ(error_of(0, 2), 0);
    pages.place(2, 1);
    EXPECT_EQ(error_of(0, 4), 0);
}

// Registers, transfers and deregisters any ranges of some pages, and unmaps, replaces, moves and discards pages in
// between. SANPOLL_CACHE_SEQUENCES: how many times a change is followed by four transfers.
// [R7.8]
TEST_F(RegistrationCacheTest, NoTransferReachesStalePages) {
    constexpr std::size_t kPages = 16;  // and as many more to be moved from
    const char* wanted = std::getenv("SANPOLL_CACHE_SEQUENCES");
    const std::uint64_t sequences =
        wanted != nullptr ? std::strtoull(wanted, nullptr, 10) : tests::scaled(300);
    const std::size_t page_size = MappedPages::size();
    MappedPages pages{2 * kPages};
    window = expose(pair.server, 0, 5 * page_size);
    for (std::uint64_t sequence = 0; sequence < sequences; ++sequence) {
        const std::size_t first = random() % (kPages - 3);
        const std::size_t count = 1 + random() % 3;
        switch (random() % 16) {
            case 0:
                pages.discard(first, count);
                break;
            case 1:
            case 2:
            case 3: {
                pages.unmap(first, count);
                int error = 0;
                EXPECT_EQ(san.register_memory(pair.client.s, pages.at(first), 1, MEM_READ, &error),
                          nullptr);
                EXPECT_EQ(error, WSAEFAULT);
                pages.place(first, count);
                break;
            }
            case 4:
            case 5:
            case 6:
                pages.place(kPages + first, count);
                pages.move(kPages + first, first, count);
                break;
            default:
                pages.place(first, count);
        }
        for (int step = 0; step < 4; ++step) {
            // Mostly what was kept before, sometimes a part of it, sometimes something else.
            const std::size_t page = random() % 4 * (kPages / 4);
            const std::size_t offset = random() % 3 == 0 ? random() % page_size : 0;
            const std::size_t length =
                random() % 3 == 0 ? 1 + random() % (3 * page_size) : 3 * page_size;
            HANDLE handle =
                san.register_memory(pair.client.s, pages.at(page) + offset, length, MEM_READWRITE);
            ASSERT_NE(handle, nullptr);
            ASSERT_NO_FATAL_FAILURE(transfer(pages.at(page) + offset, length, handle))
                << "sequence " << sequence;
            release(handle);
        }
    }
}

}  // namespace
}  // namespace sanpoll::conformance
