// Two hosts with a verbs fabric each, on fake devices and a fake CM.
#pragma once

#include <gtest/gtest.h>

#include <cerrno>
#include <initializer_list>
#include <memory>
#include <mutex>
#include <vector>

#include "tests/engine/fabric/verbs/verbs_bench.hpp"

namespace sanpoll::engine::verbs {

inline constexpr std::uint32_t kHere = 0x0A000001;     // 10.0.0.1
inline constexpr std::uint32_t kThere = 0x0A000002;    // 10.0.0.2
inline constexpr std::uint32_t kNowhere = 0x0A000063;  // 10.0.0.99
inline constexpr std::uint16_t kPort = 7000;

inline ConnectData numbered(std::size_t length, int first = 1) {
    ConnectData data(length);
    for (std::size_t i = 0; i < length; ++i) {
        data[i] = static_cast<std::byte>(i + static_cast<std::size_t>(first));
    }
    return data;
}

class VerbsFabricTest : public testing::Test {
protected:
    VerbsFabricTest() {
        const Api devices = api_;
        cm_.make_queue_pair = [devices](rdma_cm_id& id, ibv_pd* pd, ibv_qp_init_attr& wanted) {
            return devices.cm.create_qp(&id, pd, &wanted);
        };
        cm_.destroy_queue_pair = [devices](rdma_cm_id& id) { devices.cm.destroy_qp(&id); };
        cm_.join_queue_pairs = [this](rdma_cm_id& one, rdma_cm_id& other) {
            const std::lock_guard lock(tests::the_device_mutex());
            here_device_->device().join(&one, &other);
        };
        tests::FakeCm::fill(api_.cm);
        api_.verbs.get_async_event = [](ibv_context*, ibv_async_event*) {
            errno = EAGAIN;
            return -1;
        };
        use(IBV_TRANSPORT_IB);
    }

    void use(ibv_transport_type transport) {
        here_device_ = std::make_unique<tests::SharedDevice>(transport);
        there_device_ = std::make_unique<tests::SharedDevice>(transport);
        cm_.add_address(kHere, here_device_->context());
        cm_.add_address(kThere, there_device_->context());
    }

    void start(const Config& config = {}) {
        here_ = std::make_unique<tests::VerbsHost>(api_, std::vector{kHere}, config);
        there_ = std::make_unique<tests::VerbsHost>(api_, std::vector{kThere}, config);
        ASSERT_EQ(here_->error, "");
        ASSERT_EQ(there_->error, "");
    }

    void TearDown() override {
        here_.reset();
        there_.reset();
        EXPECT_EQ(cm_.identifiers(), 0U) << "every one is given back";
        EXPECT_EQ(cm_.queue_pairs(), 0U);
        for (tests::SharedDevice* device : {here_device_.get(), there_device_.get()}) {
            EXPECT_EQ(device->device().queue_pairs(), 0U);
            EXPECT_EQ(device->device().registrations(), 0U);
            EXPECT_EQ(device->device().domains(), 0U);
            EXPECT_EQ(device->device().completion_queues(), 0U);
            EXPECT_EQ(device->device().channels(), 0U);
            EXPECT_FALSE(device->device().overrun());
        }
    }

    // Connects `from` on this host to `to` on the other one.
    void join(tests::VerbsBacklog& backlog, tests::Socket& from, tests::Socket& to) {
        const auto outcome = tests::dial(*here_, {kHere, 1}, {kThere, kPort}, from);
        const auto request = backlog.next();
        ASSERT_NE(request, nullptr);
        ASSERT_EQ(request->accept(to.owner(), {}), Status::kOk);
        ASSERT_EQ(outcome->result().status, Status::kOk);
    }

    static void close_all(std::initializer_list<tests::Socket*> sockets) {
        for (tests::Socket* socket : sockets) {
            socket->close();
            ASSERT_TRUE(tests::eventually([&] { return socket->closures.load() == 1; }));
        }
    }

    // Only what stays while the hosts are up: an anchor each, and `listeners`.
    void expect_only(std::size_t listeners) {
        EXPECT_TRUE(tests::eventually([&] { return cm_.identifiers() == 2 + listeners; }));
        EXPECT_TRUE(tests::eventually([&] { return cm_.queue_pairs() == 0; }));
        EXPECT_TRUE(tests::eventually([&] {
            return here_->fabric.census().sessions + there_->fabric.census().sessions == 0;
        }));
    }

    tests::FakeCm cm_;
    Api api_ = tests::SharedDevice::calls();
    std::unique_ptr<tests::SharedDevice> here_device_;
    std::unique_ptr<tests::SharedDevice> there_device_;
    std::unique_ptr<tests::VerbsHost> here_;
    std::unique_ptr<tests::VerbsHost> there_;
};

}  // namespace sanpoll::engine::verbs
