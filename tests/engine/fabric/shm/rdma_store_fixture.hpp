// Two ports in this process, of which one has exposed an arena to the other: RDMA is done by the initiator alone, and the
// peer's core is turned only where a test says so.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <deque>
#include <thread>
#include <vector>

#include "engine/remote_regions.hpp"
#include "tests/engine/fabric/shm/shared_arena.hpp"

namespace sanpoll::engine::shm {

using tests::Bytes;
using tests::message_of;
using tests::Operation;
using tests::Socket;
using tests::TwoPorts;
using Removal = RemoteRegions::Removal;

constexpr std::uint32_t kLong = 3U << 20;
constexpr std::uint64_t kNonce = 0x1234567890ABCDEF;

class RdmaStoreTest : public testing::Test {
protected:
    void SetUp() override {
        share(true);
        ports_.connect(a_, b_);
        RemoteRegions::Table table(64);
        b_.remote.adopt(table);
    }
    void share(bool write) {
        for (Link* link : {ports_.link_a.get(), ports_.link_b.get()}) {
            link->copy = tests::this_process();
            link->sharing = Sharing::kNoneYet;
        }
        lend(arena(), ports_.b, *ports_.link_b, ports_.a, *ports_.link_a, write);
    }
    [[nodiscard]] static const memory::Arena& arena() { return tests::shareable_arena(1); }
    [[nodiscard]] static std::byte* memory() { return reinterpret_cast<std::byte*>(arena().base); }

    struct Exposed {
        std::uint32_t key;
        std::uint32_t place;
    };
    Exposed expose(void* at, std::uint32_t length = kLong, std::uint32_t access = kRead | kWrite) {
        const std::uint32_t key =
            b_.remote.add(reinterpret_cast<std::uint64_t>(at), length, access, kNonce);
        return {key, b_.remote.place_of(key)};
    }
    Operation& rdma(Opcode opcode, std::byte* local, std::uint32_t length, const Exposed& to,
                    std::uint32_t offset = 0, const std::vector<std::uint32_t>& cuts = {},
                    std::uint64_t nonce = kNonce) {
        return a_.rdma_at(opcode, {nonce, to.key, offset, to.place}, local, length, cuts);
    }
    Operation& write(const Bytes& bytes, const Exposed& to, std::uint32_t offset = 0) {
        source_.push_back(bytes);
        return rdma(Opcode::kRdmaWrite, source_.back().data(),
                    static_cast<std::uint32_t>(bytes.size()), to, offset);
    }
    /// As if the initiator were stopped in the middle of copying a part.
    void begin_part(const Exposed& to) {
        Exposure found;
        ASSERT_TRUE(ports_.link_a->seen.look(to.place, found));
        ASSERT_TRUE(ports_.link_a->seen.begin(to.place, found.state));
    }
    void expect_closed_in_time() {
        for (int i = 0; b_.closures.load() == 0; ++i) {
            ASSERT_LT(i, 100000);
            turn_b();
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
    }
    void turn_a() { (void)ports_.a.core.turn(); }
    void turn_b() { (void)ports_.b.core.turn(); }
    [[nodiscard]] const ShmCounters& counters() const { return ports_.a.port.counters(); }
    [[nodiscard]] std::uint64_t stores() const { return counters().rdma_stores.value(); }
    [[nodiscard]] static bool holds(const Bytes& bytes, std::size_t at = 0) {
        return std::equal(bytes.begin(), bytes.end(), memory() + at);
    }
    void expect_refused(Operation& operation) {
        ports_.settle();
        EXPECT_EQ(operation.ends.load(), 1);
        EXPECT_EQ(operation.status, Status::kTransportFailed);
        EXPECT_EQ(stores(), 0U);
    }

    Socket a_;
    Socket b_;
    std::deque<Bytes> source_;
    TwoPorts ports_{TwoPorts::small_config()};
};

}  // namespace sanpoll::engine::shm
