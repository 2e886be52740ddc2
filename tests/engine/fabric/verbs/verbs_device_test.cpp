// What an RDMA device says of itself, and memory registered with it.
#include <gtest/gtest.h>

#include "engine/fabric/verbs/device.hpp"
#include "tests/engine/fabric/verbs/fake_device.hpp"

namespace sanpoll::engine::verbs {
namespace {

using tests::FakeDevice;

std::unique_ptr<Device> device_of(FakeDevice& fake) {
    std::string error;
    auto device = Device::make(fake.api(), fake.context(), error);
    EXPECT_NE(device, nullptr) << error;
    return device;
}

TEST(DeviceTest, SaysWhatItCanDo) {
    FakeDevice::Options options;
    options.max_completions = 777;
    options.max_sges = 5;
    options.max_read_sges = 3;
    options.max_message = 12345;
    options.read_depth = 300;
    FakeDevice fake(options);
    const auto device = device_of(fake);
    EXPECT_EQ(device->name(), "fake0");
    EXPECT_EQ(device->limits().max_completions, 777U);
    EXPECT_EQ(device->limits().max_sges, 5U);
    EXPECT_EQ(device->limits().max_read_sges, 3U);
    EXPECT_EQ(device->limits().max_message, 12345U);
    EXPECT_EQ(device->limits().initiator_depth, 255) << "more cannot be said to RDMA CM";
    EXPECT_TRUE(device->has_rnr());
    EXPECT_FALSE(device->soft());
    EXPECT_FALSE(device->lost());
    device->mark_lost();
    EXPECT_TRUE(device->lost());
}

TEST(DeviceTest, IwarpHasNoRnr) {
    FakeDevice::Options options;
    options.transport = IBV_TRANSPORT_IWARP;
    FakeDevice fake(options);
    EXPECT_EQ(device_of(fake)->transport(), Transport::kIwarp);
    EXPECT_FALSE(device_of(fake)->has_rnr());
}

// Its library cannot make a queue that begins at page 0x90 of the mapped ones; they have 32 bytes an entry.
TEST(DeviceTest, SoftIwarpsUnusablePageIsCovered) {
    FakeDevice::Options options;
    options.transport = IBV_TRANSPORT_IWARP;
    options.vendor = FakeDevice::kSiwVendor;
    FakeDevice fake(options);
    static int entries;
    static decltype(Api::verbs.create_cq) create;
    entries = 0;
    create = fake.api().verbs.create_cq;
    Api watched = fake.api();
    watched.verbs.create_cq = [](ibv_context* context, int wanted, void* owner,
                                 ibv_comp_channel* channel, int vector) {
        entries = wanted;
        return create(context, wanted, owner, channel, vector);
    };
    std::string error;
    auto device = Device::make(watched, fake.context(), error);
    ASSERT_NE(device, nullptr) << error;
    EXPECT_GT(entries * 32 / 4096, 0x90);
    EXPECT_EQ(fake.completion_queues(), 1U);
    device.reset();
    EXPECT_EQ(fake.completion_queues(), 0U);
    fake.refuse_completion_queues(true);
    EXPECT_NE(Device::make(watched, fake.context(), error), nullptr) << "it does without";
}

TEST(DeviceTest, OneThatDoesNotAnswerIsRefusedWithARemedy) {
    FakeDevice fake;
    Api mute = fake.api();
    mute.verbs.query_device = [](ibv_context*, ibv_device_attr*) { return EIO; };
    std::string error;
    EXPECT_EQ(Device::make(mute, fake.context(), error), nullptr);
    EXPECT_NE(error.find("fake0"), std::string::npos) << error;
    EXPECT_NE(error.find("dmesg"), std::string::npos) << error;
}

TEST(DeviceTest, RegistrationsAreGivenBack) {
    FakeDevice fake;
    const auto device = device_of(fake);
    ibv_pd* pd = fake.api().verbs.alloc_pd(fake.context());
    std::string error;
    std::byte memory[64];
    {
        Registration first =
            device->register_memory(pd, memory, sizeof(memory), IBV_ACCESS_LOCAL_WRITE, error);
        ASSERT_TRUE(first);
        EXPECT_NE(first.lkey(), 0U);
        Registration second = std::move(first);
        EXPECT_FALSE(first);
        EXPECT_EQ(fake.registrations(), 1U);
        second = Registration();
        EXPECT_EQ(fake.registrations(), 0U);
    }
    fake.refuse_registrations(ENOMEM);
    EXPECT_FALSE(device->register_memory(pd, memory, sizeof(memory), 0, error));
    // Which of the two it is depends on what this host lets a process lock.
    EXPECT_TRUE(error.find("ulimit -l") != std::string::npos ||
                error.find("max_mr") != std::string::npos)
        << error;
    EXPECT_EQ(fake.api().verbs.dealloc_pd(pd), 0);
}

TEST(VerbsDeviceLimits, AreToldByTheNamesThatAdministratorsKnow) {
    DeviceLimits limits;
    limits.max_queue_pairs = 11;
    limits.max_work_requests = 12;
    limits.max_sges = 13;
    limits.max_completion_queues = 14;
    limits.max_completions = 15;
    limits.max_regions = 16;
    limits.max_region_bytes = 1 << 30;
    limits.max_protection_domains = 17;
    limits.initiator_depth = 18;
    limits.max_message = 1 << 20;
    EXPECT_EQ(described(limits),
              "11 queue pairs (max_qp) of 12 work requests (max_qp_wr) with 13 pieces (max_sge); "
              "14 completion queues (max_cq) of 15 entries (max_cqe); 16 memory regions (max_mr) "
              "of 1 GiB (max_mr_size) in 17 protection domains (max_pd); 18 RDMA READs of a queue "
              "pair at once (max_qp_init_rd_atom); messages of 1 MiB");
}

}  // namespace
}  // namespace sanpoll::engine::verbs
