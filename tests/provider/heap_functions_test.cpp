// Memory for callers: the functions of WSAID_SANPOLL_MEMORY (sanpoll.h).
#include <dlfcn.h>
#include <sanpoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "tests/provider/provider_fixture.hpp"

namespace sanpoll::test {
namespace {

constexpr GUID kMemory = WSAID_SANPOLL_MEMORY;

class HeapFunctionsTest : public ProviderTest {
protected:
    Knobs knobs() const override { return {{"arena_mb", "32"}, {"arena_limit_mb", "256"}}; }
    void SetUp() override {
        ProviderTest::SetUp();
        ASSERT_EQ(ask(INVALID_SOCKET, kMemory, &memory, sizeof(memory)), 0);
    }
    int ask(SOCKET s, GUID guid, void* out, DWORD length, DWORD in_length = sizeof(GUID)) {
        returned = 0;
        return san.ioctl(s, SIO_GET_MULTIPLE_EXTENSION_FUNCTION_POINTER, &guid, in_length, out,
                         length, &returned);
    }
    void* get(SIZE_T size, DWORD flags = 0) {
        void* const buffer = memory.lpAllocate(size, 0, flags, &reason);
        EXPECT_NE(buffer, nullptr) << memory.lpReasonText(reason);
        EXPECT_EQ(reason, static_cast<DWORD>(SANPOLL_MEMORY_OK));
        return buffer;
    }
    DWORD refused(SIZE_T size, SIZE_T alignment = 0, DWORD flags = 0) {
        reason = 99;
        EXPECT_EQ(memory.lpAllocate(size, alignment, flags, &reason), nullptr);
        return reason;
    }
    void put(void* buffer) {
        EXPECT_EQ(memory.lpFree(buffer, &reason), 1);
        EXPECT_EQ(reason, static_cast<DWORD>(SANPOLL_MEMORY_OK));
    }
    SANPOLL_ARENA arena_of(const void* address) {
        SANPOLL_ARENA arena{};
        EXPECT_EQ(memory.lpQuery(address, &arena, &reason), 1) << memory.lpReasonText(reason);
        return arena;
    }
    static DWORD number(SANPOLL_MEMORY_REASON value) { return static_cast<DWORD>(value); }

    SANPOLL_MEMORY_FUNCTIONS memory{};
    DWORD returned = 0;
    DWORD reason = 99;
};

TEST_F(HeapFunctionsTest, AreGivenForAnySocket) {
    for (const SOCKET s :
         {static_cast<SOCKET>(INVALID_SOCKET), SOCKET{0}, SOCKET{12345}, socket()}) {
        SANPOLL_MEMORY_FUNCTIONS table{};
        EXPECT_EQ(ask(s, kMemory, &table, sizeof(table)), 0);
        EXPECT_EQ(returned, sizeof(table));
        EXPECT_EQ(table.cbSize, sizeof(table));
        for (const bool there :
             {table.lpAllocate != nullptr, table.lpFree != nullptr, table.lpResize != nullptr,
              table.lpQuery != nullptr, table.lpReasonText != nullptr}) {
            EXPECT_TRUE(there);
        }
    }
}

TEST_F(HeapFunctionsTest, ALaterHeadersTableIsFilledAsFarAsItIsKnown) {
    struct Later {
        SANPOLL_MEMORY_FUNCTIONS known;
        void* more;
    } table{{}, this};
    EXPECT_EQ(ask(INVALID_SOCKET, kMemory, &table, sizeof(table)), 0);
    EXPECT_EQ(table.known.cbSize, sizeof(table.known));
    EXPECT_EQ(returned, sizeof(table.known));
    EXPECT_EQ(table.more, this);
}

TEST_F(HeapFunctionsTest, ATableNeedNotBeAligned) {
    std::array<char, sizeof(memory) + 1> bytes{};
    EXPECT_EQ(ask(INVALID_SOCKET, kMemory, bytes.data() + 1, sizeof(memory)), 0);
    SANPOLL_MEMORY_FUNCTIONS table{};
    std::memcpy(&table, bytes.data() + 1, sizeof(table));
    EXPECT_EQ(table.cbSize, sizeof(table));
    EXPECT_EQ(table.lpReasonText, memory.lpReasonText);
}

TEST_F(HeapFunctionsTest, WrongBuffersAndOtherTables) {
    SANPOLL_MEMORY_FUNCTIONS table{};
    EXPECT_EQ(ask(INVALID_SOCKET, kMemory, &table, sizeof(table) - 1), WSAEFAULT);
    EXPECT_EQ(returned, sizeof(table)) << "what is needed";
    EXPECT_EQ(ask(INVALID_SOCKET, kMemory, nullptr, sizeof(table)), WSAEFAULT);
    EXPECT_EQ(ask(INVALID_SOCKET, kMemory, &table, sizeof(table), sizeof(GUID) - 1), WSAEFAULT);
    EXPECT_EQ(san.ioctl(INVALID_SOCKET, SIO_GET_MULTIPLE_EXTENSION_FUNCTION_POINTER, nullptr,
                        sizeof(GUID), &table, sizeof(table), &returned),
              WSAEFAULT);
    GUID guid = kMemory;
    EXPECT_EQ(san.ioctl(INVALID_SOCKET, SIO_GET_MULTIPLE_EXTENSION_FUNCTION_POINTER, &guid,
                        sizeof(guid), &table, sizeof(table), nullptr),
              WSAEFAULT);
    EXPECT_EQ(ask(INVALID_SOCKET, WSAID_REGISTERMEMORY, &table, sizeof(table)), WSAEINVAL);
    EXPECT_EQ(ask(INVALID_SOCKET, GUID{}, &table, sizeof(table)), WSAEINVAL);
    EXPECT_EQ(table.lpAllocate, nullptr);
}

TEST_F(HeapFunctionsTest, GiveMemoryOfEitherKind) {
    for (const DWORD flags : {0U, SANPOLL_MEMORY_PRIVATE}) {
        void* const buffer = get(5000, flags);
        std::memset(buffer, 1, 5000);
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer) % 64, 0U);
        EXPECT_EQ(arena_of(buffer).shareable, flags == 0 ? 1U : 0U);
        put(buffer);
    }
    void* const aligned = memory.lpAllocate(10, 65536, 0, nullptr);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(aligned) % 65536, 0U);
    EXPECT_EQ(memory.lpFree(aligned, nullptr), 1);
}

TEST_F(HeapFunctionsTest, WrongArgumentsAreRefused) {
    EXPECT_EQ(refused(0), number(SANPOLL_MEMORY_BAD_ARGUMENT));
    EXPECT_EQ(refused(10, 48), number(SANPOLL_MEMORY_BAD_ARGUMENT));
    EXPECT_EQ(refused(10, SIZE_T{8} << 20), number(SANPOLL_MEMORY_BAD_ARGUMENT));
    EXPECT_EQ(refused(10, 0, 2), number(SANPOLL_MEMORY_BAD_ARGUMENT));
    EXPECT_EQ(refused(10, 0, ~DWORD{0}), number(SANPOLL_MEMORY_BAD_ARGUMENT));
}

TEST_F(HeapFunctionsTest, ExhaustionIsNullWithAReason) {
    std::vector<void*> buffers;
    while (void* const buffer = memory.lpAllocate(SIZE_T{3} << 20, 0, 0, &reason)) {
        buffers.push_back(buffer);
    }
    EXPECT_EQ(reason, number(SANPOLL_MEMORY_LIMIT));
    EXPECT_NE(std::string(memory.lpReasonText(reason)).find("SANPOLL_ARENA_LIMIT_MB"),
              std::string::npos);
    ASSERT_GE(buffers.size(), 64U) << "of 256 MiB";
    const SANPOLL_ARENA arena = arena_of(buffers.front());
    EXPECT_EQ(arena.limit, std::uint64_t{256} << 20);
    EXPECT_LE(arena.all_sizes, arena.limit);
    for (void* const buffer : buffers) {
        put(buffer);
    }
    put(get(SIZE_T{3} << 20));
}

TEST_F(HeapFunctionsTest, AQueryTellsTheArena) {
    void* const buffer = get(100000);
    const SANPOLL_ARENA arena = arena_of(static_cast<char*>(buffer) + 50000);
    EXPECT_LE(arena.base, buffer);
    EXPECT_GE(static_cast<char*>(arena.base) + arena.size, static_cast<char*>(buffer) + 100000);
    EXPECT_EQ(arena.size, std::uint64_t{32} << 20);
    EXPECT_GE(arena.used, 100000U);
    EXPECT_GE(arena.all_sizes, arena.size);
    EXPECT_GE(arena.id, 1U);
    EXPECT_TRUE(arena.page_size == 4096 || arena.page_size == 2U << 20);
    EXPECT_GE(arena.numa_node, -1);
    put(buffer);
    EXPECT_LT(arena_of(buffer).used, arena.used);
}

TEST_F(HeapFunctionsTest, WhatIsNotOursIsSaidSo) {
    int on_stack = 0;
    EXPECT_EQ(memory.lpFree(&on_stack, &reason), 0);
    EXPECT_EQ(reason, number(SANPOLL_MEMORY_NOT_OURS));
    EXPECT_EQ(memory.lpResize(&on_stack, 10, 0, &reason), nullptr);
    EXPECT_EQ(reason, number(SANPOLL_MEMORY_NOT_OURS));
    SANPOLL_ARENA arena{};
    EXPECT_EQ(memory.lpQuery(&on_stack, &arena, &reason), 0);
    EXPECT_EQ(reason, number(SANPOLL_MEMORY_NOT_OURS));
    EXPECT_EQ(memory.lpQuery(&on_stack, nullptr, &reason), 0);
    EXPECT_EQ(reason, number(SANPOLL_MEMORY_BAD_ARGUMENT));
    put(nullptr);
}

TEST_F(HeapFunctionsTest, ResizeKeepsTheContents) {
    auto* buffer = static_cast<char*>(get(100));
    std::strcpy(buffer, "kept");
    buffer = static_cast<char*>(memory.lpResize(buffer, SIZE_T{1} << 20, 0, &reason));
    ASSERT_NE(buffer, nullptr);
    EXPECT_STREQ(buffer, "kept");
    EXPECT_EQ(memory.lpResize(buffer, SIZE_T{1} << 40, 0, &reason), nullptr);
    EXPECT_EQ(reason, number(SANPOLL_MEMORY_LIMIT));
    EXPECT_STREQ(buffer, "kept");
    put(buffer);
}

TEST_F(HeapFunctionsTest, ABufferCarriesMessages) {
    Pair pair = connected();
    auto* const buffer = static_cast<char*>(get(65536));
    std::strcpy(buffer, "out of an arena");
    const HANDLE region = san.register_memory(pair.client.s, buffer, 65536, MEM_READWRITE);
    ASSERT_NE(region, nullptr);
    Polled receive;
    Polled send;
    ASSERT_EQ(san.recv(pair.server.s, pair.server.at(0), 1000, &receive), WSA_IO_PENDING);
    ASSERT_EQ(patiently([&] { return san.send(pair.client.s, buffer, 16, &send); }),
              WSA_IO_PENDING);
    EXPECT_EQ(san.finish(pair.server.s, &receive).bytes, 16U);
    EXPECT_EQ(san.finish(pair.client.s, &send).error, 0);
    EXPECT_STREQ(pair.server.at(0), "out of an arena");
    EXPECT_EQ(san.deregister_memory(pair.client.s, region), 0);
    put(buffer);
}

TEST_F(HeapFunctionsTest, OtherThreadsFree) {
    void* const buffer = get(SIZE_T{1} << 20);
    std::thread([&] { put(buffer); }).join();
}

TEST_F(HeapFunctionsTest, AfterCleanupBuffersMayBeFreedAndNoneIsGiven) {
    void* const buffer = get(100);
    stop();
    EXPECT_EQ(refused(100), number(SANPOLL_MEMORY_NOT_STARTED));
    EXPECT_EQ(memory.lpResize(buffer, 1000, 0, &reason), nullptr);
    EXPECT_EQ(reason, number(SANPOLL_MEMORY_NOT_STARTED));
    SANPOLL_ARENA arena{};
    EXPECT_EQ(memory.lpQuery(buffer, &arena, &reason), 0);
    EXPECT_EQ(reason, number(SANPOLL_MEMORY_NOT_STARTED));
    put(buffer);
    EXPECT_EQ(ask(INVALID_SOCKET, kMemory, &memory, sizeof(memory)), WSANOTINITIALISED);
}

TEST_F(HeapFunctionsTest, AForkedChildGetsCleanErrors) {
    void* const buffer = get(100);
    const pid_t child = ::fork();
    if (child == 0) {
        DWORD why = 0;
        SANPOLL_ARENA arena{};
        const DWORD forked = number(SANPOLL_MEMORY_FORKED);
        int wrong = 0;
        wrong += memory.lpAllocate(100, 0, 0, &why) != nullptr || why != forked ? 1 : 0;
        wrong += memory.lpFree(buffer, &why) != 0 || why != forked ? 2 : 0;
        wrong += memory.lpResize(buffer, 1000, 0, &why) != nullptr || why != forked ? 4 : 0;
        wrong += memory.lpQuery(buffer, &arena, &why) != 0 || why != forked ? 8 : 0;
        wrong += ask(INVALID_SOCKET, kMemory, &memory, sizeof(memory)) != WSAENETDOWN ? 16 : 0;
        ::_exit(wrong);
    }
    int status = -1;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
    put(buffer);
}

TEST_F(HeapFunctionsTest, EveryReasonHasAText) {
    for (DWORD i = 0; i < 20; ++i) {
        ASSERT_NE(memory.lpReasonText(i), nullptr);
        EXPECT_STRNE(memory.lpReasonText(i), "");
    }
}

TEST_F(HeapFunctionsTest, TheProgramsMallocStaysItsOwn) {
    put(get(100));
    for (const char* const symbol : {"malloc", "free", "realloc", "calloc"}) {
        Dl_info about{};
        void* const function = ::dlsym(RTLD_DEFAULT, symbol);
        ASSERT_NE(function, nullptr);
        ASSERT_NE(::dladdr(function, &about), 0);
        EXPECT_EQ(std::string(about.dli_fname).find("mimalloc"), std::string::npos) << symbol;
    }
    void* const own = std::malloc(100);
    SANPOLL_ARENA arena{};
    EXPECT_EQ(memory.lpQuery(own, &arena, &reason), 0);
    std::free(own);
}

TEST(RequiredHugepages, AreThereFromTheStartOrItFails) {
    const Knobs knobs = {{"hugepages", "required"},
                         {"arena_mb", "1024"},
                         {"arena_limit_mb", "1024"},
                         {"log_level", "off"}};
    set_knobs(knobs);
    Calls san;
    const int error = san.start();
    unset_knobs(knobs);
    if (error == 0) {
        EXPECT_EQ(san.cleanup(), 0);
    } else {
        EXPECT_EQ(error, WSAEPROVIDERFAILEDINIT);
    }
}

}  // namespace
}  // namespace sanpoll::test
