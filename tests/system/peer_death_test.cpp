// kill -9 of the other process at random moments: whatever this process has pending completes exactly
// once, with WSAECONNRESET, and this process can connect to a fresh one. Nothing is left behind.
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <iterator>
#include <latch>
#include <optional>
#include <random>
#include <set>
#include <thread>

#include "tests/system/chatter.hpp"
#include "tests/system/child.hpp"
#include "tests/system/process_state.hpp"
#include "tests/system/scale.hpp"

namespace sanpoll::system_test {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr std::size_t kSockets = 3;
constexpr Told kAllKinds[kSockets] = {Told::kPolled, Told::kByPort, Told::kByEvent};

/// Until killed: "connector PORT" connects, "listener" tells its port and accepts.
const Role victim("victim", [](Channel& test, const Arguments& arguments) {
    const auto provider = load_provider();
    const bool talks = arguments.at(1) == "talks";
    std::vector<ProviderSocket> sockets;
    if (arguments.at(0) == "listener") {
        const Listener listener(*provider);
        test.tell(std::to_string(listener.port()));
        while (sockets.size() < kSockets) {
            sockets.push_back(listener.accept());
        }
    } else {
        while (sockets.size() < kSockets) {
            sockets.push_back(
                connect_to(*provider, static_cast<std::uint16_t>(std::stoul(arguments.at(0)))));
        }
    }
    std::vector<std::unique_ptr<Chatter>> chatters;
    for (const ProviderSocket& socket : sockets) {
        chatters.push_back(std::make_unique<Chatter>(*provider, socket, Told::kPolled, talks));
        chatters.back()->start();
    }
    test.tell("chatting");
    for (;;) {
        bool progress = false;
        for (const auto& chatter : chatters) {
            progress |= talks && chatter->poll();
        }
        if (!talks) {
            ::pause();
        } else if (!progress) {
            ::sched_yield();
        }
    }
    return 0;
});

/// Accepts connections for ever; tells its port.
const Role host("host", [](Channel& test, const Arguments&) {
    const auto provider = load_provider();
    const Listener listener(*provider);
    test.tell(std::to_string(listener.port()));
    for (;;) {
        provider->close(listener.accept().descriptor);
    }
    return 0;
});

class PeerDeath : public ::testing::Test {
protected:
    void SetUp() override { start({}); }

    void start(const Environment& knobs) {
        knobs_ = knobs;
        listener_.reset();
        provider_.reset();
        provider_ = load_provider(knobs);
        listener_ = std::make_unique<Listener>(*provider_);
    }

    void TearDown() override {
        print_delays();
        listener_.reset();
        provider_.reset();
        EXPECT_EQ(mapped_segments(), 0U);
    }

    /// One death; we connect to the victim, or it to us.
    void survive(bool we_connect, bool talks) {
        Child child("victim",
                    {we_connect ? "listener" : std::to_string(listener_->port()),
                     talks ? "talks" : "listens"},
                    knobs_);
        std::vector<ProviderSocket> sockets;
        std::uint16_t port = 0;
        if (we_connect) {
            port = port_of(child);
        }
        while (sockets.size() < kSockets) {
            sockets.push_back(we_connect ? connect_to(*provider_, port) : listener_->accept());
        }
        std::vector<std::unique_ptr<Chatter>> chatters;
        for (std::size_t i = 0; i < kSockets; ++i) {
            chatters.push_back(
                std::make_unique<Chatter>(*provider_, sockets[i], kAllKinds[i], talks));
        }
        std::vector<std::thread> threads;
        std::latch started(kSockets);
        for (const auto& chatter : chatters) {
            threads.emplace_back([&] { chat(*chatter, talks, started); });
        }
        started.wait();  // or there might be nothing pending yet
        child.channel().expect("chatting");
        EXPECT_TRUE(files_at_risk(child.pid()).empty()) << *files_at_risk(child.pid()).begin();
        std::this_thread::sleep_for(std::chrono::microseconds(random_() % 20000));
        const Clock::time_point killed = Clock::now();
        child.kill();
        for (std::thread& thread : threads) {
            thread.join();
        }
        EXPECT_EQ(child.reap(), -SIGKILL);
        for (const auto& chatter : chatters) {
            ASSERT_TRUE(chatter->ended()) << chatter->pending() << " operations are still pending";
            resets_ += chatter->resets();
            chatter->check_after_end();
            EXPECT_EQ(chatter->fault(), "");
            delays_.push_back(chatter->end() - killed);
            received_ += chatter->received();
        }
        if (we_connect) {
            EXPECT_FALSE(rendezvous_exists(port));
        }
    }

    [[nodiscard]] static std::uint16_t port_of(Child& child) {
        const auto port = child.channel().hear();
        if (!port) {
            throw std::runtime_error("the other process did not start");
        }
        return static_cast<std::uint16_t>(std::stoul(*port));
    }

    /// What this process has.
    struct Belongings {
        std::multiset<std::string> descriptors = open_descriptors();
        std::size_t threads = threads_of(::getpid()).size();
    };

    template <typename Right>
    static void wait_until(Right right) {
        const auto deadline = Clock::now() + kPatience;
        while (!right() && Clock::now() < deadline) {
            std::this_thread::sleep_for(milliseconds(5));
        }
    }

    /// After the first death: what is made once is there, and what the dead process has left is gone, most of the time.
    static Belongings after_the_first() {
        wait_until([] { return mapped_segments() == 0; });
        std::this_thread::sleep_for(milliseconds(100));
        return {};
    }

    /// Descriptors and threads go when the control thread comes to it.
    static void expect_no_more_than(const Belongings& first) {
        const auto more = [&] {
            const Belongings now;
            std::multiset<std::string> descriptors;
            std::set_difference(now.descriptors.begin(), now.descriptors.end(),
                                first.descriptors.begin(), first.descriptors.end(),
                                std::inserter(descriptors, descriptors.end()));
            if (now.threads > first.threads) {
                descriptors.insert(std::to_string(now.threads - first.threads) + " threads");
            }
            return descriptors;
        };
        wait_until([&] { return more().empty() && mapped_segments() == 0; });
        EXPECT_EQ(more(), std::multiset<std::string>());
        EXPECT_EQ(mapped_segments(), 0U);
        EXPECT_TRUE(files_at_risk(::getpid()).empty());
    }

    void survive_often(std::uint64_t times, bool we_connect, bool talks) {
        survive(we_connect, talks);  // what is made once is there then
        if (HasFailure()) {
            return;
        }
        const Belongings first = after_the_first();
        for (std::uint64_t i = 1; i < times && !HasFailure(); ++i) {
            SCOPED_TRACE("death " + std::to_string(i));
            survive(we_connect, talks);
        }
        expect_no_more_than(first);
        // Not of each connection: all that it had pending may have succeeded before.
        EXPECT_GT(resets_, 0U);
    }

    Environment knobs_;
    std::unique_ptr<Provider> provider_;
    std::unique_ptr<Listener> listener_;
    std::mt19937_64 random_{std::random_device{}()};

private:
    static void chat(Chatter& chatter, bool talks, std::latch& started) {
        const auto deadline = Clock::now() + kPatience;
        chatter.start();
        started.count_down();
        if (chatter.told() != Told::kPolled || !talks) {
            chatter.sleep_until_end(deadline);
            return;
        }
        while (!chatter.ended() && Clock::now() < deadline) {
            if (!chatter.poll()) {
                ::sched_yield();
            }
        }
    }

    void print_delays();

    std::vector<Clock::duration> delays_;
    std::uint64_t received_ = 0;
    std::uint64_t resets_ = 0;
};

void PeerDeath::print_delays() {
    if (delays_.empty()) {
        return;
    }
    std::sort(delays_.begin(), delays_.end());
    const auto at = [this](double part) {
        const auto index = static_cast<std::size_t>(part * static_cast<double>(delays_.size() - 1));
        return std::chrono::duration<double, std::milli>(delays_[index]).count();
    };
    std::printf(
        "%zu connections, %llu messages received, then %llu operations reset; from kill -9 "
        "to a connection's last completion p50 %.2f p90 %.2f p99 %.2f max %.2f ms\n",
        delays_.size(), static_cast<unsigned long long>(received_),
        static_cast<unsigned long long>(resets_), at(0.5), at(0.9), at(0.99), at(1.0));
}

TEST_F(PeerDeath, OfAConnectorUnderTraffic) { survive_often(scaled(100, 12), false, true); }

TEST_F(PeerDeath, OfAListenerUnderTraffic) { survive_often(scaled(100, 12), true, true); }

TEST_F(PeerDeath, IsNoticedInSleep) { survive_often(scaled(20, 5), false, false); }

TEST_F(PeerDeath, WithDedicatedCores) {
    start({{"SANPOLL_MODE", "dedicated"}});
    survive_often(scaled(10, 3), false, true);
}

// Some connects have been answered, one is on its way, the next ones find nobody.
TEST_F(PeerDeath, WhileConnecting) {
    std::optional<Belongings> first;
    for (std::uint64_t i = 0; i < scaled(40, 8); ++i) {
        SCOPED_TRACE("death " + std::to_string(i));
        {
            Child child("host");
            const std::uint16_t port = port_of(child);
            const auto kill_at = Clock::now() + std::chrono::microseconds(random_() % 10000);
            bool killed = false;
            for (int error = 0; error == 0;) {
                Connecting connecting(*provider_, port);
                if (Clock::now() >= kill_at && !killed) {
                    child.kill();
                    killed = true;
                }
                error = connecting.answer();
                if (error != 0) {
                    EXPECT_TRUE(killed);
                    EXPECT_EQ(error, WSAECONNRESET) << sanpoll_switch::wsa_error_name(error);
                }
            }
        }
        if (i == 0) {
            first = after_the_first();
        }
    }
    expect_no_more_than(*first);
    // And a fresh one is found.
    survive(true, true);
}

}  // namespace
}  // namespace sanpoll::system_test
