// A close whose connection takes longer to end: WSPCloseSocket waits, and is woken whoever ends it.
#include <gtest/gtest.h>

#include <thread>

#include "provider/provider.hpp"
#include "tests/engine/thread_state.hpp"
#include "tests/provider/provider_fixture.hpp"

namespace sanpoll::test {
namespace {

/// Stands before a fabric's port and keeps the closes that reach it.
class LatePort final : public engine::FabricPort {
public:
    explicit LatePort(engine::FabricPort& port) : port_(port) {}

    void post(engine::Endpoint& endpoint, const engine::WorkRequest& request) noexcept override {
        port_.post(endpoint, request);
    }
    void close(engine::Endpoint& endpoint) noexcept override {
        endpoint.port = &port_;
        kept.store(&endpoint);
    }
    std::uint32_t poll(std::uint32_t budget) noexcept override { return port_.poll(budget); }
    void arm() noexcept override { port_.arm(); }
    void disarm() noexcept override { port_.disarm(); }
    [[nodiscard]] std::string_view fabric() const noexcept override { return port_.fabric(); }

    /// On the calling thread, which is not the one that closes.
    void close_at_last() {
        struct Op final : engine::ControlOp {
            explicit Op(engine::Endpoint& target) : endpoint(target) {}
            void run() noexcept override { endpoint.port->close(endpoint); }
            engine::Endpoint& endpoint;
        } op(*kept.load());
        op.endpoint.core->run(op);
    }

    std::atomic<engine::Endpoint*> kept{nullptr};

private:
    engine::FabricPort& port_;
};

class LateCloseTest : public ProviderTest, public testing::WithParamInterface<const char*> {
protected:
    static void SetUpTestSuite() { Calls::use(WSPStartupEx); }
    Knobs knobs() const override { return {{"mode", GetParam()}}; }
};

TEST_P(LateCloseTest, TheCallReturnsWhenAnotherThreadHasEndedTheConnection) {
    Pair pair = connected();
    provider::Socket& record = *provider::Provider::instance().sockets().find(pair.client.s).socket;
    engine::Endpoint& endpoint = *record.endpoint.load();
    LatePort late(*endpoint.port);
    endpoint.port = &late;
    Polled receive;
    ASSERT_EQ(san.recv(pair.client.s, pair.client.at(0), 100, &receive), WSA_IO_PENDING);
    std::atomic<int> closer{0};
    std::atomic<bool> returned{false};
    std::thread closing([&] {
        closer.store(tests::this_thread_id());
        EXPECT_EQ(san.close(pair.client.s), 0);
        returned.store(true);
    });
    ASSERT_TRUE(eventually(
        [&] { return late.kept.load() != nullptr && tests::thread_sleeps(closer.load()); }));
    EXPECT_FALSE(returned.load());
    EXPECT_NE(receive.Internal, 0U);
    late.close_at_last();
    const bool woken = eventually([&] { return returned.load(); });
    EXPECT_TRUE(woken);
    if (!woken) {
        record.gone.notify_all();
    }
    closing.join();
    EXPECT_EQ(receive.OffsetHigh, static_cast<DWORD>(WSA_OPERATION_ABORTED));
    EXPECT_EQ(san.close(pair.server.s), 0);
}

INSTANTIATE_TEST_SUITE_P(Modes, LateCloseTest, testing::Values("inline", "dedicated"),
                         [](const auto& mode) { return std::string(mode.param); });

}  // namespace
}  // namespace sanpoll::test
