// RDMA between two ends of a connection: what is transferred, in which order things become visible, and
// what ends a connection. Everything both by copies between processes and through the staging area.
#include <random>

#include "tests/provider/rdma_fixture.hpp"

namespace sanpoll::test {
namespace {

constexpr std::size_t kLarge = 1 << 20;

class RdmaTest : public RdmaFixture, public testing::WithParamInterface<const char*> {
protected:
    void SetUp() override {
        ProviderTest::SetUp();
        pair = connected(2 * kLarge);
        memory.assign(kLarge + 2 * kGuard, kGuardByte);
        exposed = expose(pair.server, inside(), kLarge);
    }
    Knobs knobs() const override { return {{"copy", GetParam()}}; }

    static constexpr std::size_t kGuard = 4096;
    static constexpr char kGuardByte = '\x5A';
    [[nodiscard]] char* inside() { return memory.data() + kGuard; }
    /// Nothing but [from, from + bytes) of the exposed memory has changed.
    [[nodiscard]] bool untouched_around(std::size_t from, std::size_t bytes) const {
        for (std::size_t i = 0; i < memory.size(); ++i) {
            if ((i < kGuard + from || i >= kGuard + from + bytes) && memory[i] != kGuardByte) {
                return false;
            }
        }
        return true;
    }

    Pair pair;
    std::vector<char> memory;  // of the server's side, exposed between guards
    Exposed exposed;
};

TEST_P(RdmaTest, AWritePutsItsBytesInPlaceAndNoOthers) {
    for (const std::size_t bytes :
         {std::size_t{1}, std::size_t{44}, std::size_t{1000}, std::size_t{16384},
          std::size_t{16385}, std::size_t{100001}, kLarge - 12345}) {
        std::fill(memory.begin(), memory.end(), kGuardByte);
        fill(pair.client.at(3), bytes, bytes);
        ASSERT_EQ(write_now(pair.client, pair.client.at(3), bytes, exposed, 12345), 0) << bytes;
        EXPECT_TRUE(holds(inside() + 12345, bytes, bytes)) << bytes;
        EXPECT_TRUE(untouched_around(12345, bytes)) << bytes;
    }
}

TEST_P(RdmaTest, AReadBringsItsBytesAndNoOthers) {
    fill(inside(), kLarge, 5);
    for (const std::size_t bytes :
         {std::size_t{1}, std::size_t{44}, std::size_t{1000}, std::size_t{16384},
          std::size_t{16385}, std::size_t{100001}, kLarge - 12345}) {
        std::memset(pair.client.at(0), kGuardByte, 2 * kLarge);
        ASSERT_EQ(read_now(pair.client, pair.client.at(777), bytes, exposed, 12345), 0) << bytes;
        EXPECT_TRUE(holds(pair.client.at(777), bytes, 5, 12345)) << bytes;
        EXPECT_EQ(*pair.client.at(776), kGuardByte);
        EXPECT_EQ(*pair.client.at(777 + bytes), kGuardByte);
    }
}

TEST_P(RdmaTest, EightPiecesAreGatheredAndScattered) {
    for (const std::size_t step : {std::size_t{100}, std::size_t{70000}}) {
        std::fill(memory.begin(), memory.end(), kGuardByte);
        WSABUFEX buffers[8];
        std::size_t sum = 0;
        fill(pair.client.at(0), 2 * kLarge, 3);
        for (std::size_t i = 0; i < 8; ++i) {
            const std::size_t length = i == 3 ? 0 : step + i;
            buffers[i] = {static_cast<ULONG>(length), pair.client.at(i * 2 * step),
                          pair.client.region};
            sum += length;
        }
        Polled operation;
        ASSERT_EQ(san.rdma_write(pair.client.s, buffers, 8, exposed.block.data(), exposed.length, 1,
                                 &operation),
                  WSA_IO_PENDING);
        EXPECT_EQ(san.finish(pair.client.s, &operation).bytes, sum);
        const char* at = inside() + 1;
        for (std::size_t i = 0; i < 8; ++i) {
            EXPECT_TRUE(holds(at, buffers[i].len, 3, i * 2 * step)) << i;
            at += buffers[i].len;
        }
        EXPECT_TRUE(untouched_around(1, sum));
        // And back, into other places.
        std::memset(pair.client.at(0), 0, 2 * kLarge);
        for (std::size_t i = 0; i < 8; ++i) {
            buffers[i].buf = pair.client.at((7 - i) * 2 * step);
        }
        Polled back;
        ASSERT_EQ(san.rdma_read(pair.client.s, buffers, 8, exposed.block.data(), exposed.length, 1,
                                &back),
                  WSA_IO_PENDING);
        EXPECT_EQ(san.finish(pair.client.s, &back).bytes, sum);
        for (std::size_t i = 0; i < 8; ++i) {
            EXPECT_TRUE(holds(buffers[i].buf, buffers[i].len, 3, i * 2 * step)) << i;
        }
    }
}

TEST_P(RdmaTest, NothingIsAlsoATransfer) {
    EXPECT_EQ(write_now(pair.client, pair.client.at(0), 0, exposed, 5), 0);
    EXPECT_EQ(read_now(pair.client, pair.client.at(0), 0, exposed, kLarge), 0);
    Polled operation;
    ASSERT_EQ(san.rdma_write(pair.client.s, nullptr, 0, exposed.block.data(), exposed.length, 0,
                             &operation),
              WSA_IO_PENDING);
    EXPECT_EQ(san.finish(pair.client.s, &operation).error, 0);
    EXPECT_TRUE(untouched_around(0, 0));
}

TEST_P(RdmaTest, BothEndsMayAskAtOnce) {
    std::vector<char> ours(kLarge, 0);
    Exposed back = expose(pair.client, ours.data(), kLarge);
    fill(pair.client.at(0), kLarge, 1);
    fill(pair.server.at(0), kLarge, 2);
    Polled there;
    Polled here;
    ASSERT_EQ(write(pair.client, pair.client.at(0), kLarge, exposed, 0, &there), WSA_IO_PENDING);
    ASSERT_EQ(write(pair.server, pair.server.at(0), kLarge, back, 0, &here), WSA_IO_PENDING);
    EXPECT_EQ(san.finish(pair.client.s, &there).error, 0);
    EXPECT_EQ(san.finish(pair.server.s, &here).error, 0);
    EXPECT_TRUE(holds(inside(), kLarge, 1));
    EXPECT_TRUE(holds(ours.data(), kLarge, 2));
}

TEST_P(RdmaTest, AMessageAfterAWriteFindsTheBytesInPlace) {
    for (const std::size_t bytes : {std::size_t{10}, std::size_t{40000}, kLarge}) {
        std::memset(inside(), 0, kLarge);
        fill(pair.client.at(0), bytes, 7);
        Polled receive;
        Polled written;
        Polled sent;
        ASSERT_EQ(san.recv(pair.server.s, pair.server.at(0), 100, &receive), WSA_IO_PENDING);
        ASSERT_EQ(write(pair.client, pair.client.at(0), bytes, exposed, 0, &written),
                  WSA_IO_PENDING);
        ASSERT_EQ(san.send(pair.client.s, pair.client.at(0), 4, &sent), WSA_IO_PENDING);
        EXPECT_EQ(san.finish(pair.server.s, &receive).bytes, 4U);
        EXPECT_TRUE(holds(inside(), bytes, 7));
        EXPECT_EQ(san.finish(pair.client.s, &written).error, 0);
        EXPECT_EQ(san.finish(pair.client.s, &sent).error, 0);
    }
}

TEST_P(RdmaTest, AMessageAfterAReadComesWhenTheReadIsDone) {
    for (const std::size_t bytes : {std::size_t{10}, std::size_t{40000}, kLarge}) {
        fill(inside(), kLarge, 8);
        Polled receive;
        Polled fetched;
        Polled sent;
        ASSERT_EQ(san.recv(pair.server.s, pair.server.at(0), 100, &receive), WSA_IO_PENDING);
        ASSERT_EQ(read(pair.client, pair.client.at(0), bytes, exposed, 0, &fetched),
                  WSA_IO_PENDING);
        ASSERT_EQ(san.send(pair.client.s, pair.client.at(0), 4, &sent), WSA_IO_PENDING);
        EXPECT_EQ(san.finish(pair.server.s, &receive).bytes, 4U);
        // The message allows the owner to take the memory away.
        EXPECT_EQ(conceal(pair.server, exposed), 0);
        std::memset(inside(), 0, kLarge);
        EXPECT_EQ(san.finish(pair.client.s, &fetched).error, 0);
        EXPECT_TRUE(holds(pair.client.at(0), bytes, 8));
        EXPECT_EQ(san.finish(pair.client.s, &sent).error, 0);
        exposed = expose(pair.server, inside(), kLarge);
    }
}

TEST_P(RdmaTest, SendsAndTransfersCompleteInTheirOrder) {
    std::mt19937 random(11);
    constexpr std::size_t kCount = 40;
    std::vector<Polled> receives(kCount);
    std::vector<Polled> operations(kCount);
    for (auto& receive : receives) {
        ASSERT_EQ(san.recv(pair.server.s, pair.server.at(0), kLarge, &receive), WSA_IO_PENDING);
    }
    for (auto& operation : operations) {
        const std::size_t bytes = random() % 4 == 0 ? random() % kLarge : random() % 3000;
        switch (random() % 3) {
            case 0:
                ASSERT_EQ(san.send(pair.client.s, pair.client.at(0), bytes, &operation),
                          WSA_IO_PENDING);
                break;
            case 1:
                ASSERT_EQ(write(pair.client, pair.client.at(0), bytes, exposed, 0, &operation),
                          WSA_IO_PENDING);
                break;
            default:
                ASSERT_EQ(read(pair.client, pair.client.at(0), bytes, exposed, 0, &operation),
                          WSA_IO_PENDING);
        }
    }
    std::size_t done = 0;
    ASSERT_TRUE(eventually([&] {
        // Backwards: what is seen completed here must have left nothing pending before it.
        std::size_t last = 0;
        for (std::size_t i = kCount; i-- > 0 && last == 0;) {
            if (san.overlapped_result(pair.client.s, &operations[i], 0).error == 0) {
                last = i + 1;
            }
        }
        for (std::size_t i = done; i < last; ++i) {
            EXPECT_EQ(operations[i].Internal, 0U) << i << " is behind " << last - 1;
        }
        done = std::max(done, last);
        return done == kCount || HasFailure();
    }));
    EXPECT_EQ(san.close(pair.server.s), 0);  // receives are left
}

TEST_P(RdmaTest, ANotifiedTransferIsToldOnce) {
    Notified operation;
    ASSERT_EQ(write(pair.client, pair.client.at(0), kLarge, exposed, 0, &operation),
              WSA_IO_PENDING);
    ASSERT_TRUE(upcalls.wait_for(&operation));
    let_time_pass();
    EXPECT_EQ(upcalls.completions(&operation).size(), 1U);
    EXPECT_EQ(operation.InternalHigh, kLarge);
}

TEST_P(RdmaTest, LocalMemoryInUseStaysRegistered) {
    Polled operation;
    Polled blocked;
    // A long message that nobody receives keeps the transfer behind it.
    ASSERT_EQ(san.send(pair.client.s, pair.client.at(0), 100000, &blocked), WSA_IO_PENDING);
    HANDLE handle = san.register_memory(pair.client.s, pair.client.at(0), 100, MEM_READWRITE);
    WSABUFEX buffer{100, pair.client.at(0), handle};
    ASSERT_EQ(san.rdma_write(pair.client.s, &buffer, 1, exposed.block.data(), exposed.length, 0,
                             &operation),
              WSA_IO_PENDING);
    EXPECT_EQ(san.deregister_memory(pair.client.s, handle), WSAEINVAL);
    Polled receive;
    ASSERT_EQ(san.recv(pair.server.s, pair.server.at(0), kLarge, &receive), WSA_IO_PENDING);
    EXPECT_EQ(san.finish(pair.client.s, &operation).error, 0);
    EXPECT_EQ(san.deregister_memory(pair.client.s, handle), 0);
}

TEST_P(RdmaTest, ClosingAbortsWhatIsPending) {
    Polled blocked;
    Polled written;
    Polled fetched;
    ASSERT_EQ(san.send(pair.client.s, pair.client.at(0), 100000, &blocked), WSA_IO_PENDING);
    ASSERT_EQ(write(pair.client, pair.client.at(0), kLarge, exposed, 0, &written), WSA_IO_PENDING);
    ASSERT_EQ(read(pair.client, pair.client.at(0), kLarge, exposed, 0, &fetched), WSA_IO_PENDING);
    EXPECT_EQ(san.close(pair.client.s), 0);
    for (Polled* operation : {&blocked, &written, &fetched}) {
        EXPECT_EQ(operation->Internal, 0U);
        EXPECT_EQ(operation->OffsetHigh, static_cast<DWORD>(WSA_OPERATION_ABORTED));
        EXPECT_EQ(operation->InternalHigh, 0U);
    }
    EXPECT_TRUE(untouched_around(0, 0));
}

TEST_P(RdmaTest, ClosingInTheMiddleAbortsAndLeavesLocalMemoryAlone) {
    for (int i = 0; i < 50; ++i) {
        Pair other = connected(kLarge);
        Exposed target = expose(other.server, inside(), kLarge);
        Polled operation;
        ASSERT_EQ(read(other.client, other.client.at(0), kLarge, target, 0, &operation),
                  WSA_IO_PENDING);
        for (int turns = 0; turns < i % 10; ++turns) {
            (void)san.overlapped_result(other.client.s, &operation, 0);
        }
        EXPECT_EQ(san.close(other.client.s), 0);
        ASSERT_EQ(operation.Internal, 0U);
        const bool finished = operation.OffsetHigh == 0;
        EXPECT_TRUE(finished || operation.OffsetHigh == static_cast<DWORD>(WSA_OPERATION_ABORTED));
        std::memset(other.client.at(0), 1, kLarge);
        EXPECT_EQ(san.close(other.server.s), 0);
        EXPECT_EQ(*other.client.at(0), 1);
        EXPECT_EQ(*other.client.at(kLarge - 1), 1);
    }
    expect_delivery(pair.client, pair.server, "alive");
}

TEST_P(RdmaTest, ThePeersCloseResetsWhatIsPending) {
    Polled blocked;
    Polled written;
    ASSERT_EQ(san.send(pair.client.s, pair.client.at(0), 100000, &blocked), WSA_IO_PENDING);
    ASSERT_EQ(write(pair.client, pair.client.at(0), kLarge, exposed, 0, &written), WSA_IO_PENDING);
    EXPECT_EQ(san.close(pair.server.s), 0);
    EXPECT_EQ(san.finish(pair.client.s, &written).error, WSAECONNRESET);
    EXPECT_EQ(san.finish(pair.client.s, &blocked).error, WSAECONNRESET);
    EXPECT_TRUE(untouched_around(0, 0));
}

// ---- what the owner refuses: the initiator's operation fails, that connection ends, no other does.

class RdmaRefusalTest : public RdmaTest {
protected:
    void expect_refused(Exposed& target, DWORD offset, std::size_t bytes, bool writes) {
        Pair other = connected();
        Polled waiting;
        Polled behind;
        Polled operation;
        Polled receive;
        ASSERT_EQ(san.recv(pair.server.s, pair.server.at(0), 100, &waiting), WSA_IO_PENDING);
        ASSERT_EQ(san.recv(pair.client.s, pair.client.at(kLarge), 100, &receive), WSA_IO_PENDING);
        ASSERT_EQ(writes ? write(pair.client, pair.client.at(0), bytes, target, offset, &operation)
                         : read(pair.client, pair.client.at(0), bytes, target, offset, &operation),
                  WSA_IO_PENDING);
        // A polling core of its own may have heard the refusal by now: then the send is refused itself.
        const int sent = san.send(pair.client.s, pair.client.at(0), 4, &behind);
        EXPECT_EQ(san.finish(pair.client.s, &operation).error, WSAECONNABORTED);
        if (sent == WSA_IO_PENDING) {
            EXPECT_EQ(san.finish(pair.client.s, &behind).error, WSAECONNABORTED);
        } else {
            EXPECT_EQ(sent, WSAECONNABORTED);
        }
        EXPECT_EQ(san.finish(pair.client.s, &receive).error, WSAECONNABORTED);
        EXPECT_EQ(san.finish(pair.server.s, &waiting).error, WSAECONNABORTED);
        EXPECT_EQ(san.send(pair.client.s, pair.client.at(0), 4, &behind), WSAECONNABORTED);
        EXPECT_EQ(san.send(pair.server.s, pair.server.at(0), 4, &behind), WSAECONNABORTED);
        expect_delivery(other.client, other.server, "another connection lives");
    }
    void expect_all_refused(Exposed& target, DWORD offset = 0) {
        for (const bool writes : {true, false}) {
            for (const std::size_t bytes : {std::size_t{0}, std::size_t{64}, kLarge / 2}) {
                SCOPED_TRACE(testing::Message() << writes << ' ' << bytes);
                std::memset(pair.client.at(0), 1, kLarge);
                expect_refused(target, offset, bytes, writes);
                EXPECT_TRUE(untouched_around(0, 0));
                EXPECT_EQ(*pair.client.at(0), 1);
                reconnect();
            }
        }
    }
    // A fresh connection of which `exposed` is a live descriptor.
    void reconnect() {
        EXPECT_EQ(san.close(pair.client.s), 0);
        EXPECT_EQ(san.close(pair.server.s), 0);
        pair = connected(2 * kLarge);
        exposed = expose(pair.server, inside(), kLarge);
    }
};

TEST_P(RdmaRefusalTest, ARevokedDescriptorReachesNothing) {
    Exposed gone = exposed;
    ASSERT_EQ(conceal(pair.server, gone), 0);
    expect_all_refused(gone);
}

TEST_P(RdmaRefusalTest, ARevokedDescriptorReachesNothingOfAnotherRegistrationInItsPlace) {
    Exposed gone = exposed;
    ASSERT_EQ(conceal(pair.server, gone), 0);
    exposed = expose(pair.server, inside(), kLarge);
    expect_refused(gone, 0, 64, true);
    EXPECT_TRUE(untouched_around(0, 0));
}

TEST_P(RdmaRefusalTest, AnotherConnectionsDescriptorReachesNothing) {
    Pair other = connected();
    Exposed theirs = expose(other.server, inside(), kLarge);
    expect_all_refused(theirs);
    expect_delivery(other.client, other.server, "its own connection lives");
}

TEST_P(RdmaRefusalTest, OnesOwnDescriptorReachesNothing) {
    Exposed own = expose(pair.client, inside(), kLarge);
    expect_refused(own, 0, 64, true);
    EXPECT_TRUE(untouched_around(0, 0));
}

TEST_P(RdmaRefusalTest, AForgedLengthReachesNothingBeyond) {
    Exposed part = expose(pair.server, inside(), 1000);
    Exposed forged = exposed;  // the length of the whole, the key of the part
    std::memcpy(forged.block.data(), part.block.data(), 16);
    expect_refused(forged, 990, 20, true);
    EXPECT_TRUE(untouched_around(0, 0));
}

TEST_P(RdmaRefusalTest, AForgedRightReachesNothing) {
    Exposed readable = expose(pair.server, inside(), kLarge, MEM_READ);
    Exposed forged = exposed;
    std::memcpy(forged.block.data(), readable.block.data(), 16);
    expect_refused(forged, 0, 64, true);
    EXPECT_TRUE(untouched_around(0, 0));
}

TEST_P(RdmaRefusalTest, AGuessedNonceReachesNothing) {
    Exposed forged = exposed;
    forged.block[8] = static_cast<char>(forged.block[8] ^ 1);
    expect_refused(forged, 0, 64, true);
    EXPECT_TRUE(untouched_around(0, 0));
}

TEST_P(RdmaRefusalTest, ADescriptorEndsWithItsConnection) {
    Exposed old = exposed;
    reconnect();
    expect_refused(old, 0, 64, true);
    EXPECT_TRUE(untouched_around(0, 0));
}

TEST_P(RdmaRefusalTest, ABrokenSocketDeregistersStill) {
    Exposed forged = exposed;
    forged.block[8] = static_cast<char>(forged.block[8] ^ 1);
    expect_refused(forged, 0, 64, true);
    EXPECT_EQ(conceal(pair.server, exposed), 0);
    EXPECT_EQ(conceal(pair.server, exposed), WSAEINVAL);
}

TEST_P(RdmaTest, ManyRegistrationsComeAndGo) {
    std::mt19937 random(3);
    std::vector<std::pair<Exposed, std::size_t>> live;
    for (int i = 0; i < 1500; ++i) {
        if (live.size() < 200 || random() % 2 == 0) {
            const std::size_t offset = random() % (kLarge - 100);
            live.emplace_back(expose(pair.server, inside() + offset, 100), offset);
        } else {
            const std::size_t which = random() % live.size();
            EXPECT_EQ(conceal(pair.server, live[which].first), 0);
            live[which] = live.back();
            live.pop_back();
        }
        auto& [target, offset] = live[random() % live.size()];
        fill(pair.client.at(0), 100, static_cast<std::size_t>(i));
        ASSERT_EQ(write_now(pair.client, pair.client.at(0), 100, target), 0);
        ASSERT_TRUE(holds(inside() + offset, 100, static_cast<std::size_t>(i)));
    }
}

INSTANTIATE_TEST_SUITE_P(Copy, RdmaTest, testing::Values("staged", "direct"),
                         [](const auto& one) { return std::string(one.param); });
INSTANTIATE_TEST_SUITE_P(Copy, RdmaRefusalTest, testing::Values("staged", "direct"),
                         [](const auto& one) { return std::string(one.param); });

}  // namespace
}  // namespace sanpoll::test
