// Hundreds of connections between two processes share one link; all carry data, and closing them leaves
// nothing behind.
#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "tests/system/child.hpp"
#include "tests/system/process_state.hpp"
#include "tests/system/san.hpp"
#include "tests/system/scale.hpp"

namespace sanpoll::system_test {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::uint32_t kConnections = 300;
constexpr std::uint32_t kRounds = 50;

/// A message to be recognised, to and fro over one socket. One operation at a time each way.
class Line {
public:
    Line(const Provider& provider, ProviderSocket socket) : provider_(provider), socket_(socket) {
        register_memory(provider_, socket_.descriptor, words_, sizeof(words_), MEM_READWRITE);
        send_.hEvent = receive_.hEvent = kPolled;
    }

    void listen() {
        WSABUF buffer{sizeof(words_[1]), reinterpret_cast<CHAR*>(&words_[1])};
        check("WSPRecv", patiently([&] {
                  return post_receive(provider_, socket_.descriptor, &buffer, 1, &receive_);
              }));
    }
    void say(std::uint64_t word) {
        words_[0] = word;
        WSABUF buffer{sizeof(words_[0]), reinterpret_cast<CHAR*>(&words_[0])};
        check("WSPSend", patiently([&] {
                  return post_send(provider_, socket_.descriptor, &buffer, 1, &send_);
              }));
    }
    void said() { check("a send", *result_of(provider_, socket_.descriptor, &send_, true)); }
    std::uint64_t heard() {
        check("a receive", *result_of(provider_, socket_.descriptor, &receive_, true));
        return words_[1];
    }
    [[nodiscard]] std::optional<Result> ended() {
        return result_of(provider_, socket_.descriptor, &receive_);
    }
    void close() { check("WSPCloseSocket", provider_.close(socket_.descriptor)); }

private:
    static void check(const char* what, int error) {
        if (error != 0) {
            fail(what, error);
        }
    }
    static void check(const char* what, const Result& result) { check(what, result.error); }

    const Provider& provider_;
    const ProviderSocket socket_;
    std::uint64_t words_[2] = {};
    WSAOVERLAPPED send_{};
    WSAOVERLAPPED receive_{};
};

using Lines = std::vector<std::unique_ptr<Line>>;

/// Descriptors and threads of this process when they are as they should be, or at last.
template <typename Right>
void wait_until(Right right) {
    const auto deadline = Clock::now() + kPatience;
    while (!right() && Clock::now() < deadline) {
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
}

const Role answerer("answerer", [](Channel& test, const Arguments&) {
    const auto provider = load_provider();
    const Listener listener(*provider);
    test.tell(std::to_string(listener.port()));
    for (;;) {
        const auto count = std::stoul(test.hear().value_or("0"));
        if (count == 0) {
            return 0;
        }
        Lines lines;
        for (std::size_t i = 0; i < count; ++i) {
            lines.push_back(std::make_unique<Line>(*provider, listener.accept()));
            lines.back()->listen();
        }
        for (std::uint32_t round = 0; round < kRounds; ++round) {
            for (const auto& line : lines) {
                const std::uint64_t word = line->heard();
                line->listen();
                if (round != 0) {
                    line->said();
                }
                line->say(~word);
            }
        }
        for (const auto& line : lines) {
            line->said();
            // The other side closes; the posted receive tells.
            while (!line->ended()) {
                ::sched_yield();
            }
            if (line->ended()->error != WSAECONNRESET) {
                fail("the other side's close", line->ended()->error);
            }
            line->close();
        }
        test.tell("closed " + std::to_string(open_descriptors().size()));
    }
});

std::string exchange(const Provider& provider, Child& child, std::uint16_t port,
                     std::uint32_t connections) {
    child.channel().tell(std::to_string(connections));
    Lines lines;
    for (std::uint32_t i = 0; i < connections; ++i) {
        lines.push_back(std::make_unique<Line>(provider, connect_to(provider, port)));
    }
    EXPECT_EQ(mapped_segments(), 1U);
    for (std::uint64_t round = 0; round < kRounds; ++round) {
        for (std::uint64_t i = 0; i < connections; ++i) {
            lines[i]->listen();
            lines[i]->say(round << 32 | i);
        }
        for (std::uint64_t i = 0; i < connections; ++i) {
            EXPECT_EQ(lines[i]->heard(), ~(round << 32 | i));
            lines[i]->said();
        }
    }
    for (const auto& line : lines) {
        line->close();
    }
    return child.channel().hear().value_or("the other process is gone");
}

TEST(ManyConnections, ShareALinkAndLeaveNothing) {
    const auto provider = load_provider();
    const auto at_first = open_descriptors();
    const std::size_t threads = threads_of(::getpid()).size();
    {
        Child child("answerer");
        const auto port = child.channel().hear();
        ASSERT_TRUE(port);
        const auto number = static_cast<std::uint16_t>(std::stoul(*port));
        // The link stands after the first one.
        const std::string theirs = exchange(*provider, child, number, 1);
        const auto with_link = open_descriptors();
        EXPECT_EQ(exchange(*provider, child, number, kConnections), theirs);
        wait_until([&] { return open_descriptors() == with_link; });
        EXPECT_EQ(open_descriptors(), with_link);
        EXPECT_EQ(exchange(*provider, child, number, kConnections), theirs);
        child.channel().tell("0");
        EXPECT_EQ(child.reap(), 0);
    }
    wait_until([&] { return open_descriptors() == at_first; });
    EXPECT_EQ(open_descriptors(), at_first);
    EXPECT_EQ(threads_of(::getpid()).size(), threads);
    EXPECT_EQ(mapped_segments(), 0U);
}

}  // namespace
}  // namespace sanpoll::system_test
