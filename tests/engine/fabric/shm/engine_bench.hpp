// A whole engine that connects to itself.
#pragma once

#include <unistd.h>

#include <atomic>
#include <future>
#include <mutex>

#include "engine/engine.hpp"
#include "engine/fabric/fabric.hpp"
#include "tests/engine/fabric/shm/two_ports.hpp"
#include "tests/engine/patience.hpp"

namespace sanpoll::tests {

class EngineBench {
public:
    explicit EngineBench(engine::Config config = {}) {
        std::string error;
        engine = engine::Engine::start(std::move(config), engine::Clock::steady(),
                                       operation_handlers(), error);
        EXPECT_NE(engine, nullptr) << error;
    }

    [[nodiscard]] engine::Fabric& fabric() { return engine->fabric(); }

    /// An address that no other process of the tests uses: 127.0.0.0/8 is large.
    [[nodiscard]] static engine::Address fresh_address() {
        static std::atomic<std::uint16_t> next{5000};
        return {0x7F000000U | (static_cast<std::uint32_t>(::getpid()) & 0xFFFFFFU),
                next.fetch_add(1)};
    }

    struct Outcome {
        std::promise<engine::Fabric::ConnectResult> promise;
        std::future<engine::Fabric::ConnectResult> future = promise.get_future();
        std::shared_ptr<engine::OutgoingConnection> outgoing;
    };

    [[nodiscard]] std::unique_ptr<Outcome> dial(const engine::Address& to, Socket& socket,
                                                engine::ConnectData data = {}) {
        auto outcome = std::make_unique<Outcome>();
        outcome->outgoing =
            fabric().connect({0x7F000001, 1}, to, std::move(data), socket.owner(),
                             [raw = outcome.get()](engine::Fabric::ConnectResult result) {
                                 raw->promise.set_value(std::move(result));
                             });
        return outcome;
    }

    /// Fails the test if the result takes more than a minute.
    [[nodiscard]] static engine::Fabric::ConnectResult result_of(Outcome& outcome) {
        if (outcome.future.wait_for(std::chrono::seconds(60)) != std::future_status::ready) {
            ADD_FAILURE() << "no result of a connect";
            return {engine::Status::kTransportFailed, {}};
        }
        return outcome.future.get();
    }

    std::unique_ptr<engine::Engine> engine;
};

/// A listener that keeps requests until the test answers them.
class Backlog {
public:
    Backlog(EngineBench& bench, const engine::Address& at) {
        status = bench.fabric().listen(
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
    void stop() { listening_.reset(); }

    engine::Status status = engine::Status::kOk;
    std::atomic<bool> full{false};

private:
    std::mutex mutex_;
    std::deque<std::shared_ptr<engine::IncomingConnection>> requests_;
    std::unique_ptr<engine::Listening> listening_;
};

/// Connects two sockets by way of the listener.
inline void join(EngineBench& bench, Backlog& backlog, const engine::Address& at, Socket& from,
                 Socket& to) {
    const auto outcome = bench.dial(at, from);
    const auto request = backlog.next();
    ASSERT_NE(request, nullptr);
    ASSERT_EQ(request->accept(to.owner(), {}), engine::Status::kOk);
    ASSERT_EQ(EngineBench::result_of(*outcome).status, engine::Status::kOk);
}

/// Waits as WSPGetOverlappedResult does.
inline void wait_for(Socket& socket, const Operation& operation) {
    socket.core_slot.load()->wait_until([&] { return operation.ended(); });
}

inline void close_all(std::initializer_list<Socket*> sockets) {
    for (Socket* socket : sockets) {
        socket->close();
        ASSERT_TRUE(eventually([&] { return socket->closures.load() == 1; }));
    }
}

}  // namespace sanpoll::tests
