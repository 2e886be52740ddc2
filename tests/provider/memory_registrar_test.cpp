// Memory of a connection whose device has to be told of it: what is registered, exposed and revoked, with a
// registrar of ours in the place of a device's.
#include <algorithm>
#include <vector>

#include "provider/provider.hpp"
#include "provider/rdma_descriptor.hpp"
#include "tests/engine/fake_registrar.hpp"
#include "tests/provider/rdma_fixture.hpp"

namespace sanpoll::test {
namespace {

using provider::RdmaDescriptor;

class MemoryRegistrarTest : public RdmaFixture {
protected:
    static void SetUpTestSuite() { Calls::use(WSPStartupEx); }
    void SetUp() override {
        RdmaFixture::SetUp();
        pair = connected();
    }
    /// From here on the end has a device.
    void give_device(const End& end) { record(end).registrar = &device; }
    [[nodiscard]] static provider::Socket& record(const End& end) {
        return *provider::Provider::instance().sockets().find(end.s).socket;
    }
    [[nodiscard]] static RdmaDescriptor parsed(const Exposed& exposed) {
        RdmaDescriptor descriptor{};
        std::memcpy(&descriptor, exposed.block.data(), sizeof(descriptor));
        return descriptor;
    }
    int expose_error(const End& end, void* memory, std::size_t bytes) {
        Exposed exposed;
        return san.register_rdma(end.s, memory, bytes, MEM_READ, exposed.block.data(),
                                 &exposed.length);
    }

    engine::FakeRegistrar device;
    Pair pair;
};

TEST_F(MemoryRegistrarTest, TheDeviceIsToldOfLocalMemoryAndMadeToForgetIt) {
    give_device(pair.client);
    HANDLE handle = san.register_memory(pair.client.s, pair.client.at(64), 100, MEM_READ);
    ASSERT_NE(handle, nullptr);
    ASSERT_EQ(device.local.size(), 1U);
    const auto& range = device.local.begin()->second;
    EXPECT_EQ(range.address, reinterpret_cast<std::uint64_t>(pair.client.at(64)));
    EXPECT_EQ(range.length, 100U);
    EXPECT_EQ(range.access, static_cast<std::uint32_t>(engine::kRead));
    EXPECT_EQ(san.deregister_memory(pair.client.s, handle), 0);
    EXPECT_TRUE(device.local.empty());
}

TEST_F(MemoryRegistrarTest, MemoryInUseStaysWithTheDevice) {
    give_device(pair.client);
    HANDLE handle = san.register_memory(pair.client.s, pair.client.at(0), 100, MEM_READWRITE);
    // So that the new one is used.
    EXPECT_EQ(san.deregister_memory(pair.client.s, pair.client.region), 0);
    Polled receive;
    ASSERT_EQ(san.recv(pair.client.s, pair.client.at(0), 100, &receive), WSA_IO_PENDING);
    EXPECT_EQ(san.deregister_memory(pair.client.s, handle), WSAEINVAL);
    EXPECT_EQ(device.local.size(), 1U);
    Polled send;
    ASSERT_EQ(san.send(pair.server.s, pair.server.at(0), 10, &send), WSA_IO_PENDING);
    EXPECT_EQ(san.finish(pair.client.s, &receive).error, 0);
    EXPECT_EQ(san.deregister_memory(pair.client.s, handle), 0);
    EXPECT_TRUE(device.local.empty());
}

TEST_F(MemoryRegistrarTest, WhatTheDeviceRefusesIsNotRegistered) {
    give_device(pair.client);
    const std::pair<engine::Status, int> errors[] = {
        {engine::Status::kNoMemory, WSAENOBUFS},
        {engine::Status::kBadRegion, WSAEFAULT},
        {engine::Status::kNotOpen, WSAENOTCONN},
    };
    for (const auto& [status, expected] : errors) {
        device.answer = status;
        int error = 0;
        EXPECT_EQ(san.register_memory(pair.client.s, pair.client.at(0), 8, MEM_READ, &error),
                  nullptr);
        EXPECT_EQ(error, expected);
        EXPECT_EQ(expose_error(pair.client, pair.client.at(0), 8), expected);
    }
    EXPECT_TRUE(device.local.empty());
    EXPECT_TRUE(device.exposed.empty());
    // Nothing of the refused ones is left in the tables either.
    device.answer = engine::Status::kOk;
    Exposed exposed = expose(pair.client, pair.client.at(0), 8);
    EXPECT_EQ(device.exposed.size(), 1U);
    EXPECT_EQ(conceal(pair.client, exposed), 0);
    EXPECT_TRUE(device.exposed.empty());
}

TEST_F(MemoryRegistrarTest, ADescriptorCarriesTheDevicesKey) {
    const Exposed plain = expose(pair.client, pair.client.at(0), 100);
    give_device(pair.client);
    Exposed exposed = expose(pair.client, pair.client.at(8), 100, MEM_WRITE);
    EXPECT_EQ(exposed.length, plain.length) << "one size for all";
    const RdmaDescriptor descriptor = parsed(exposed);
    EXPECT_EQ(descriptor.kind, RdmaDescriptor::Kind::kByDevice);
    EXPECT_EQ(descriptor.device_key, device.next_key.key);
    EXPECT_EQ(descriptor.device_address, device.next_key.address);
    EXPECT_EQ(descriptor.length, 100U);
    ASSERT_EQ(device.exposed.size(), 1U);
    const auto& [ref, range] = *device.exposed.begin();
    EXPECT_EQ(ref, descriptor.key);
    EXPECT_EQ(range.address, reinterpret_cast<std::uint64_t>(pair.client.at(8)));
    EXPECT_EQ(range.length, 100U);
    EXPECT_EQ(range.access, static_cast<std::uint32_t>(engine::kWrite));
}

TEST_F(MemoryRegistrarTest, EachDeregistrationRevokesItsOwnAndOnce) {
    give_device(pair.client);
    Exposed first = expose(pair.client, pair.client.at(0), 100);
    Exposed second = expose(pair.client, pair.client.at(0), 100);
    EXPECT_EQ(device.exposed.size(), 2U);
    EXPECT_EQ(conceal(pair.client, second), 0);
    EXPECT_EQ(device.exposed.count(parsed(first).key), 1U);
    EXPECT_EQ(conceal(pair.client, second), WSAEINVAL);
    EXPECT_EQ(conceal(pair.client, first), 0);
    EXPECT_TRUE(device.exposed.empty());
}

TEST_F(MemoryRegistrarTest, WhatTheDeviceIsAtWorkOnStaysExposed) {
    give_device(pair.client);
    Exposed exposed = expose(pair.client, pair.client.at(0), 100);
    device.conceal_answer = engine::Status::kFull;
    EXPECT_EQ(conceal(pair.client, exposed), WSAEINVAL);
    EXPECT_EQ(device.exposed.size(), 1U);
    device.conceal_answer = engine::Status::kOk;
    EXPECT_EQ(conceal(pair.client, exposed), 0);
}

TEST_F(MemoryRegistrarTest, AForgedDescriptorRevokesNothing) {
    give_device(pair.client);
    Exposed exposed = expose(pair.client, pair.client.at(0), 100);
    for (std::size_t bit = 0; bit < 8 * sizeof(RdmaDescriptor); ++bit) {
        Exposed forged = exposed;
        forged.block[bit / 8] = static_cast<char>(forged.block[bit / 8] ^ (1 << bit % 8));
        EXPECT_EQ(conceal(pair.client, forged), WSAEINVAL) << bit;
    }
    RdmaDescriptor guessed = parsed(exposed);
    guessed.nonce ^= 1;
    guessed.check = guessed.check_of();
    std::memcpy(exposed.block.data(), &guessed, sizeof(guessed));
    EXPECT_EQ(conceal(pair.client, exposed), WSAEINVAL);
    EXPECT_EQ(device.exposed.size(), 1U);
}

TEST_F(MemoryRegistrarTest, ADescriptorIsGoodForItsKindOfConnectionOnly) {
    Exposed plain = expose(pair.server, pair.server.at(0), 100);
    give_device(pair.server);
    Exposed by_device = expose(pair.server, pair.server.at(0), 100);
    Polled operation;
    EXPECT_EQ(write(pair.client, pair.client.at(0), 8, by_device, 0, &operation), WSAEINVAL);
    EXPECT_EQ(conceal(pair.server, plain), WSAEINVAL);
    give_device(pair.client);
    EXPECT_EQ(write(pair.client, pair.client.at(0), 8, plain, 0, &operation), WSAEINVAL);
    EXPECT_EQ(read(pair.client, pair.client.at(0), 8, plain, 0, &operation), WSAEINVAL);
    EXPECT_EQ(operation.Internal, 0U) << "nothing was started";
    expect_delivery(pair.client, pair.server, "alive");
}

TEST_F(MemoryRegistrarTest, AnOperationNamesThePlaceInTheDevicesTerms) {
    // The fabric below looks up key and nonce; so what is passed to it as the device's key shows if those
    // are the key and nonce of another piece of memory.
    const RdmaDescriptor other = parsed(expose(pair.server, pair.server.at(1000), 100));
    device.next_key = {other.nonce, other.key};
    give_device(pair.server);
    give_device(pair.client);
    Exposed exposed = expose(pair.server, pair.server.at(0), 100);
    fill(pair.client.at(0), 8, 3);
    EXPECT_EQ(write_now(pair.client, pair.client.at(0), 8, exposed, 50), 0);
    EXPECT_TRUE(holds(pair.server.at(1050), 8, 3));
    EXPECT_EQ(read_now(pair.client, pair.client.at(500), 8, exposed, 50), 0);
    EXPECT_TRUE(holds(pair.client.at(500), 8, 3));
    // Bounds and rights are the descriptor's.
    Polled operation;
    EXPECT_EQ(write(pair.client, pair.client.at(0), 8, exposed, 93, &operation), WSAEFAULT);
}

TEST_F(MemoryRegistrarTest, ADamagedDescriptorReachesNothing) {
    give_device(pair.server);
    give_device(pair.client);
    const Exposed exposed = expose(pair.server, pair.server.at(0), 100);
    for (std::size_t bit = 0; bit < 8 * sizeof(RdmaDescriptor); ++bit) {
        Exposed damaged = exposed;
        damaged.block[bit / 8] = static_cast<char>(damaged.block[bit / 8] ^ (1 << bit % 8));
        Polled operation;
        EXPECT_EQ(write(pair.client, pair.client.at(0), 8, damaged, 0, &operation), WSAEINVAL)
            << bit;
    }
    expect_delivery(pair.client, pair.server, "alive");
}

TEST_F(MemoryRegistrarTest, ARecordThatIsUsedAgainHasNoDevice) {
    for (int i = 0; i < 3; ++i) {
        give_device(pair.client);
        give_device(pair.server);
        Exposed exposed = expose(pair.client, pair.client.at(0), 100);
        EXPECT_EQ(san.close(pair.client.s), 0);
        EXPECT_EQ(conceal(pair.client, exposed), WSAENOTSOCK);
        EXPECT_EQ(san.close(pair.server.s), 0);
        pair = connected();
    }
    std::vector<Pair> pairs;
    for (int i = 0; i < 200; ++i) {  // all records of the table, sooner or later
        pairs.push_back(connected(64));
        EXPECT_EQ(record(pairs.back().client).registrar.load(), nullptr);
        EXPECT_EQ(record(pairs.back().server).registrar.load(), nullptr);
    }
}

}  // namespace
}  // namespace sanpoll::test
