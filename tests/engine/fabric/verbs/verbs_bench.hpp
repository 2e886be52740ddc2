// Hosts with a verbs fabric each, in one process, joined by a CM and devices that are not real.
#pragma once

#include <gtest/gtest.h>

#include <deque>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "engine/fabric/verbs/verbs_fabric.hpp"
#include "engine/lane_registry.hpp"
#include "engine/notifier.hpp"
#include "tests/engine/fabric/socket.hpp"
#include "tests/engine/fabric/verbs/fake_cm.hpp"
#include "tests/engine/fabric/verbs/fake_device.hpp"
#include "tests/engine/patience.hpp"

namespace sanpoll::tests {

/// Calls of fake devices, one at a time: those know one thread only, and hosts have several.
template <typename Tag, typename Result, typename... Arguments>
struct OneAtATime {
    static inline Result (*inner)(Arguments...) = nullptr;
    static Result call(Arguments... arguments) {
        const std::lock_guard lock(device_mutex());
        return inner(arguments...);
    }
    static std::recursive_mutex& device_mutex();
};

inline std::recursive_mutex& the_device_mutex() {
    static std::recursive_mutex mutex;
    return mutex;
}

template <typename Tag, typename Result, typename... Arguments>
std::recursive_mutex& OneAtATime<Tag, Result, Arguments...>::device_mutex() {
    return the_device_mutex();
}

/// `Tag` is another one for each function.
template <typename Tag, typename Result, typename... Arguments>
void one_at_a_time(Result (*&function)(Arguments...)) {
    using Guard = OneAtATime<Tag, Result, Arguments...>;
    if (function != nullptr && function != &Guard::call) {
        const std::lock_guard lock(Guard::device_mutex());  // another device may be in use already
        Guard::inner = function;
        function = &Guard::call;
    }
}

/// A device that several hosts' threads may use.
class SharedDevice {
public:
    explicit SharedDevice(ibv_transport_type transport = IBV_TRANSPORT_IB)
        : device_(options_of(transport)) {
        ibv_context& context = *device_.context();
        context.async_fd = -1;
        context.cmd_fd = -1;
        one_at_a_time<struct PollCq>(context.ops.poll_cq);
        one_at_a_time<struct RequestNotify>(context.ops.req_notify_cq);
        one_at_a_time<struct PostSend>(context.ops.post_send);
        one_at_a_time<struct PostReceive>(context.ops.post_recv);
    }

    [[nodiscard]] ibv_context* context() { return device_.context(); }
    [[nodiscard]] FakeDevice& device() { return device_; }

    /// The calls of all such devices.
    static engine::verbs::Api calls() {
        FakeDevice any;
        engine::verbs::Api api = any.api();
        one_at_a_time<struct AllocatePd>(api.verbs.alloc_pd);
        one_at_a_time<struct DeallocatePd>(api.verbs.dealloc_pd);
        one_at_a_time<struct Register>(api.verbs.reg_mr);
        one_at_a_time<struct RegisterAt>(api.verbs.reg_mr_iova2);
        one_at_a_time<struct Deregister>(api.verbs.dereg_mr);
        one_at_a_time<struct CreateChannel>(api.verbs.create_comp_channel);
        one_at_a_time<struct DestroyChannel>(api.verbs.destroy_comp_channel);
        one_at_a_time<struct CreateCq>(api.verbs.create_cq);
        one_at_a_time<struct DestroyCq>(api.verbs.destroy_cq);
        one_at_a_time<struct GetCqEvent>(api.verbs.get_cq_event);
        one_at_a_time<struct AckCqEvents>(api.verbs.ack_cq_events);
        one_at_a_time<struct CreateQp>(api.cm.create_qp);
        one_at_a_time<struct DestroyQp>(api.cm.destroy_qp);
        return api;
    }

private:
    static FakeDevice::Options options_of(ibv_transport_type transport) {
        FakeDevice::Options options;
        options.transport = transport;
        return options;
    }

    FakeDevice device_;
};

/// What Engine::begin puts together, with the verbs fabric alone.
class VerbsHost {
public:
    VerbsHost(const engine::verbs::Api& api, std::vector<std::uint32_t> addresses,
              engine::Config wanted = {})
        : config(std::move(wanted)),
          control(engine::Clock::steady()),
          notifier(config),
          core(config, engine::Clock::steady(), operation_handlers(), notifier, 0),
          fabric(api, config, engine::Clock::steady(), control,
                 [addresses = std::move(addresses)] {
                     std::vector<engine::verbs::HostAddress> list;
                     for (const std::uint32_t ip : addresses) {
                         list.push_back({ip, 0xFFFFFF00});
                     }
                     return list;
                 }),
          port(config, core, fabric.ended_fd()) {
        (void)engine::register_heavy_fence();
        core.add_port(port);
        fabric.add_port(port);
        notifier.add_core(core);
        EXPECT_EQ(control.start(), "");
        EXPECT_EQ(notifier.start(), "");
        EXPECT_EQ(core.start(), "");
        error = fabric.start();
    }
    ~VerbsHost() {
        fabric.stop();
        notifier.stop();
        control.stop();
        core.stop();
        engine::LaneRegistry::forget_all();
    }
    VerbsHost(const VerbsHost&) = delete;
    VerbsHost& operator=(const VerbsHost&) = delete;

    const engine::Config config;
    engine::ControlThread control;
    engine::Notifier notifier;
    engine::PollingCore core;
    engine::verbs::VerbsFabric fabric;
    engine::verbs::VerbsPort port;
    std::string error;  // of the start
};

/// The result of a connect, when it comes.
struct VerbsDial {
    std::promise<engine::Fabric::ConnectResult> promise;
    std::future<engine::Fabric::ConnectResult> future = promise.get_future();
    std::shared_ptr<engine::OutgoingConnection> outgoing;

    /// Fails the test if the result takes more than a minute.
    [[nodiscard]] engine::Fabric::ConnectResult result() {
        if (future.wait_for(std::chrono::seconds(60)) != std::future_status::ready) {
            ADD_FAILURE() << "no result of a connect";
            return {engine::Status::kTransportFailed, {}, engine::Why::kOnlyFabric};
        }
        return future.get();
    }
    [[nodiscard]] bool ready() {
        return future.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
    }
};

[[nodiscard]] inline std::unique_ptr<VerbsDial> dial(VerbsHost& host, const engine::Address& from,
                                                     const engine::Address& to, Socket& socket,
                                                     engine::ConnectData data = {}) {
    auto made = std::make_unique<VerbsDial>();
    made->outgoing = host.fabric.connect(from, to, std::move(data), socket.owner(),
                                         [raw = made.get()](engine::Fabric::ConnectResult result) {
                                             raw->promise.set_value(std::move(result));
                                         });
    return made;
}

/// A listener that keeps requests until the test answers them.
class VerbsBacklog {
public:
    VerbsBacklog(VerbsHost& host, const engine::Address& at) {
        status = host.fabric.listen(
            at,
            [this](std::shared_ptr<engine::IncomingConnection> request) {
                const std::lock_guard lock(mutex_);
                if (full) {
                    return false;
                }
                requests_.push_back(std::move(request));
                return true;
            },
            listening_);
    }

    /// The next request; nullptr after a minute.
    [[nodiscard]] std::shared_ptr<engine::IncomingConnection> next() {
        std::shared_ptr<engine::IncomingConnection> request;
        (void)eventually([&] {
            request = look();
            return request != nullptr;
        });
        return request;
    }
    /// The next request if there is one.
    [[nodiscard]] std::shared_ptr<engine::IncomingConnection> look() {
        const std::lock_guard lock(mutex_);
        if (requests_.empty()) {
            return nullptr;
        }
        auto request = std::move(requests_.front());
        requests_.pop_front();
        return request;
    }
    [[nodiscard]] bool empty() {
        const std::lock_guard lock(mutex_);
        return requests_.empty();
    }
    void stop() { listening_.reset(); }

    engine::Status status = engine::Status::kOk;
    std::atomic<bool> full{false};

private:
    std::mutex mutex_;
    std::deque<std::shared_ptr<engine::IncomingConnection>> requests_;
    std::unique_ptr<engine::Listening> listening_;
};

}  // namespace sanpoll::tests
