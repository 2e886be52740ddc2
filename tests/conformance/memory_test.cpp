// WSPRegisterMemory and WSPDeregisterMemory: section 7.
#include <sys/mman.h>
#include <unistd.h>

#include <random>

#include "tests/conformance/conformance_fixture.hpp"

namespace sanpoll::conformance {
namespace {

class MemoryTest : public PairTest {
protected:
    int error_of(void* address, std::size_t length, DWORD flags) {
        int error = 0;
        (void)san.register_memory(pair.client.s, address, length, flags, &error);
        return error;
    }
    HANDLE add(std::size_t offset = 0, std::size_t length = 4096, DWORD flags = MEM_READWRITE) {
        HANDLE handle = san.register_memory(pair.client.s, memory.data() + offset, length, flags);
        EXPECT_NE(handle, nullptr);
        return handle;
    }
    /// Of a send from there; one that starts is received.
    int send_from(std::size_t offset, std::size_t length = 8) {
        Polled operation;
        const int error = san.send(pair.client.s, memory.data() + offset, length, &operation);
        if (error == WSA_IO_PENDING) {
            EXPECT_EQ(receive_now(pair.server, 65536).size(), length);
            EXPECT_EQ(san.finish(pair.client.s, &operation).error, 0);
        }
        return error;
    }
    /// Of a receive there; one that starts is served.
    int receive_into(std::size_t offset, std::size_t length = 8) {
        Polled operation;
        const int error = san.recv(pair.client.s, memory.data() + offset, length, &operation);
        if (error == WSA_IO_PENDING) {
            send_now(pair.server, "a");
            EXPECT_EQ(san.finish(pair.client.s, &operation).error, 0);
        }
        return error;
    }

    std::vector<char> memory = std::vector<char>(1 << 16);
};

// [F.WSPRegisterMemory.1]
TEST_F(MemoryTest, HandlesAreNotNullAndDiffer) { EXPECT_NE(add(), add(8192)); }

// [F.WSPRegisterMemory.WSAEINVAL]
TEST_F(MemoryTest, OtherFlagsAreInvalid) {
    for (const DWORD flags : {MEM_READ, MEM_WRITE, MEM_READWRITE}) {
        EXPECT_EQ(error_of(memory.data(), 100, flags), 0) << flags;
    }
    for (const DWORD flags : {0U, 4U, 5U, 8U, 0x80000001U, 0xFFFFFFFFU}) {
        EXPECT_EQ(error_of(memory.data(), 100, flags), WSAEINVAL) << flags;
    }
}

// [F.WSPRegisterMemory.WSAEFAULT C8]
TEST_F(MemoryTest, NullAndLengthZeroAreAFault) {  // length 0: project decision
    EXPECT_EQ(error_of(nullptr, 100, MEM_READ), WSAEFAULT);
    EXPECT_EQ(error_of(memory.data(), 0, MEM_READ), WSAEFAULT);
}

// [F.WSPRegisterMemory.WSAEFAULT]
TEST_F(MemoryTest, MemoryThatIsNotMappedIsAFault) {
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    auto* three = static_cast<char*>(
        ::mmap(nullptr, 3 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    ASSERT_NE(three, MAP_FAILED);
    ASSERT_EQ(::munmap(three + page, page), 0);
    EXPECT_EQ(error_of(three, page, MEM_READ), 0);
    EXPECT_EQ(error_of(three + page, page, MEM_READ), WSAEFAULT);
    EXPECT_EQ(error_of(three, 3 * page, MEM_READ), WSAEFAULT);
    EXPECT_EQ(error_of(three, page + 1, MEM_READ), WSAEFAULT);
    EXPECT_EQ(error_of(reinterpret_cast<void*>(UINTPTR_MAX - 4095), 8192, MEM_READ), WSAEFAULT);
    ::munmap(three, page);
    ::munmap(three + 2 * page, page);
}

// [F.WSPRegisterMemory.WSAENOTCONN C7]
TEST_F(MemoryTest, OnlyConnectedSocketsRegister) {
    int error = 0;
    for (const SOCKET s : {socket(), bound(), listening(fresh_address())}) {
        EXPECT_EQ(san.register_memory(s, memory.data(), 100, MEM_READ, &error), nullptr);
        EXPECT_EQ(error, WSAENOTCONN);
    }
}

// [R7.1 F.WSPRegisterMemory.3 R20.8]
TEST_F(MemoryTest, EveryPartOfARegistrationIsUsable) {
    (void)add(1000, 1000);
    EXPECT_EQ(send_from(1000, 1000), WSA_IO_PENDING);
    EXPECT_EQ(send_from(1500, 1), WSA_IO_PENDING);
    EXPECT_EQ(send_from(1999, 1), WSA_IO_PENDING);
    EXPECT_EQ(receive_into(1999, 1), WSA_IO_PENDING);
    EXPECT_EQ(send_from(999, 2), WSAEFAULT);
    EXPECT_EQ(send_from(1999, 2), WSAEFAULT);
    EXPECT_EQ(receive_into(999, 2), WSAEFAULT);
}

// [R7.2 C4 R20.8]
TEST_F(MemoryTest, RightsAreChecked) {
    (void)add(0, 4096, MEM_READ);
    (void)add(8192, 4096, MEM_WRITE);
    EXPECT_EQ(send_from(0), WSA_IO_PENDING);
    EXPECT_EQ(receive_into(0), WSAEFAULT);
    EXPECT_EQ(send_from(8192), WSAEFAULT);
    EXPECT_EQ(receive_into(8192), WSA_IO_PENDING);
}

// [R7.3]
TEST_F(MemoryTest, DeregisteredMemoryIsNotUsable) {
    HANDLE handle = add();
    EXPECT_EQ(send_from(0), WSA_IO_PENDING);
    EXPECT_EQ(san.deregister_memory(pair.client.s, handle), 0);
    EXPECT_EQ(send_from(0), WSAEFAULT);
    EXPECT_EQ(receive_into(0), WSAEFAULT);
}

// [F.WSPDeregisterMemory.1 F.WSPRegisterMemory.2]
TEST_F(MemoryTest, RepeatedRegistrationsAreCounted) {
    HANDLE first = add();
    HANDLE second = add();
    EXPECT_EQ(san.deregister_memory(pair.client.s, first), 0);
    EXPECT_EQ(send_from(0), WSA_IO_PENDING);
    EXPECT_EQ(san.deregister_memory(pair.client.s, second), 0);
    EXPECT_EQ(send_from(0), WSAEFAULT);
}

// [F.WSPRegisterMemory.2]
TEST_F(MemoryTest, RegistrationsMayOverlapAndBelongToSeveralSockets) {
    HANDLE whole = add(0, 65536, MEM_READ);
    HANDLE middle = add(10000, 1000, MEM_WRITE);
    EXPECT_NE(san.register_memory(pair.server.s, memory.data(), 65536, MEM_READ), nullptr);
    EXPECT_EQ(send_from(9000, 5000), WSA_IO_PENDING);
    EXPECT_EQ(receive_into(10000), WSA_IO_PENDING);
    EXPECT_EQ(san.deregister_memory(pair.client.s, whole), 0);
    EXPECT_EQ(send_from(10000), WSAEFAULT) << "write-only now";
    EXPECT_EQ(san.deregister_memory(pair.client.s, middle), 0);
}

// [R7.4 C6]
TEST_F(MemoryTest, AnotherConnectionsRegistrationGivesNothing) {  // project decision
    EXPECT_NE(san.register_memory(pair.server.s, memory.data(), 4096, MEM_READWRITE), nullptr);
    EXPECT_EQ(send_from(0), WSAEFAULT);
    EXPECT_EQ(receive_into(0), WSAEFAULT);
    EXPECT_EQ(san.deregister_memory(pair.client.s, pair.server.region), WSAEINVAL);
    EXPECT_EQ(san.deregister_memory(pair.server.s, pair.server.region), 0);
}

// [F.WSPDeregisterMemory.WSAEINVAL]
TEST_F(MemoryTest, WhatIsNoRegistrationIsInvalid) {
    const SOCKET s = pair.client.s;
    HANDLE handle = add();
    EXPECT_EQ(san.deregister_memory(s, nullptr), WSAEINVAL);
    EXPECT_EQ(san.deregister_memory(s, memory.data()), WSAEINVAL);
    EXPECT_EQ(san.deregister_memory(s, reinterpret_cast<HANDLE>(UINTPTR_MAX)), WSAEINVAL);
    std::mt19937_64 random(20240607);
    for (int i = 0; i < 5000; ++i) {
        EXPECT_EQ(san.deregister_memory(s, reinterpret_cast<HANDLE>(random())), WSAEINVAL);
    }
    EXPECT_EQ(san.deregister_memory(s, handle), 0);
    EXPECT_EQ(san.deregister_memory(s, handle), WSAEINVAL) << "twice";
}

// [C5 F.WSPDeregisterMemory.WSAEINVAL]
TEST_F(MemoryTest, MemoryInUseStaysRegistered) {
    HANDLE handle = add(0, 65536);
    Polled receive;
    ASSERT_EQ(san.recv(pair.client.s, memory.data(), 64, &receive), WSA_IO_PENDING);
    EXPECT_EQ(san.deregister_memory(pair.client.s, handle), WSAEINVAL);
    send_now(pair.server, "8 bytes.");
    EXPECT_EQ(san.finish(pair.client.s, &receive).bytes, 8U);
    Polled operation;  // waits for a receive
    ASSERT_EQ(san.send(pair.client.s, memory.data(), 60000, &operation), WSA_IO_PENDING);
    EXPECT_EQ(san.deregister_memory(pair.client.s, handle), WSAEINVAL);
    EXPECT_EQ(receive_now(pair.server, 65536).size(), 60000U);
    EXPECT_EQ(san.finish(pair.client.s, &operation).error, 0);
    EXPECT_EQ(san.deregister_memory(pair.client.s, handle), 0);
}

}  // namespace
}  // namespace sanpoll::conformance
