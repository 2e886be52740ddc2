// WSPRegisterMemory of memory in arenas, which the provider knows without asking the kernel. Linked with the
// provider's own objects: arenas belong to whoever made them.
#include <sys/mman.h>

#include <cstring>

#include "engine/memory/arena.hpp"
#include "provider/memory_handle.hpp"
#include "tests/provider/rdma_fixture.hpp"

namespace sanpoll::test {
namespace {

using engine::memory::Arena;
using engine::memory::Arenas;

class MemoryArenaTest : public RdmaFixture {
protected:
    static void SetUpTestSuite() { Calls::use(WSPStartupEx); }
    void SetUp() override {
        RdmaFixture::SetUp();
        Arenas& arenas = Arenas::of_process();
        if (arenas.count() == 0) {
            engine::memory::ArenaRules rules;
            rules.arena_bytes = engine::memory::kArenaAlignment;
            rules.limit_bytes = 4 * engine::memory::kArenaAlignment;
            rules.hugepages = engine::Hugepages::kOff;
            arenas.set_rules(rules);
            engine::memory::Refusal refusal;
            ASSERT_NE(arenas.make(true, 1, refusal), nullptr);
            ASSERT_NE(arenas.make(false, 1, refusal), nullptr);
        }
        pair = connected();
    }
    static char* at(const Arena& arena, std::uint64_t offset) {
        return reinterpret_cast<char*>(arena.base + offset);
    }

    Pair pair;
};

TEST_F(MemoryArenaTest, MemoryOfAnArenaIsKnownToBeGood) {
    for (std::uint32_t i = 0; i < 2; ++i) {
        const Arena& arena = Arenas::of_process().arena(i);
        EXPECT_EQ(
            provider::range_error(at(arena, 0), static_cast<DWORD>(arena.size), MEM_READWRITE), 0);
        EXPECT_EQ(provider::range_error(at(arena, arena.size - 1), 1, MEM_READWRITE), 0);
    }
}

TEST_F(MemoryArenaTest, MessagesAndRdmaGoFromArenaToArena) {
    for (std::uint32_t i = 0; i < 2; ++i) {
        const Arena& from = Arenas::of_process().arena(i);
        const Arena& to = Arenas::of_process().arena(1 - i);
        constexpr std::size_t kBytes = 100000;
        std::memset(at(from, 4000), 'a' + static_cast<int>(i), kBytes);
        std::memset(at(to, 9000), 0, kBytes);
        HANDLE source = san.register_memory(pair.client.s, at(from, 4000), kBytes, MEM_READ);
        HANDLE target = san.register_memory(pair.server.s, at(to, 9000), kBytes, MEM_WRITE);
        ASSERT_NE(source, nullptr);
        ASSERT_NE(target, nullptr);
        Polled receive;
        Polled send;
        ASSERT_EQ(san.recv(pair.server.s, at(to, 9000), kBytes, &receive), WSA_IO_PENDING);
        ASSERT_EQ(san.send(pair.client.s, at(from, 4000), kBytes, &send), WSA_IO_PENDING);
        ASSERT_EQ(san.finish(pair.server.s, &receive).error, 0);
        ASSERT_EQ(san.finish(pair.client.s, &send).error, 0);
        EXPECT_EQ(std::memcmp(at(from, 4000), at(to, 9000), kBytes), 0);

        std::memset(at(to, 9000), 0, kBytes);
        Exposed exposed = expose(pair.server, at(to, 9000), kBytes, MEM_WRITE);
        End end = pair.client;
        end.region = source;
        EXPECT_EQ(write_now(end, at(from, 4000), kBytes, exposed), 0);
        EXPECT_EQ(std::memcmp(at(from, 4000), at(to, 9000), kBytes), 0);
        EXPECT_EQ(conceal(pair.server, exposed), 0);
        EXPECT_EQ(san.deregister_memory(pair.client.s, source), 0);
        EXPECT_EQ(san.deregister_memory(pair.server.s, target), 0);
        Polled refused;
        EXPECT_EQ(san.send(pair.client.s, at(from, 4000), 1, &refused), WSAEFAULT)
            << "an arena is no registration";
    }
}

TEST_F(MemoryArenaTest, WhatReachesOutOfAnArenaIsAskedFor) {
    // One with a hole behind it: other memory may lie behind some.
    Arenas& arenas = Arenas::of_process();
    engine::memory::ArenaRules rules = arenas.rules();
    rules.limit_bytes = 16 * engine::memory::kArenaAlignment;
    arenas.set_rules(rules);
    const Arena* arena = nullptr;
    engine::memory::Refusal refusal;
    for (std::uint32_t i = 0; arena == nullptr; ++i) {
        if (i == arenas.count() && arenas.make(false, 1, refusal) == nullptr) {
            GTEST_SKIP() << "something is mapped behind every arena";
        }
        const Arena& candidate = arenas.arena(i);
        unsigned char residence = 0;
        if (::mincore(at(candidate, candidate.size), 4096, &residence) != 0) {
            arena = &candidate;
        }
    }
    EXPECT_EQ(provider::range_error(at(*arena, arena->size - 1), 2, MEM_READ), WSAEFAULT);
    int error = 0;
    EXPECT_EQ(san.register_memory(pair.client.s, at(*arena, arena->size - 1), 2, MEM_READ, &error),
              nullptr);
    EXPECT_EQ(error, WSAEFAULT);
}

}  // namespace
}  // namespace sanpoll::test
