// A socket that threads hand to and fro under the caller's own lock keeps the order of the calls, though
// each thread has a lane of its own: the numbers that arrive are in order, and so are the receives that
// take them.
#include <gtest/gtest.h>
#include <sched.h>

#include <cstring>
#include <mutex>
#include <thread>

#include "tests/system/san.hpp"
#include "tests/system/scale.hpp"

namespace sanpoll::system_test {
namespace {

constexpr std::uint32_t kWord = 16;
constexpr std::uint32_t kMostPieces = 5;  // more than a lane's slot holds

/// One direction of a socket, shared by threads. post_next() under the lock, which is the caller's.
class Shared {
public:
    static constexpr std::size_t kDepth = 64;

    Shared(const Provider& provider, SOCKET socket, bool sends)
        : provider_(provider),
          socket_(socket),
          sends_(sends),
          operations_(kDepth),
          memory_(kDepth * kMostPieces * kWord) {
        register_memory(provider_, socket_, memory_.data(), memory_.size(), MEM_READWRITE);
        for (WSAOVERLAPPED& operation : operations_) {
            operation.hEvent = kPolled;
        }
    }

    [[nodiscard]] std::uint64_t posted() const noexcept { return posted_; }

    /// Collects the oldest operation if all are pending, and posts the next. False if it must wait.
    bool post_next() {
        if (posted_ - collected_ == kDepth && !collect()) {
            return false;
        }
        const auto pieces = static_cast<DWORD>(1 + posted_ % kMostPieces);
        WSABUF list[kMostPieces];
        for (DWORD i = 0; i < pieces; ++i) {
            list[i] = {kWord, word(posted_, i)};
            if (sends_) {
                std::memcpy(list[i].buf, &posted_, sizeof(posted_));
            }
        }
        WSAOVERLAPPED* operation = &operations_[posted_ % kDepth];
        const int error = sends_ ? post_send(provider_, socket_, list, pieces, operation)
                                 : post_receive(provider_, socket_, list, pieces, operation);
        if (error == WSAEWOULDBLOCK) {
            return false;
        }
        if (error != 0) {
            fail("post " + std::to_string(posted_), error);
        }
        ++posted_;
        return true;
    }

    /// The oldest pending operation, if it has ended: that it belongs to the message that is due.
    bool collect() {
        const auto result = result_of(provider_, socket_, &operations_[collected_ % kDepth]);
        if (!result) {
            return false;
        }
        const auto pieces = static_cast<DWORD>(1 + collected_ % kMostPieces);
        bool right = result->error == 0 && result->bytes == pieces * kWord;
        for (DWORD i = 0; i < pieces; ++i) {
            right &= std::memcmp(word(collected_, i), &collected_, sizeof(collected_)) == 0;
        }
        if (!right) {
            fail((sends_ ? "send " : "receive ") + std::to_string(collected_) + " with " +
                     std::to_string(result->bytes) + " bytes took another message's place",
                 result->error);
        }
        ++collected_;
        return true;
    }

    [[nodiscard]] bool all_collected() {
        while (collected_ != posted_ && collect()) {
        }
        return collected_ == posted_;
    }

private:
    [[nodiscard]] char* word(std::uint64_t number, DWORD piece) noexcept {
        return memory_.data() + ((number % kDepth) * kMostPieces + piece) * kWord;
    }

    const Provider& provider_;
    const SOCKET socket_;
    const bool sends_;
    std::vector<WSAOVERLAPPED> operations_;
    std::vector<char> memory_;
    std::uint64_t posted_ = 0;
    std::uint64_t collected_ = 0;
};

/// Threads that post until `messages` are posted: whoever gets the lock, or strictly in turns.
class Posters {
public:
    Posters(Shared& shared, std::uint32_t threads, bool in_turns, std::uint64_t messages) {
        for (std::uint32_t i = 0; i < threads; ++i) {
            threads_.emplace_back([=, this, &shared] {
                try {
                    while (step(shared, i, threads, in_turns, messages)) {
                    }
                } catch (const std::exception& failure) {
                    const std::lock_guard lock(mutex_);
                    failure_ = failure.what();
                }
            });
        }
    }

    /// What went wrong first; empty if nothing.
    std::string join() {
        for (std::thread& thread : threads_) {
            thread.join();
        }
        return failure_;
    }

private:
    bool step(Shared& shared, std::uint32_t index, std::uint32_t threads, bool in_turns,
              std::uint64_t messages) {
        bool posted = false;
        {
            const std::lock_guard lock(mutex_);
            if (!failure_.empty()) {
                return false;
            }
            if (shared.posted() == messages) {
                if (shared.all_collected()) {
                    return false;
                }
            } else if (!in_turns || shared.posted() % threads == index) {
                posted = shared.post_next();
            }
        }
        if (!posted || !in_turns) {
            ::sched_yield();
        }
        return true;
    }

    std::mutex mutex_;
    std::string failure_;
    std::vector<std::thread> threads_;
};

void hand_to_and_fro(const char* mode, bool in_turns, std::uint64_t messages) {
    const auto provider = load_provider({{"SANPOLL_MODE", mode}});
    const Listener listener(*provider);
    const auto [sender, receiver] = connected_pair(*provider, listener);
    {
        Shared sends(*provider, sender.descriptor, true);
        Shared receives(*provider, receiver.descriptor, false);
        Posters receiving(receives, 2, in_turns, messages);
        Posters sending(sends, 3, in_turns, messages);
        const std::string sending_failure = sending.join();
        if (!sending_failure.empty()) {
            provider->close(sender.descriptor);  // or the receivers would wait for ever
        }
        EXPECT_EQ(receiving.join(), "");
        EXPECT_EQ(sending_failure, "");
        provider->close(sender.descriptor);
        provider->close(receiver.descriptor);
    }
}

TEST(Handover, AnyOrderInline) { hand_to_and_fro("inline", false, scaled(300'000, 20'000)); }

TEST(Handover, InTurnsInline) { hand_to_and_fro("inline", true, scaled(50'000, 5'000)); }

TEST(Handover, AnyOrderDedicated) { hand_to_and_fro("dedicated", false, scaled(200'000, 20'000)); }

TEST(Handover, InTurnsDedicated) { hand_to_and_fro("dedicated", true, scaled(30'000, 3'000)); }

}  // namespace
}  // namespace sanpoll::system_test
