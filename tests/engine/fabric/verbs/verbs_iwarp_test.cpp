// What is different on iWARP: writes that end early, completions out of order, ends that nobody explains.
#include "tests/engine/fabric/verbs/verbs_rdma_fixture.hpp"

namespace sanpoll::tests {
namespace {

using engine::DeviceKey;
using engine::Opcode;
using engine::Status;

class VerbsIwarpTest : public VerbsRdmaFixture {
protected:
    void SetUp() override {
        open(options_with(6, 1, UINT32_MAX, IBV_TRANSPORT_IWARP));
        target = expose(*ends.second, far_memory, 0, 1000);
    }
    DeviceKey target;
};

TEST_F(VerbsIwarpTest, AWriteEndsWhenAnAnswerHasPassedIt) {
    net->net.hold(ends.first->id, true);
    const Operation& written = write({{0, 1000}}, target);
    net->turn();
    net->net.deliver(ends.first->id, 1);
    net->turn();
    EXPECT_FALSE(written.ended());
    net->net.deliver(ends.first->id, 1);
    net->turn();
    EXPECT_TRUE(written.good());
}

TEST_F(VerbsIwarpTest, NothingOvertakesARead) {
    const Operation& receive = message(Opcode::kReceive, {far_piece({kBytes - 100, 100})});
    net->turn();
    const std::uint32_t first_words = net->net.posted_sends();
    net->net.hold(ends.first->id, true);
    write({{0, 10}}, target);  // and a read behind it
    write({{0, 10}}, target);
    const Operation& sent = message(Opcode::kSend, {near_piece({0, 10})});
    net->turn();
    EXPECT_EQ(net->net.posted_sends() - first_words, 2U) << "the second write and the message wait";
    net->net.hold(ends.first->id, false);
    net->turn();
    EXPECT_TRUE(sent.good());
    EXPECT_TRUE(receive.good());
    EXPECT_EQ(net->net.posted_sends() - first_words, 5U);
    EXPECT_EQ(net->net.fenced(), 0U) << "Soft-iWARP's fences can lock two ends up";
}

TEST_F(VerbsIwarpTest, WhatWaitsForReadsGoesWhenTheLastHasEnded) {
    net->turn();
    net->net.hold(ends.first->id, true);
    const Operation& first = read({{0, 10}, {20, 10}}, target);  // two work requests
    const Operation& second = read({{40, 10}}, target);
    const Operation& written = write({{0, 10}}, target);
    net->turn();
    const std::uint32_t reads = net->net.posted_sends();
    net->net.deliver(ends.first->id, 2);
    net->turn();
    EXPECT_TRUE(first.good());
    EXPECT_EQ(net->net.posted_sends(), reads) << "one is still under way";
    net->net.deliver(ends.first->id, 1);
    net->turn();
    EXPECT_TRUE(second.good());
    EXPECT_EQ(net->net.posted_sends(), reads + 2);
    net->net.hold(ends.first->id, false);
    net->turn();
    EXPECT_TRUE(written.good());
}

TEST_F(VerbsIwarpTest, WhatIsPostedBehindAReadThatIsGivenUpEndsAfterIt) {
    net->net.hold(ends.first->id, true);
    const Operation& reading = read({{0, 10}}, target);
    net->turn();
    net->net.flush(ends.first->id);
    net->turn();
    ASSERT_FALSE(reading.ended()) << "the queue pair is still there";
    // As if the posts had passed the gate before it was shut.
    Operation& sent = client->operations.emplace_back();
    Operation& written = client->operations.emplace_back();
    for (const auto& [opcode, operation] :
         {std::pair{Opcode::kSend, &sent}, std::pair{Opcode::kRdmaWrite, &written}}) {
        engine::WorkRequest request{};
        request.opcode = opcode;
        request.context = reinterpret_cast<std::uint64_t>(operation);
        net->a.port.post(*ends.first, request);
    }
    EXPECT_FALSE(sent.ended() || written.ended());
    net->settle();
    for (const Operation* each : {&reading, &std::as_const(sent), &std::as_const(written)}) {
        EXPECT_EQ(each->ends, 1);
        EXPECT_EQ(each->status, Status::kTransportFailed);
    }
}

TEST_F(VerbsIwarpTest, AnErrorSaysNothingGoodOfTheReadsBeforeIt) {
    net->net.hold(ends.first->id, true);
    const Operation& first = read({{0, 10}}, target);
    const Operation& second = read({{10, 10}}, target);
    net->turn();
    net->net.fail_last(ends.first->id, IBV_WC_LOC_QP_OP_ERR);
    net->settle();
    for (const Operation* each : {&first, &second}) {
        EXPECT_EQ(each->ends, 1);
        EXPECT_EQ(each->status, Status::kTransportFailed);
    }
    EXPECT_TRUE(untouched_around(near_memory, 0, 0));
}

TEST_F(VerbsIwarpTest, TheEndOfTheStreamIsThePeersUnlessItRefusedSomething) {
    const Operation& receive = client->receive(100);
    net->net.flush(ends.first->id);
    net->settle();
    EXPECT_EQ(receive.status, Status::kReset);
}

TEST_F(VerbsIwarpTest, ARefusalIsToldThoughTheStreamsEndIsHeardOfFirst) {
    net->net.hold(ends.first->id, true);
    const Operation& written = write({{0, 1000}}, target, 1);
    (void)net->a.core.turn();
    net->net.hold(ends.first->id, false);
    net->a.port.fail(*ends.first, Status::kReset);
    net->settle();
    EXPECT_EQ(written.ends, 1);
    EXPECT_EQ(written.status, Status::kTransportFailed);
}

// ---- ends -----------------------------------------------------------------------------------------------

TEST_F(VerbsIwarpTest, ThisEndMayHaveRefusedThePeer) {
    const Operation& receive = client->receive(100);
    net->a.known_end = Status::kTransportFailed;  // as the device has told the control thread
    net->net.flush(ends.first->id);
    net->turn();
    EXPECT_FALSE(receive.ended()) << "nothing is said before that is known";
    net->settle();
    EXPECT_EQ(receive.ends, 1);
    EXPECT_EQ(receive.status, Status::kTransportFailed);
    EXPECT_EQ(client->gate.view().state, engine::PostGate::State::kFailed);
}

TEST_F(VerbsIwarpTest, WhatEndsItBeforeTheAnswerCounts) {
    const Operation& receive = client->receive(100);
    net->net.flush(ends.first->id);
    net->turn();
    net->a.port.fail(*ends.first, Status::kTransportFailed);
    EXPECT_EQ(receive.status, Status::kTransportFailed);
    net->settle();
    EXPECT_EQ(receive.ends, 1);
    client->close();
    net->settle();
    EXPECT_EQ(client->closures, 1);
    EXPECT_EQ(net->net.queue_pairs(), 0U);
}

TEST_F(VerbsIwarpTest, ACloseBeforeTheAnswerEndsToo) {
    const Operation& receive = client->receive(100);
    net->net.flush(ends.first->id);
    net->turn();
    client->close();
    EXPECT_EQ(receive.status, Status::kAborted);
    net->settle();
    EXPECT_EQ(client->closures, 1);
    EXPECT_EQ(net->net.queue_pairs(), 0U);
}

TEST_F(VerbsIwarpTest, AFarewellIsTakenWhenThePeerEndsTheStream) {
    const Operation& receive = server->receive(100);
    client->send_number(1, 100);
    client->close();
    (void)net->a.core.turn();
    EXPECT_EQ(net->a.control(), 0U) << "TCP has it, which means little";
    (void)net->b.core.turn();
    EXPECT_TRUE(receive.good());
    EXPECT_EQ(net->b.control(), 1U);
    net->settle();
    EXPECT_EQ(net->net.queue_pairs(), 0U);
}

// ---- Soft-iWARP -----------------------------------------------------------------------------------------

class VerbsSoftIwarpTest : public VerbsRdmaFixture {
protected:
    void SetUp() override {
        FakeDevice::Options options = options_with(6, 1, UINT32_MAX, IBV_TRANSPORT_IWARP);
        options.vendor = FakeDevice::kSiwVendor;
        open(options);
    }
};

TEST_F(VerbsSoftIwarpTest, ARequestThatItCannotSendAnyMoreIsNoFaultOfTheRequests) {
    const Operation& receive = client->receive(100);
    net->net.fail_next(ends.first->id, IBV_WC_LOC_QP_OP_ERR);
    client->send_number(1, 100);
    net->settle();
    EXPECT_EQ(receive.status, Status::kReset);
}

// Its short answers are wrong where their source crosses a page.
TEST_F(VerbsSoftIwarpTest, NoShortAnswerIsAskedForAcrossPages) {
    fill(far_memory, 0, 3 * 4096, 1);
    const DeviceKey all = expose(*ends.second, far_memory, 0, 3 * 4096);
    const auto base = reinterpret_cast<std::uint64_t>(far_memory.data());
    const auto edge = static_cast<std::uint32_t>(4096 - base % 4096);
    for (const std::uint32_t before : {0U, 1U, 2U, 30U, 31U, 32U, 33U}) {
        for (const std::uint32_t length : {1U, 2U, 31U, 32U, 33U, 64U, 4100U}) {
            const std::uint32_t offset = edge + 4096 - before;
            if (offset + length > 3 * 4096) {
                continue;
            }
            near_memory.assign(kBytes, std::byte{0xEE});
            const Operation& one = read({{0, length}}, all, offset);
            net->settle();
            const Operation& other =
                read({{8192, length / 2}, {16384, length - length / 2}}, all, offset);
            net->settle();
            ASSERT_TRUE(one.good() && other.good());
            const auto from = far_memory.begin() + offset;
            EXPECT_TRUE(std::equal(from, from + length, near_memory.begin()))
                << before << " " << length;
            EXPECT_TRUE(std::equal(from, from + length / 2, near_memory.begin() + 8192));
            EXPECT_TRUE(std::equal(from + length / 2, from + length, near_memory.begin() + 16384));
        }
    }
}

}  // namespace
}  // namespace sanpoll::tests
