// WSPRdmaWrite and WSPRdmaRead between two ends: sections 7 and 9.
#include <algorithm>
#include <cstring>

#include "tests/conformance/rdma_fixture.hpp"

namespace sanpoll::conformance {
namespace {

const std::size_t kLengths[] = {0, 1, 63, 64, 65, 1000, 4096, 20000};

// [R7.6 F.WSPRdma.1 F.WSPRdma.3 F.WSPRdma.WSA_IO_PENDING]
TEST_F(RdmaTest, AWriteChangesThePeersMemoryAtTheOffset) {
    std::memset(pair.server.at(0), '#', 65536);
    Descriptor target = expose(pair.server, 1000, 30000);
    for (const std::size_t length : kLengths) {
        std::memset(pair.client.at(0), 'w', length);
        write_now(pair.client, 0, length, target, 100);
        EXPECT_EQ(std::string(pair.server.at(1100), length), std::string(length, 'w'));
        EXPECT_EQ(*pair.server.at(1099), '#');
        EXPECT_EQ(*pair.server.at(1100 + length), '#');
        std::memset(pair.server.at(0), '#', 65536);
    }
}

// [R7.6 F.WSPRdma.1 F.WSPRdma.3]
TEST_F(RdmaTest, AReadFetchesThePeersMemoryAtTheOffset) {
    std::memset(pair.server.at(0), '#', 65536);
    Descriptor source = expose(pair.server, 1000, 30000);
    std::memset(pair.server.at(1100), 'r', 20000);
    for (const std::size_t length : kLengths) {
        std::memset(pair.client.at(0), '.', 65536);
        read_now(pair.client, 500, length, source, 100);
        EXPECT_EQ(std::string(pair.client.at(500), length), std::string(length, 'r'));
        EXPECT_EQ(*pair.client.at(499), '.');
        EXPECT_EQ(*pair.client.at(500 + length), '.');
    }
    EXPECT_EQ(std::count(pair.server.memory.begin(), pair.server.memory.end(), 'r'), 20000);
}

// [F.WSPRdma.1]
TEST_F(RdmaTest, ListsAreGatheredAndScattered) {
    Descriptor memory = expose(pair.server, 0, 4096);
    const std::string text = "gathered from three places";
    text.copy(pair.client.at(0), 8);
    text.copy(pair.client.at(1000), 5, 8);
    text.copy(pair.client.at(2000), std::string::npos, 13);
    HANDLE region = pair.client.region;
    WSABUFEX gather[] = {{8, pair.client.at(0), region},
                         {0, nullptr, nullptr},
                         {5, pair.client.at(1000), region},
                         {static_cast<ULONG>(text.size() - 13), pair.client.at(2000), region}};
    Polled operation;
    ASSERT_EQ(san.rdma_write(pair.client.s, gather, 4, memory.data(), memory.size(), 7, &operation),
              WSA_IO_PENDING);
    EXPECT_EQ(san.finish(pair.client.s, &operation).bytes, text.size());
    EXPECT_EQ(std::string(pair.server.at(7), text.size()), text);
    WSABUFEX scatter[] = {{10, pair.client.at(5000), region},
                          {static_cast<ULONG>(text.size() - 10), pair.client.at(6000), region}};
    ASSERT_EQ(san.rdma_read(pair.client.s, scatter, 2, memory.data(), memory.size(), 7, &operation),
              WSA_IO_PENDING);
    EXPECT_EQ(san.finish(pair.client.s, &operation).bytes, text.size());
    EXPECT_EQ(std::string(pair.client.at(5000), 10), text.substr(0, 10));
    EXPECT_EQ(std::string(pair.client.at(6000)), text.substr(10));
}

// [F.WSPRdma.2]
TEST_F(RdmaTest, ThePeersSwitchSeesNothingOfIt) {
    Descriptor memory = expose(pair.server, 4096, 4096);
    Polled receive;
    ASSERT_EQ(recv(pair.server, &receive), WSA_IO_PENDING);
    const std::size_t before = upcalls.upcalls().size();
    write_now(pair.client, 0, 1000, memory);
    read_now(pair.client, 0, 1000, memory);
    EXPECT_EQ(san.overlapped_result(pair.server.s, &receive, 0).error, WSA_IO_INCOMPLETE);
    EXPECT_EQ(upcalls.upcalls().size(), before);
    send_now(pair.client, "this one is received");
    EXPECT_EQ(san.finish(pair.server.s, &receive).bytes, 20U);
}

// [F.WSPRdma.3 R10.4]
TEST_F(RdmaTest, ANotifiedOperationMakesOneUpcallWithTheSum) {
    Descriptor memory = expose(pair.server, 0, 4096);
    Notified written;
    Notified fetched;
    ASSERT_EQ(write(pair.client, 0, 123, memory, 0, &written), WSA_IO_PENDING);
    ASSERT_EQ(read(pair.client, 0, 321, memory, 0, &fetched), WSA_IO_PENDING);
    expect_upcall(&written, pair.client.handle, 0, 123);
    expect_upcall(&fetched, pair.client.handle, 0, 321);
}

// ---- the sequences of section 9 -----------------------------------------------------------------------------

// [R9.1 R9.4 R9.5 R20.10]
TEST_F(RdmaTest, TheSequenceWithRead) {
    for (const std::size_t length : {100U, 5000U, 30000U}) {
        // A exposes its data and tells B; B fetches it and says so at once; A takes it back.
        End& a = pair.client;
        End& b = pair.server;
        std::memset(a.at(0), static_cast<int>(length % 251), length);
        Descriptor source = expose(a, 0, length, MEM_READ);
        send_now(a, std::string(source.data(), source.size()));
        const std::string told = receive_now(b);
        Descriptor at_b(told.begin(), told.end());
        std::memset(b.at(0), 0, length);
        Polled done;
        Polled fetched;
        Polled farewell;
        ASSERT_EQ(recv(a, &done, 64, 60000), WSA_IO_PENDING);
        ASSERT_EQ(read(b, 0, length, at_b, 0, &fetched), WSA_IO_PENDING);
        ASSERT_EQ(send(b, &farewell, 4, 60000), WSA_IO_PENDING);
        EXPECT_EQ(san.finish(a.s, &done).error, 0);
        // The message was held until the read was finished: A may do with its memory what it likes.
        EXPECT_EQ(conceal(a, source), 0);
        std::memset(a.at(0), 0xEE, length);
        EXPECT_EQ(san.finish(b.s, &fetched).bytes, length);
        EXPECT_EQ(std::string(b.at(0), length),
                  std::string(length, static_cast<char>(length % 251)));
        EXPECT_EQ(san.finish(b.s, &farewell).error, 0);
    }
}

// [R9.2 R9.3 R9.5 R20.10]
TEST_F(RdmaTest, TheSequenceWithWrite) {
    for (const std::size_t length : {100U, 5000U, 30000U}) {
        End& a = pair.client;
        End& b = pair.server;
        std::memset(b.at(0), 0, length);
        std::memset(a.at(0), static_cast<int>(length % 251), length);
        Descriptor target = expose(b, 0, length, MEM_WRITE);
        send_now(b, std::string(target.data(), target.size()));
        const std::string told = receive_now(a);
        std::memset(a.at(0), static_cast<int>(length % 251), length);
        Descriptor at_a(told.begin(), told.end());
        Polled done;
        Polled written;
        Polled farewell;
        ASSERT_EQ(recv(b, &done, 64, 60000), WSA_IO_PENDING);
        ASSERT_EQ(write(a, 0, length, at_a, 0, &written), WSA_IO_PENDING);
        ASSERT_EQ(send(a, &farewell, 4, 60000), WSA_IO_PENDING);
        EXPECT_EQ(san.finish(b.s, &done).error, 0);
        EXPECT_EQ(std::string(b.at(0), length),
                  std::string(length, static_cast<char>(length % 251)))
            << "in place before the message";
        EXPECT_EQ(conceal(b, target), 0);
        EXPECT_EQ(san.finish(a.s, &written).bytes, length);
        EXPECT_EQ(san.finish(a.s, &farewell).error, 0);
    }
}

// [R9.3 R18.4]
TEST_F(RdmaTest, SendsAndRdmaCompleteInTheOrderOfPosting) {
    constexpr std::size_t kCount = 30;
    Descriptor memory = expose(pair.server, 32768, 16384);
    std::deque<Polled> receives(kCount);
    std::deque<Polled> operations(3 * kCount);
    for (Polled& receive : receives) {
        ASSERT_EQ(recv(pair.server, &receive), WSA_IO_PENDING);
    }
    for (std::size_t i = 0; i < kCount; ++i) {
        ASSERT_EQ(write(pair.client, 0, 500, memory, 0, &operations[3 * i]), WSA_IO_PENDING);
        ASSERT_EQ(send(pair.client, &operations[3 * i + 1]), WSA_IO_PENDING);
        ASSERT_EQ(read(pair.client, 1000, 500, memory, 0, &operations[3 * i + 2]), WSA_IO_PENDING);
    }
    // What is done has everything before it done: looked at from the back.
    EXPECT_TRUE(eventually([&] {
        (void)san.overlapped_result(pair.client.s, &operations.back(), 0);
        bool later = false;
        for (auto at = operations.rbegin(); at != operations.rend(); ++at) {
            const bool done =
                std::atomic_ref<ULONG_PTR>(at->Internal).load(std::memory_order_acquire) !=
                kInProgress;
            EXPECT_TRUE(done || !later);
            later |= done;
        }
        return std::atomic_ref<ULONG_PTR>(operations.back().Internal)
                   .load(std::memory_order_acquire) != kInProgress;
    }));
    for (Polled& operation : operations) {
        EXPECT_EQ(san.finish(pair.client.s, &operation).error, 0);
    }
}

// ---- the end ------------------------------------------------------------------------------------------------

// [F.WSPRdma.4 F.WSPRdma.completion.WSA_OPERATION_ABORTED]
TEST_F(RdmaTest, ClosingAbortsWhatIsPendingAndNothingIsWrittenAfterwards) {
    Descriptor memory = expose(pair.server, 0, 65536);
    std::memset(pair.server.at(0), 'r', 65536);
    std::deque<Polled> operations(20);
    for (Polled& operation : operations) {
        ASSERT_EQ(read(pair.client, 0, 60000, memory, 0, &operation), WSA_IO_PENDING);
    }
    EXPECT_EQ(san.close(pair.client.s), 0);
    const std::vector<char> before = pair.client.memory;
    for (Polled& operation : operations) {
        EXPECT_NE(operation.Internal, kInProgress);
        EXPECT_TRUE(operation.OffsetHigh == 0 || operation.OffsetHigh == WSA_OPERATION_ABORTED)
            << operation.OffsetHigh;
    }
    let_time_pass();
    EXPECT_EQ(pair.client.memory, before);
}

// [F.WSPRdma.WSAECONNRESET]
TEST_F(RdmaTest, AfterThePeersCloseItIsReset) {
    Descriptor memory = expose(pair.server, 0, 100);
    Polled receive;
    ASSERT_EQ(recv(pair.client, &receive), WSA_IO_PENDING);
    EXPECT_EQ(san.close(pair.server.s), 0);
    EXPECT_EQ(san.finish(pair.client.s, &receive).error, WSAECONNRESET);
    Polled operation;
    EXPECT_EQ(write(pair.client, 0, 8, memory, 0, &operation), WSAECONNRESET);
    EXPECT_EQ(read(pair.client, 0, 8, memory, 0, &operation), WSAECONNRESET);
}

// ---- what the peer refuses ------------------------------------------------------------------------------------

class RdmaRefusalTest : public RdmaTest {
protected:
    /// An operation that only the peer can refuse: it ends with this connection and with no other.
    void expect_refused(bool writes, Descriptor& descriptor) {
        Pair other = connected();
        const std::vector<char> before = pair.server.memory;
        Polled receive;
        Polled operation;
        ASSERT_EQ(recv(pair.client, &receive, 64, 60000), WSA_IO_PENDING);
        ASSERT_EQ(writes ? write(pair.client, 0, 8, descriptor, 0, &operation)
                         : read(pair.client, 0, 8, descriptor, 0, &operation),
                  WSA_IO_PENDING);
        EXPECT_EQ(san.finish(pair.client.s, &operation).error, WSAECONNABORTED);
        EXPECT_NE(san.finish(pair.client.s, &receive).error, 0) << "the connection is over";
        EXPECT_EQ(pair.server.memory, before);
        expect_delivery(other.client, other.server, "not touched");
    }
};

// [F.WSPDeregisterRdmaMemory.1 F.WSPRdma.completion.WSAECONNABORTED R10.16 C2 R20.10]
TEST_F(RdmaRefusalTest, ARevokedDescriptorGivesNothing) {
    for (const bool writes : {true, false}) {
        Descriptor descriptor = expose(pair.server, 0, 100);
        EXPECT_EQ(conceal(pair.server, descriptor), 0);
        expect_refused(writes, descriptor);
        pair = connected();
    }
}

// [F.WSPSend.WSAECONNABORTED F.WSPRecv.WSAECONNABORTED R10.16]
TEST_F(RdmaRefusalTest, AConnectionThatFailedTakesNothingMore) {
    Descriptor descriptor = expose(pair.server, 0, 100);
    EXPECT_EQ(conceal(pair.server, descriptor), 0);
    expect_refused(true, descriptor);
    Polled operation;
    EXPECT_EQ(send(pair.client, &operation), WSAECONNABORTED);
    EXPECT_EQ(recv(pair.client, &operation), WSAECONNABORTED);
}

// [R7.7 C2 C6 R20.10]
TEST_F(RdmaRefusalTest, AnotherConnectionsDescriptorGivesNothing) {
    Pair other = connected();
    Descriptor theirs = expose(other.server, 0, 100);
    std::memset(other.server.at(0), '#', 100);
    expect_refused(true, theirs);
    EXPECT_EQ(std::string(other.server.at(0), 100), std::string(100, '#'));
}

// [C2 C3 R20.10]
TEST_F(RdmaRefusalTest, AForgedDescriptorChangesNothing) {
    const Descriptor real = expose(pair.server, 1000, 100, MEM_READ);
    std::memset(pair.server.at(0), '#', 65536);
    // Every bit of it flipped: refused at once or by the peer, never obeyed. New connections as they end.
    for (std::size_t bit = 0; bit < 8 * real.size(); bit += 3) {
        Descriptor forged = real;
        forged[bit / 8] = static_cast<char>(forged[bit / 8] ^ (1 << bit % 8));
        Polled operation;
        int error = write(pair.client, 0, 8, forged, 0, &operation);
        if (error == WSA_IO_PENDING) {
            error = san.finish(pair.client.s, &operation).error;
            EXPECT_NE(error, 0) << bit;
            EXPECT_EQ(std::count(pair.server.memory.begin(), pair.server.memory.end(), '#'), 65536);
            break;  // this connection is over
        }
        EXPECT_TRUE(error == WSAEINVAL || error == WSAEFAULT) << bit << ": " << error;
    }
}

// [F.WSPRdma.WSAEFAULT C2 R20.10]
TEST_F(RdmaRefusalTest, WhatTheDescriptorItselfForbidsIsAFaultAndTheConnectionLives) {
    Descriptor read_only = expose(pair.server, 0, 100, MEM_READ);
    Descriptor write_only = expose(pair.server, 0, 100, MEM_WRITE);
    Polled operation;
    operation.Internal = 4711;
    const auto refused = [&](int error) {
        // A provider whose descriptors do not tell lets the peer refuse; ours tell: project decision.
        EXPECT_EQ(error, WSAEFAULT);
    };
    refused(write(pair.client, 0, 8, read_only, 0, &operation));
    refused(read(pair.client, 0, 8, write_only, 0, &operation));
    refused(read(pair.client, 0, 101, read_only, 0, &operation));
    refused(read(pair.client, 0, 8, read_only, 93, &operation));
    refused(read(pair.client, 0, 1, read_only, 0xFFFFFFFFU, &operation));
    EXPECT_EQ(operation.Internal, 4711U);
    expect_delivery(pair.client, pair.server, "alive");
}

}  // namespace
}  // namespace sanpoll::conformance
