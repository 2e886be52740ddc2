// RDMA that a user asks for, carried out by a fake device: what is transferred, in which order, and what
// ends a connection.
#include <random>

#include "tests/engine/fabric/verbs/verbs_rdma_fixture.hpp"

namespace sanpoll::tests {
namespace {

using engine::DeviceKey;
using engine::Opcode;
using engine::Status;

/// Devices that differ in what one work request may hold.
struct Kind {
    const char* name;
    FakeDevice::Options options;
};

class VerbsRdmaTransferTest : public VerbsRdmaFixture, public testing::WithParamInterface<Kind> {
protected:
    void SetUp() override {
        open(GetParam().options);
        target = expose(*ends.second, far_memory, 1000, kBytes - 2000);
    }
    void expect_good(const Operation& operation, std::uint32_t length) {
        for (int i = 0; i < 200 && !operation.ended(); ++i) {
            net->turn();
        }
        EXPECT_EQ(operation.ends, 1);
        EXPECT_EQ(operation.status, Status::kOk);
        EXPECT_EQ(operation.length, length);
    }
    DeviceKey target;
};

TEST_P(VerbsRdmaTransferTest, AWritePutsItsBytesInPlaceAndNoOthers) {
    for (const std::uint32_t length : {1U, 44U, 219U, 220U, 221U, 5000U, 300001U}) {
        std::fill(far_memory.begin(), far_memory.end(), std::byte{0xEE});
        fill(near_memory, 7, length, length);
        expect_good(write({{7, length}}, target, 234), length);
        EXPECT_TRUE(holds(far_memory, 1234, length, length)) << length;
        EXPECT_TRUE(untouched_around(far_memory, 1234, length)) << length;
    }
}

TEST_P(VerbsRdmaTransferTest, AReadBringsItsBytesAndNoOthers) {
    for (const std::uint32_t length : {1U, 44U, 221U, 5000U, 300001U}) {
        std::fill(near_memory.begin(), near_memory.end(), std::byte{0xEE});
        fill(far_memory, 1234, length, length);
        expect_good(read({{77, length}}, target, 234), length);
        EXPECT_TRUE(holds(near_memory, 77, length, length)) << length;
        EXPECT_TRUE(untouched_around(near_memory, 77, length)) << length;
    }
}

TEST_P(VerbsRdmaTransferTest, EightPiecesAreGatheredAndScattered) {
    for (const std::uint32_t step : {10U, 700U, 50000U}) {
        std::vector<Piece> pieces;
        Bytes gathered;
        fill(near_memory, 0, kBytes, step);
        for (std::uint32_t i = 0; i < 8; ++i) {
            pieces.push_back({std::size_t{7 - i} * 2 * step, i == 3 ? 0 : step + i});
            const auto from = near_memory.begin() + static_cast<std::ptrdiff_t>(pieces[i].offset);
            gathered.insert(gathered.end(), from, from + pieces[i].length);
        }
        const auto length = static_cast<std::uint32_t>(gathered.size());
        expect_good(write(pieces, target, 1), length);
        EXPECT_TRUE(std::equal(gathered.begin(), gathered.end(), far_memory.begin() + 1001));
        std::fill(near_memory.begin(), near_memory.end(), std::byte{0xEE});
        expect_good(read(pieces, target, 1), length);
        auto at = gathered.begin();
        for (const Piece& piece : pieces) {
            EXPECT_TRUE(
                std::equal(at, at + piece.length,
                           near_memory.begin() + static_cast<std::ptrdiff_t>(piece.offset)));
            at += piece.length;
        }
    }
}

TEST_P(VerbsRdmaTransferTest, NothingIsAlsoATransfer) {
    expect_good(write({}, target), 0);
    expect_good(write({{5, 0}}, target, 9), 0);
    expect_good(read({}, target, kBytes - 2000), 0);
    EXPECT_TRUE(untouched_around(far_memory, 0, 0));
}

// More than the send queue holds at once, both directions, with messages between.
TEST_P(VerbsRdmaTransferTest, ManyAtOnceAllEndOnceInTheirOrder) {
    std::mt19937 random(7);
    std::vector<Operation*> operations;
    for (int i = 0; i < 40; ++i) {
        message(Opcode::kReceive, {far_piece({kBytes - 500, 400})});
    }
    for (int i = 0; i < 120; ++i) {
        const std::uint32_t length = 1 + random() % 30000;
        switch (i % 3) {
            case 0:
                operations.push_back(
                    &write({{random() % 100000, length}}, target, random() % 100000));
                break;
            case 1:
                operations.push_back(
                    &read({{200000 + random() % 100000, length}}, target, random() % 100000));
                break;
            default:
                operations.push_back(&message(Opcode::kSend, {near_piece({0, length % 400})}));
        }
    }
    for (int i = 0; i < 2000 && !operations.back()->ended(); ++i) {
        net->turn(1);
        bool earlier_pending = false;
        for (const Operation* operation : operations) {
            EXPECT_FALSE(earlier_pending && operation->ended());
            earlier_pending |= !operation->ended();
        }
    }
    for (const Operation* operation : operations) {
        EXPECT_EQ(operation->ends, 1);
        EXPECT_EQ(operation->status, Status::kOk);
    }
    EXPECT_EQ(counters().rdma_operations.value(), 80U);
}

INSTANTIATE_TEST_SUITE_P(Devices, VerbsRdmaTransferTest,
                         testing::Values(Kind{"Large", options_with(16, 16, 1U << 30)},
                                         Kind{"FewPieces", options_with(3, 1, 1U << 30)},
                                         Kind{"ShortRequests", options_with(2, 2, 4096)},
                                         Kind{"Iwarp",
                                              options_with(6, 1, UINT32_MAX, IBV_TRANSPORT_IWARP)}),
                         [](const auto& kind) { return std::string(kind.param.name); });

// ---- one device ---------------------------------------------------------------------------------------

class VerbsRdmaTest : public VerbsRdmaFixture {
protected:
    void SetUp() override {
        open();
        target = expose(*ends.second, far_memory, 0, 1 << 20);
    }
    DeviceKey target;
};

TEST_F(VerbsRdmaTest, LongOperationsLeaveRoomForPackets) {
    fill(near_memory, 0, kBytes, 1);
    target = expose(*ends.second, far_memory, 0, kBytes);
    net->net.hold(ends.first->id, true);
    write({{0, kBytes}}, target);
    net->turn();
    EXPECT_EQ(net->net.posted_sends(), kBytes >> 20) << "a work request for each chunk";
    net->net.hold(ends.first->id, false);
    net->turn();
    EXPECT_TRUE(client->operations.back().good());
    EXPECT_TRUE(holds(far_memory, 0, kBytes, 1));
}

TEST_F(VerbsRdmaTest, AMessageAfterAReadWaitsForIt) {
    const Operation& receive = message(Opcode::kReceive, {far_piece({kBytes - 100, 100})});
    fill(far_memory, 0, 5000, 4);
    net->net.hold(ends.first->id, true);
    const Operation& fetched = read({{0, 5000}}, target);
    const Operation& sent = message(Opcode::kSend, {near_piece({0, 10})});
    net->turn();
    EXPECT_FALSE(sent.ended());
    EXPECT_FALSE(receive.ended());
    net->net.hold(ends.first->id, false);
    net->turn();
    EXPECT_TRUE(fetched.good());
    EXPECT_TRUE(sent.good());
    ASSERT_TRUE(receive.good());
    // And it is made of what the read brought.
    EXPECT_TRUE(std::equal(far_memory.begin(), far_memory.begin() + 10, far_memory.end() - 100));
}

TEST_F(VerbsRdmaTest, AWriteAfterAReadWaitsForIt) {
    fill(far_memory, 0, 5000, 4);
    fill(near_memory, 10000, 5000, 5);
    net->net.hold(ends.first->id, true);
    read({{0, 5000}}, target);
    const Operation& written = write({{10000, 5000}}, target);
    net->turn();
    EXPECT_EQ(net->net.posted_sends(), 1U);
    net->net.hold(ends.first->id, false);
    net->turn();
    EXPECT_TRUE(written.good());
    EXPECT_TRUE(holds(near_memory, 0, 5000, 4));
    EXPECT_TRUE(holds(far_memory, 0, 5000, 5));
}

TEST_F(VerbsRdmaTest, AMessageAfterAWriteFindsTheBytesInPlace) {
    const Operation& receive = message(Opcode::kReceive, {far_piece({kBytes - 100, 100})});
    fill(near_memory, 0, 300000, 6);
    net->net.hold(ends.first->id, true);
    const Operation& written = write({{0, 300000}}, target);
    const Operation& sent = message(Opcode::kSend, {near_piece({0, 10})});
    net->turn();
    EXPECT_FALSE(written.ended());
    EXPECT_FALSE(sent.ended()) << "in order";
    while (!receive.ended()) {
        net->net.deliver(ends.first->id, 1);
        (void)net->b.core.turn();
    }
    EXPECT_TRUE(holds(far_memory, 0, 300000, 6));
    net->turn();
    EXPECT_TRUE(written.good());
    EXPECT_TRUE(sent.good());
}

TEST_F(VerbsRdmaTest, MemoryIsHeldUntilTheEnd) {
    net->net.hold(ends.first->id, true);
    write({{0, 100}}, target);
    net->turn();
    EXPECT_FALSE(client->regions.retire(client_region));
    net->net.hold(ends.first->id, false);
    net->turn();
    EXPECT_TRUE(client->regions.retire(client_region));
    const Operation& late = write({{0, 100}}, target);
    net->turn();
    EXPECT_EQ(late.ends, 1);
    EXPECT_EQ(late.status, Status::kBadRegion);
    EXPECT_TRUE(client->gate.open_for(client->generation)) << "the connection lives";
}

TEST_F(VerbsRdmaTest, TooManyAreSaidSo) {
    net->net.hold(ends.first->id, true);
    for (std::uint32_t i = 0; i < net->config.queue_depth; ++i) {
        EXPECT_FALSE(client->saturation.sends);
        write({{0, 8}}, target);
        net->turn(1);
    }
    EXPECT_TRUE(client->saturation.sends);
    net->net.hold(ends.first->id, false);
    for (int i = 0; i < 1000 && !client->operations.back().ended(); ++i) {
        net->turn(1);
    }
    EXPECT_FALSE(client->saturation.sends);
    EXPECT_TRUE(client->operations.back().good());
}

TEST_F(VerbsRdmaTest, ACloseWaitsForTheDeviceAndAbortsTheRest) {
    net->net.hold(ends.first->id, true);
    const Operation& under_way = read({{0, 5000}}, target);
    const Operation& behind = write({{0, 5000}}, target);
    net->turn();
    client->close();
    net->turn();
    EXPECT_EQ(client->closures, 0) << "the device may still write into the user's memory";
    EXPECT_FALSE(under_way.ended());
    net->net.hold(ends.first->id, false);
    net->settle();
    EXPECT_EQ(client->closures, 1);
    EXPECT_EQ(under_way.ends, 1);
    EXPECT_EQ(behind.ends, 1);
    EXPECT_EQ(behind.status, Status::kAborted);
    EXPECT_TRUE(untouched_around(far_memory, 0, 0));
}

TEST_F(VerbsRdmaTest, ACloseWithExposedMemoryWaitsForTheQueuePairsEnd) {
    const Operation& receive = client->receive(100);
    net->net.hold(ends.first->id, true);
    const Operation& written = write({{0, 100}}, target);
    net->turn();
    server->close();
    net->turn();
    EXPECT_EQ(server->closures, 0) << "the peer may still write into the user's memory";
    // What was under way is not refused, and the peer hears of nothing but the close.
    net->net.hold(ends.first->id, false);
    net->settle();
    EXPECT_EQ(server->closures, 1);
    EXPECT_TRUE(written.good());
    EXPECT_EQ(receive.status, Status::kReset);
}

TEST_F(VerbsRdmaTest, ACloseWithNothingExposedDoesNotWait) {
    EXPECT_EQ(ends.second->keys->conceal(exposures), Status::kOk);
    server->close();
    EXPECT_EQ(server->closures, 1);
}

// ---- refusals -----------------------------------------------------------------------------------------

class VerbsRdmaRefusalTest : public VerbsRdmaFixture,
                             public testing::WithParamInterface<ibv_transport_type> {
protected:
    void SetUp() override {
        FakeDevice::Options options;
        options.transport = GetParam();
        open(options);
    }
    void expect_refused(const DeviceKey& target, Opcode opcode, std::uint32_t length = 64,
                        std::uint32_t offset = 0) {
        Socket& other_client = net->make_socket();
        Socket& other_server = net->make_socket();
        (void)net->connect(other_client, other_server);
        const Bytes near_before = near_memory;
        const Bytes far_before = far_memory;
        const Operation& receive = client->receive(100);
        const Operation& operation = rdma(opcode, {{0, length}}, target, offset);
        const Operation& behind = rdma(opcode, {{0, length}}, target, offset);
        net->settle();
        for (const Operation* each : {&operation, &behind, &receive}) {
            EXPECT_EQ(each->ends, 1);
            EXPECT_EQ(each->status, Status::kTransportFailed);
        }
        EXPECT_EQ(client->gate.view().state, engine::PostGate::State::kFailed);
        EXPECT_EQ(near_memory, near_before);
        EXPECT_EQ(far_memory, far_before);
        const Operation& alive = other_server.receive(10);
        other_client.send_number(1, 10);
        net->settle();
        EXPECT_TRUE(alive.good()) << "no other connection suffers";
        // The next one is a fresh connection.
        client = &net->make_socket();
        server = &net->make_socket();
        ends = net->connect(*client, *server);
        client_region = add_region(*client, *ends.first, near_memory, kBoth);
    }
};

TEST_P(VerbsRdmaRefusalTest, RevokedMemoryIsNotReached) {
    for (const Opcode opcode : {Opcode::kRdmaWrite, Opcode::kRdmaRead}) {
        const DeviceKey key = expose(*ends.second, far_memory, 0, 100);
        EXPECT_EQ(ends.second->keys->conceal(exposures), Status::kOk);
        expect_refused(key, opcode);
    }
}

TEST_P(VerbsRdmaRefusalTest, TheRightMustHaveBeenGiven) {
    expect_refused(expose(*ends.second, far_memory, 0, 100, engine::kRead), Opcode::kRdmaWrite);
    if (GetParam() == IBV_TRANSPORT_IB) {  // iWARP: see MemoryKeys
        expect_refused(expose(*ends.second, far_memory, 0, 100, engine::kWrite), Opcode::kRdmaRead);
    }
}

TEST_P(VerbsRdmaRefusalTest, NothingOutsideIsReached) {
    for (const Opcode opcode : {Opcode::kRdmaWrite, Opcode::kRdmaRead}) {
        expect_refused(expose(*ends.second, far_memory, 0, 100), opcode, 64, 37);
        expect_refused(expose(*ends.second, far_memory, 0, 100), opcode, 101);
    }
}

TEST_P(VerbsRdmaRefusalTest, AnotherConnectionsKeyReachesNothing) {
    Socket& third = net->make_socket();
    Socket& fourth = net->make_socket();
    const TwoVerbsPorts::Ends others = net->connect(third, fourth);
    for (const Opcode opcode : {Opcode::kRdmaWrite, Opcode::kRdmaRead}) {
        expect_refused(expose(*others.second, far_memory, 0, 100), opcode);
    }
}

INSTANTIATE_TEST_SUITE_P(Transports, VerbsRdmaRefusalTest,
                         testing::Values(IBV_TRANSPORT_IB, IBV_TRANSPORT_IWARP),
                         [](const auto& kind) {
                             return kind.param == IBV_TRANSPORT_IB ? "Infiniband" : "Iwarp";
                         });

}  // namespace
}  // namespace sanpoll::tests
