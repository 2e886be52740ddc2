// Sockets that change process: nothing is lost, doubled or reordered, the peer notices nothing, and the death
// of a process in the middle ends what nobody can go on with, and nothing else.
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <random>
#include <thread>

#include "tests/system/holder.hpp"
#include "tests/system/numbered.hpp"
#include "tests/system/process_state.hpp"
#include "tests/system/scale.hpp"

namespace sanpoll::system_test {
namespace {

std::string error(int number) { return "error " + std::to_string(number); }

template <typename Done>
[[nodiscard]] bool eventually(Done done) {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (!done()) {
        if (std::chrono::steady_clock::now() > deadline) {
            return false;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return true;
}

/// Our end of the connection, driven by a thread of its own until the connection ends. Closes the socket.
class Traffic {
public:
    Traffic(const Provider& provider, SOCKET socket)
        : provider_(provider),
          socket_(socket),
          messages_(provider, socket),
          thread_([this] { run(); }) {}
    ~Traffic() {
        stop_ = true;
        thread_.join();
        EXPECT_EQ(provider_.close(socket_), 0);
    }
    Traffic(const Traffic&) = delete;
    Traffic& operator=(const Traffic&) = delete;

    void send(std::uint64_t count) { wanted_ += count; }
    [[nodiscard]] std::uint64_t wanted() const { return wanted_; }
    [[nodiscard]] std::uint64_t sent() const { return sent_; }
    [[nodiscard]] std::uint64_t received() const { return received_; }
    [[nodiscard]] bool ended() const { return ended_; }
    /// What ended it; after ended().
    [[nodiscard]] const std::string& end() const { return end_; }

private:
    void run() {
        try {
            while (!stop_) {
                bool any = messages_.receive();
                (void)messages_.collect_sends();
                any |= messages_.position().sent < wanted_ && messages_.send();
                sent_ = messages_.position().sent;
                received_ = messages_.position().received;
                if (!any) {
                    ::sched_yield();
                }
            }
        } catch (const std::exception& failure) {
            end_ = failure.what();
            ended_ = true;
        }
    }

    const Provider& provider_;
    const SOCKET socket_;
    Numbered messages_;
    std::atomic<std::uint64_t> wanted_{0};
    std::atomic<std::uint64_t> sent_{0};
    std::atomic<std::uint64_t> received_{0};
    std::atomic<bool> stop_{false};
    std::atomic<bool> ended_{false};
    std::string end_;
    std::thread thread_;  // last: it uses the others
};

class Duplicate : public ::testing::Test {
protected:
    void TearDown() override { traffic_.reset(); }
    void SetUp() override {
        provider_ = load_provider();
        listener_ = std::make_unique<Listener>(*provider_);
    }
    void connect(Holder& holder) {
        ProviderSocket peer;
        std::thread accepting([&] { peer = listener_->accept(); });
        EXPECT_EQ(holder.ask("connect " + std::to_string(listener_->port())), "ok");
        accepting.join();
        traffic_ = std::make_unique<Traffic>(*provider_, peer.descriptor);
    }
    void swap(Holder& from, Holder& to) {
        const std::string ticket = from.give_to(to);
        ASSERT_EQ(to.ask("take " + ticket), "ok") << ticket;
    }
    /// Messages both ways, all that were ever sent accounted for.
    void exchange(Holder& holder, std::uint64_t count = 20) {
        traffic_->send(count);
        ASSERT_EQ(holder.ask("work " + std::to_string(count)), "ok");
        const std::string sent = holder.ask("until " + std::to_string(traffic_->wanted()));
        ASSERT_TRUE(eventually([&] {
            return traffic_->ended() || std::to_string(traffic_->received()) == sent;
        })) << traffic_->received()
            << " of " << sent;
        ASSERT_FALSE(traffic_->ended()) << traffic_->end();
    }
    void expect_reset() {
        EXPECT_TRUE(eventually([this] { return traffic_->ended(); }));
        EXPECT_EQ(traffic_->end(), "a receive: WSAECONNRESET");
    }

    std::unique_ptr<Provider> provider_;
    std::unique_ptr<Listener> listener_;
    std::unique_ptr<Traffic> traffic_;
};

TEST_F(Duplicate, ToAnotherProcessAndBackAndToAThird) {
    Holder a;
    Holder b;
    Holder c;
    connect(a);
    ASSERT_NO_FATAL_FAILURE(exchange(a));
    Holder* path[] = {&a, &b, &a, &c, &b, &c, &a, &a, &b};
    for (std::size_t i = 1; i < std::size(path); ++i) {
        ASSERT_NO_FATAL_FAILURE(swap(*path[i - 1], *path[i]));
        ASSERT_NO_FATAL_FAILURE(exchange(*path[i]));
    }
    for (Holder* holder : {&a, &b, &c}) {
        EXPECT_EQ(holder->ask("close-old"), "ok");
    }
    ASSERT_NO_FATAL_FAILURE(exchange(b));
}

TEST_F(Duplicate, IntoThePeersOwnProcessAndOutAgain) {
    Holder a;
    connect(a);
    const std::string ticket = a.ask("give " + std::to_string(::getpid()));
    WSAPROTOCOL_INFOW info{};
    Position position;
    ASSERT_EQ(std::sscanf(ticket.c_str(), "%u %lu %lu", &info.dwProviderReserved, &position.sent,
                          &position.received),
              3)
        << ticket;
    const ProviderSocket here = provider_->socket(&info);
    ASSERT_TRUE(here) << here.error;
    {
        Numbered messages(*provider_, here.descriptor, position);
        traffic_->send(10);
        while (messages.position().received < 10) {
            (void)messages.receive();
        }
        int code = 0;
        ASSERT_EQ(provider_->table().lpWSPDuplicateSocket(
                      here.descriptor, static_cast<DWORD>(a.pid()), &info, &code),
                  0)
            << code;
        messages.check_swapped_out();
        position = messages.position();
    }
    EXPECT_EQ(provider_->close(here.descriptor), 0);
    ASSERT_EQ(a.ask("take " + std::to_string(info.dwProviderReserved) + " " +
                    std::to_string(position.sent) + " " + std::to_string(position.received)),
              "ok");
    ASSERT_NO_FATAL_FAILURE(exchange(a));
}

TEST_F(Duplicate, TheFormerProcessMayExit) {
    Holder b;
    {
        Holder a;
        connect(a);
        ASSERT_NO_FATAL_FAILURE(exchange(a));
        ASSERT_NO_FATAL_FAILURE(swap(a, b));
        a.exit();
    }
    ASSERT_NO_FATAL_FAILURE(exchange(b));
}

TEST_F(Duplicate, TheFormerProcessMayEndItsProvider) {
    Holder a;
    Holder b;
    connect(a);
    ASSERT_NO_FATAL_FAILURE(swap(a, b));
    EXPECT_EQ(a.ask("cleanup"), "ok");
    ASSERT_NO_FATAL_FAILURE(exchange(b));
}

TEST_F(Duplicate, TheFormerProcessMayBeKilled) {
    Holder b;
    Holder a;
    connect(a);
    ASSERT_NO_FATAL_FAILURE(swap(a, b));
    a.kill();
    ASSERT_NO_FATAL_FAILURE(exchange(b));
}

TEST_F(Duplicate, KilledBeforeTheNextOneTookItThePeerIsReset) {
    Holder b;
    Holder a;
    connect(a);
    const std::string ticket = a.give_to(b);
    a.kill();
    expect_reset();
    EXPECT_EQ(b.ask("take " + ticket), error(WSAEINVAL));
}

TEST_F(Duplicate, EndedBeforeTheNextOneTookItThePeerIsReset) {
    Holder b;
    Holder a;
    connect(a);
    const std::string ticket = a.give_to(b);
    EXPECT_EQ(a.ask("cleanup"), "ok");
    expect_reset();
    EXPECT_EQ(b.ask("take " + ticket), error(WSAEINVAL));
}

TEST_F(Duplicate, ClosedBeforeTheNextOneTookItItLivesOn) {
    Holder a;
    Holder b;
    connect(a);
    const std::string ticket = a.give_to(b);
    EXPECT_EQ(a.ask("close-old"), "ok");
    ASSERT_EQ(b.ask("take " + ticket), "ok");
    ASSERT_NO_FATAL_FAILURE(exchange(b));
}

TEST_F(Duplicate, TheNextOneKilledBeforeItTookItThePeerIsReset) {
    Holder a;
    Holder b;
    connect(a);
    (void)a.give_to(b);
    b.kill();
    expect_reset();
}

TEST_F(Duplicate, TheNextOneKilledThePeerIsReset) {
    Holder a;
    Holder b;
    connect(a);
    ASSERT_NO_FATAL_FAILURE(swap(a, b));
    b.kill();
    expect_reset();
}

TEST_F(Duplicate, ATokenIsForOneProcessAndOnce) {
    Holder a;
    Holder b;
    Holder c;
    connect(a);
    const std::string ticket = a.give_to(b);
    EXPECT_EQ(c.ask("take " + ticket), error(WSAEINVAL));
    EXPECT_EQ(a.ask("take " + ticket), error(WSAEINVAL));
    ASSERT_EQ(b.ask("take " + ticket), "ok");
    EXPECT_EQ(b.ask("take-listener " + ticket), error(WSAEINVAL));
    ASSERT_NO_FATAL_FAILURE(exchange(b));
}

TEST_F(Duplicate, APeerThatHangsLeavesTheSocketUsable) {
    // The child is the peer here, and this process has the time-out.
    listener_.reset();
    provider_.reset();
    Holder peer;
    const auto port = static_cast<std::uint16_t>(std::stoul(peer.ask("listen")));
    provider_ = load_provider({{"SANPOLL_CONNECT_TIMEOUT_MS", "300"}});
    ProviderSocket socket;
    // On a slow machine the time may be over before the peer has accepted.
    ASSERT_TRUE(eventually([&] {
        Connecting connecting(*provider_, port);
        for (std::string taken = "none"; taken == "none" && !connecting.answered();) {
            taken = peer.ask("accept-now");
        }
        const int answer = connecting.answer();
        EXPECT_TRUE(answer == 0 || answer == WSAETIMEDOUT) << answer;
        if (answer == 0) {
            socket = connecting.release();
        }
        return answer != WSAETIMEDOUT;
    }));
    ASSERT_TRUE(socket);
    traffic_ = std::make_unique<Traffic>(*provider_, socket.descriptor);
    WSAPROTOCOL_INFOW info{};
    for (int round = 0; round < 3; ++round) {
        ASSERT_EQ(::kill(peer.pid(), SIGSTOP), 0);
        ASSERT_EQ(::waitpid(peer.pid(), nullptr, WUNTRACED),
                  peer.pid());  // all its threads stand still
        int code = 0;
        EXPECT_NE(provider_->table().lpWSPDuplicateSocket(
                      socket.descriptor, static_cast<DWORD>(::getpid()), &info, &code),
                  0);
        EXPECT_EQ(code, WSAENETDOWN);
        ASSERT_EQ(::kill(peer.pid(), SIGCONT), 0);
        ASSERT_NO_FATAL_FAILURE(exchange(peer));
    }
}

// ---- a listener -----------------------------------------------------------------------------------------

TEST_F(Duplicate, AListenerIsHeardByTheNextProcess) {
    Holder b;
    Holder a;
    const auto port = static_cast<std::uint16_t>(std::stoul(a.ask("listen")));
    {
        const ProviderSocket first = [&] {  // so that a route to the first process is remembered
            Connecting connecting(*provider_, port);
            EXPECT_EQ(a.ask("accept"), "ok");
            return connecting.finish();
        }();
        EXPECT_EQ(provider_->close(first.descriptor), 0);
    }
    const std::string token = a.ask("give-listener " + std::to_string(b.pid()));
    Connecting meanwhile(*provider_, port);
    ASSERT_EQ(b.ask("take-listener " + token), "ok") << token;
    EXPECT_EQ(b.ask("accept"), "ok");
    ProviderSocket socket = meanwhile.finish();
    a.kill();
    EXPECT_EQ(provider_->close(socket.descriptor), 0);
    Connecting afterwards(*provider_, port);
    EXPECT_EQ(b.ask("accept"), "ok");
    socket = afterwards.finish();
    traffic_ = std::make_unique<Traffic>(*provider_, socket.descriptor);
    ASSERT_NO_FATAL_FAILURE(exchange(b));
    Holder c;
    const std::string again = b.ask("give-listener " + std::to_string(c.pid()));
    ASSERT_EQ(c.ask("take-listener " + again), "ok") << again;
    Connecting third(*provider_, port);
    EXPECT_EQ(c.ask("accept"), "ok");
    EXPECT_EQ(provider_->close(third.finish().descriptor), 0);
    ASSERT_NO_FATAL_FAILURE(exchange(b));
}

TEST_F(Duplicate, RequestsThatWaitAtAListenerAreHeardByTheNextProcess) {
    Holder a;
    Holder b;
    const auto port = static_cast<std::uint16_t>(std::stoul(a.ask("listen")));
    Connecting waiting(*provider_, port);
    std::this_thread::sleep_for(std::chrono::milliseconds(50));  // it is probably queued by now
    const std::string token = a.ask("give-listener " + std::to_string(b.pid()));
    ASSERT_EQ(b.ask("take-listener " + token), "ok") << token;
    EXPECT_EQ(b.ask("accept"), "ok");
    EXPECT_EQ(provider_->close(waiting.finish().descriptor), 0);
}

TEST_F(Duplicate, AListenerThatNobodyCanTakeIsGone) {
    Holder b;
    Holder a;
    const auto port = static_cast<std::uint16_t>(std::stoul(a.ask("listen")));
    (void)a.ask("give-listener " + std::to_string(b.pid()));
    Connecting meanwhile(*provider_, port);
    a.kill();
    EXPECT_EQ(meanwhile.answer(), WSAECONNRESET);
}

// ---- much -----------------------------------------------------------------------------------------------

TEST_F(Duplicate, AThousandTimesUnderTraffic) {
    Holder a;
    Holder b;
    Holder c(Environment{{"SANPOLL_PROFILE", "eco"}});
    Holder* holders[] = {&a, &b, &c};
    connect(a);
    std::mt19937 random(20);
    std::size_t at = 0;
    const std::uint64_t swaps = scaled(1000, 150);
    for (std::uint64_t i = 0; i < swaps; ++i) {
        // The peer sends whenever it likes, also in the middle of a swap; the end that swaps has sent all.
        traffic_->send(random() % 12);
        ASSERT_EQ(holders[at]->ask("work " + std::to_string(random() % 8)), "ok");
        const std::size_t next = random() % 3;
        traffic_->send(random() % 4);
        const std::string ticket = holders[at]->give_to(*holders[next]);
        traffic_->send(random() % 4);
        ASSERT_EQ(holders[next]->ask("take " + ticket), "ok") << ticket;
        at = next;
        if (i % 20 == 19) {
            ASSERT_NO_FATAL_FAILURE(exchange(*holders[at]));
            for (Holder* holder : holders) {
                ASSERT_EQ(holder->ask("close-old"), "ok");
            }
        }
        ASSERT_FALSE(traffic_->ended()) << traffic_->end();
    }
    ASSERT_NO_FATAL_FAILURE(exchange(*holders[at]));
    EXPECT_LT(mapped_segments(), 20U) << "links are used again";
}

}  // namespace
}  // namespace sanpoll::system_test
