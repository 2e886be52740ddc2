// WSPRegisterMemory and WSPDeregisterMemory.
#include <sys/mman.h>
#include <unistd.h>

#include <random>

#include "tests/provider/provider_fixture.hpp"

namespace sanpoll::test {
namespace {

class MemoryTest : public ProviderTest {
protected:
    void SetUp() override {
        ProviderTest::SetUp();
        pair = connected();
        s = pair.client.s;
        memory.resize(1 << 16);
    }
    int error_of(void* address, std::size_t length, DWORD flags) {
        int error = 0;
        (void)san.register_memory(s, address, length, flags, &error);
        return error;
    }
    HANDLE add(std::size_t offset = 0, std::size_t length = 4096, DWORD flags = MEM_READWRITE) {
        HANDLE handle = san.register_memory(s, memory.data() + offset, length, flags);
        EXPECT_NE(handle, nullptr);
        return handle;
    }
    int send(std::size_t offset, std::size_t length) {
        Polled receive;
        Polled operation;
        EXPECT_EQ(san.recv(pair.server.s, pair.server.at(0), 65536, &receive), WSA_IO_PENDING);
        const int error = san.send(s, memory.data() + offset, length, &operation);
        if (error != WSA_IO_PENDING) {
            // Uses up the receive.
            EXPECT_EQ(san.send(s, pair.client.at(0), 1, &operation), WSA_IO_PENDING);
        }
        EXPECT_EQ(san.finish(s, &operation).error, 0);
        EXPECT_EQ(san.finish(pair.server.s, &receive).error, 0);
        return error;
    }

    Pair pair;
    SOCKET s = INVALID_SOCKET;
    std::vector<char> memory;
};

TEST_F(MemoryTest, ReadWriteAndBothAreTheFlags) {
    for (const DWORD flags : {MEM_READ, MEM_WRITE, MEM_READWRITE}) {
        EXPECT_EQ(error_of(memory.data(), 100, flags), 0);
    }
}

TEST_F(MemoryTest, OtherFlagsAreInvalid) {
    for (const DWORD flags : {0U, 4U, 5U, 8U, 0x80000001U, 0xFFFFFFFFU}) {
        EXPECT_EQ(error_of(memory.data(), 100, flags), WSAEINVAL) << flags;
    }
}

TEST_F(MemoryTest, NullIsAFault) { EXPECT_EQ(error_of(nullptr, 100, MEM_READ), WSAEFAULT); }

TEST_F(MemoryTest, LengthZeroIsAFault) {  // project decision
    EXPECT_EQ(error_of(memory.data(), 0, MEM_READ), WSAEFAULT);
}

TEST_F(MemoryTest, UnmappedMemoryIsAFault) {
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    auto* three = static_cast<char*>(
        ::mmap(nullptr, 3 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    ASSERT_NE(three, MAP_FAILED);
    ASSERT_EQ(::munmap(three + page, page), 0);
    EXPECT_EQ(error_of(three, page, MEM_READ), 0);
    EXPECT_EQ(error_of(three + page, page, MEM_READ), WSAEFAULT);
    EXPECT_EQ(error_of(three, 3 * page, MEM_READ), WSAEFAULT);
    EXPECT_EQ(error_of(three, page + 1, MEM_READ), WSAEFAULT);
    EXPECT_EQ(error_of(three + 2 * page - 1, 2, MEM_READ), WSAEFAULT);
    EXPECT_EQ(error_of(reinterpret_cast<void*>(8), 100, MEM_READ), WSAEFAULT);
    ::munmap(three, page);
    ::munmap(three + 2 * page, page);
}

TEST_F(MemoryTest, ARangeThatWrapsAroundIsAFault) {
    EXPECT_EQ(error_of(reinterpret_cast<void*>(UINTPTR_MAX - 4095), 8192, MEM_READ), WSAEFAULT);
    EXPECT_EQ(error_of(reinterpret_cast<void*>(UINTPTR_MAX), 1, MEM_READ), WSAEFAULT);
}

TEST_F(MemoryTest, MemoryThatWasNeverTouchedIsMapped) {
    constexpr std::size_t kLength = 64U << 20;
    void* area = ::mmap(nullptr, kLength, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    ASSERT_NE(area, MAP_FAILED);
    EXPECT_EQ(error_of(area, kLength, MEM_READWRITE), 0);
    ::munmap(area, kLength);
}

TEST_F(MemoryTest, PartsOfARegistrationAreUsable) {
    (void)add(1000, 1000);
    EXPECT_EQ(send(1000, 1000), WSA_IO_PENDING);
    EXPECT_EQ(send(1500, 1), WSA_IO_PENDING);
    EXPECT_EQ(send(1999, 1), WSA_IO_PENDING);
    EXPECT_EQ(send(999, 2), WSAEFAULT);
    EXPECT_EQ(send(1999, 2), WSAEFAULT);
}

TEST_F(MemoryTest, DeregisteredMemoryIsNotUsable) {
    HANDLE handle = add();
    EXPECT_EQ(send(0, 100), WSA_IO_PENDING);
    EXPECT_EQ(san.deregister_memory(s, handle), 0);
    EXPECT_EQ(send(0, 100), WSAEFAULT);
}

TEST_F(MemoryTest, RepeatedRegistrationsAreCounted) {
    HANDLE first = add();
    HANDLE second = add();
    EXPECT_EQ(san.deregister_memory(s, first), 0);
    EXPECT_EQ(send(0, 4096), WSA_IO_PENDING);
    EXPECT_EQ(san.deregister_memory(s, second), 0);
    EXPECT_EQ(send(0, 4096), WSAEFAULT);
}

TEST_F(MemoryTest, RegistrationsMayOverlap) {
    HANDLE whole = add(0, 65536, MEM_READ);
    HANDLE middle = add(10000, 1000, MEM_WRITE);
    HANDLE tail = add(60000, 5536);
    EXPECT_EQ(send(9000, 5000), WSA_IO_PENDING);
    EXPECT_EQ(san.deregister_memory(s, whole), 0);
    EXPECT_EQ(send(10000, 10), WSAEFAULT);  // write-only
    EXPECT_EQ(send(60000, 10), WSA_IO_PENDING);
    EXPECT_EQ(san.deregister_memory(s, middle), 0);
    EXPECT_EQ(san.deregister_memory(s, tail), 0);
}

TEST_F(MemoryTest, OneBufferMayBeRegisteredOnTwoSockets) {
    (void)add();
    EXPECT_NE(san.register_memory(pair.server.s, memory.data(), 4096, MEM_READ), nullptr);
    EXPECT_EQ(send(0, 4096), WSA_IO_PENDING);
}

TEST_F(MemoryTest, HandlesAreNotNullAndDiffer) { EXPECT_NE(add(), add(8192)); }

TEST_F(MemoryTest, ADoubleDeregistrationIsInvalid) {
    HANDLE handle = add();
    EXPECT_EQ(san.deregister_memory(s, handle), 0);
    EXPECT_EQ(san.deregister_memory(s, handle), WSAEINVAL);
}

TEST_F(MemoryTest, AnotherSocketsHandleIsInvalid) {  // project decision
    // Two registrations there, so that this handle names nothing here, whatever its shape.
    (void)san.register_memory(pair.server.s, memory.data(), 64, MEM_READ);
    HANDLE theirs = san.register_memory(pair.server.s, memory.data(), 64, MEM_READ);
    EXPECT_EQ(san.deregister_memory(s, theirs), WSAEINVAL);
    EXPECT_EQ(san.deregister_memory(pair.server.s, theirs), 0);
}

TEST_F(MemoryTest, AnotherSocketsHandleOfTheSameOrdinalIsInvalid) {  // project decision
    // Each end has made one registration: handles that only count would be the same.
    EXPECT_EQ(san.deregister_memory(s, pair.server.region), WSAEINVAL);
    EXPECT_EQ(san.deregister_memory(s, pair.client.region), 0);
}

TEST_F(MemoryTest, HandlesThatWereNeverIssuedAreInvalid) {
    HANDLE handle = add();
    EXPECT_EQ(san.deregister_memory(s, nullptr), WSAEINVAL);
    EXPECT_EQ(san.deregister_memory(s, reinterpret_cast<HANDLE>(UINTPTR_MAX)), WSAEINVAL);
    EXPECT_EQ(san.deregister_memory(s, memory.data()), WSAEINVAL);
    const auto value = reinterpret_cast<std::uintptr_t>(handle);
    const auto other = reinterpret_cast<std::uintptr_t>(pair.client.region);
    for (int bit = 0; bit < 64; ++bit) {
        if (const std::uintptr_t forged = value ^ (std::uintptr_t{1} << bit); forged != other) {
            EXPECT_EQ(san.deregister_memory(s, reinterpret_cast<HANDLE>(forged)), WSAEINVAL) << bit;
        }
    }
    std::mt19937_64 random(20240607);
    for (int i = 0; i < 10000; ++i) {
        EXPECT_EQ(san.deregister_memory(s, reinterpret_cast<HANDLE>(random())), WSAEINVAL);
    }
    EXPECT_EQ(san.deregister_memory(s, handle), 0);
}

TEST_F(MemoryTest, MemoryInUseByAReceiveStaysRegistered) {  // project decision: a receive is a use
    HANDLE handle = add();
    Polled receive;
    ASSERT_EQ(san.recv(s, memory.data(), 64, &receive), WSA_IO_PENDING);
    EXPECT_EQ(san.deregister_memory(s, handle), WSAEINVAL);
    Polled sent;
    ASSERT_EQ(san.send(pair.server.s, pair.server.at(0), 8, &sent), WSA_IO_PENDING);
    EXPECT_EQ(san.finish(s, &receive).bytes, 8U);
    EXPECT_EQ(san.deregister_memory(s, handle), 0);
}

TEST_F(MemoryTest, MemoryInUseByASendStaysRegistered) {
    HANDLE handle = add(0, 65536);
    Polled operation;
    ASSERT_EQ(san.send(s, memory.data(), 60000, &operation),
              WSA_IO_PENDING);  // waits for a receive
    EXPECT_EQ(san.deregister_memory(s, handle), WSAEINVAL);
    Polled receive;
    ASSERT_EQ(san.recv(pair.server.s, pair.server.at(0), 65536, &receive), WSA_IO_PENDING);
    EXPECT_EQ(san.finish(pair.server.s, &receive).bytes, 60000U);
    EXPECT_EQ(san.finish(s, &operation).error, 0);
    EXPECT_EQ(san.deregister_memory(s, handle), 0);
}

TEST_F(MemoryTest, ManyRegistrationsComeAndGo) {
    std::mt19937 random(5);
    std::vector<std::pair<HANDLE, std::size_t>> live;
    for (int i = 0; i < 2000; ++i) {
        if (live.size() < 300 || random() % 2 == 0) {
            const std::size_t offset = random() % 60000;
            live.emplace_back(add(offset, 1 + random() % 5000), offset);
        } else {
            const std::size_t which = random() % live.size();
            EXPECT_EQ(san.deregister_memory(s, live[which].first), 0);
            live[which] = live.back();
            live.pop_back();
        }
        EXPECT_EQ(send(live[random() % live.size()].second, 1), WSA_IO_PENDING);
    }
    for (const auto& [handle, offset] : live) {
        EXPECT_EQ(san.deregister_memory(s, handle), 0);
    }
    EXPECT_EQ(send(0, 1), WSAEFAULT);
}

TEST_F(MemoryTest, AnUnconnectedSocketRegistersNothing) {
    s = bound();
    EXPECT_EQ(error_of(memory.data(), 100, MEM_READ), WSAENOTCONN);
    EXPECT_EQ(san.deregister_memory(s, pair.client.region), WSAEINVAL);
}

TEST_F(MemoryTest, ABrokenSocketRegistersNothingButDeregisters) {  // project decision
    End end = broken();
    s = end.s;
    EXPECT_EQ(error_of(memory.data(), 100, MEM_READ), WSAENOTCONN);
    EXPECT_EQ(san.deregister_memory(s, end.region), 0);
    EXPECT_EQ(san.deregister_memory(s, end.region), WSAEINVAL);
}

TEST_F(MemoryTest, ARegistrationEndsWithItsSocket) {
    (void)add();
    EXPECT_EQ(san.close(s), 0);
    // Whatever records the provider reuses: a new connection knows nothing of the old memory.
    for (int i = 0; i < 300; ++i) {
        const SOCKET other = socket();
        Polled operation;
        EXPECT_EQ(san.deregister_memory(other, pair.client.region), WSAEINVAL);
        EXPECT_EQ(san.close(other), 0);
    }
    Pair next = connected();
    Polled operation;
    EXPECT_EQ(san.send(next.client.s, memory.data(), 8, &operation), WSAEFAULT);
    EXPECT_EQ(san.send(next.server.s, memory.data(), 8, &operation), WSAEFAULT);
}

}  // namespace
}  // namespace sanpoll::test
