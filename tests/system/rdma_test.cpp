// RDMA between two processes: a great deal of it with every byte checked, with a target whose threads do
// nothing, and with a target that is killed in the middle.
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <cstring>
#include <thread>

#include "tests/system/child.hpp"
#include "tests/system/san.hpp"
#include "tests/system/scale.hpp"

namespace sanpoll::system_test {
namespace {

constexpr std::size_t kPiece = 1U << 20;
constexpr std::size_t kPieces = 16;  // of memory, gone round and round
constexpr std::size_t kMemory = kPiece * kPieces;

// Different for each piece and each time that it is written.
std::uint64_t word_of(std::uint64_t number, std::size_t index) {
    return (number + 1) * 0x9E3779B97F4A7C15ULL + index * 0xD1B54A32D192ED03ULL;
}
void fill(char* piece, std::uint64_t number) {
    for (std::size_t i = 0; i < kPiece / 8; ++i) {
        const std::uint64_t word = word_of(number, i);
        std::memcpy(piece + i * 8, &word, 8);
    }
}
bool holds(const char* piece, std::uint64_t number) {
    for (std::size_t i = 0; i < kPiece / 8; ++i) {
        std::uint64_t word = 0;
        std::memcpy(&word, piece + i * 8, 8);
        if (word != word_of(number, i)) {
            return false;
        }
    }
    return true;
}

std::string to_text(const std::vector<unsigned char>& bytes) {
    std::string text;
    for (const unsigned char byte : bytes) {
        text += static_cast<char>('a' + byte / 16);
        text += static_cast<char>('a' + byte % 16);
    }
    return text;
}
std::vector<unsigned char> from_text(const std::string& text) {
    std::vector<unsigned char> bytes;
    for (std::size_t i = 0; i + 1 < text.size(); i += 2) {
        bytes.push_back(static_cast<unsigned char>((text[i] - 'a') * 16 + (text[i + 1] - 'a')));
    }
    return bytes;
}

// One end with memory that is registered for its own transfers.
struct End {
    End(const Provider& with, const ProviderSocket& connected)
        : provider(with),
          socket(connected.descriptor),
          memory(kMemory),
          region(
              register_memory(with, connected.descriptor, memory.data(), kMemory, MEM_READWRITE)) {}

    [[nodiscard]] std::vector<unsigned char> expose() {
        std::vector<unsigned char> descriptor(64);
        DWORD length = 64;
        int error = 0;
        if (provider.extensions().register_rdma_memory(socket, memory.data(), kMemory,
                                                       MEM_READWRITE, descriptor.data(), &length,
                                                       &error) != 0) {
            fail("WSPRegisterRdmaMemory", error);
        }
        descriptor.resize(length);
        return descriptor;
    }
    /// A call that passes through the core orders this thread and the provider's. The order of the words
    /// between the processes does so too, but ThreadSanitizer does not see it.
    void meet_the_core() {
        std::vector<unsigned char> descriptor = expose();
        int error = 0;
        if (provider.extensions().deregister_rdma_memory(
                socket, descriptor.data(), static_cast<DWORD>(descriptor.size()), &error) != 0) {
            fail("WSPDeregisterRdmaMemory", error);
        }
    }
    void post(bool writes, std::size_t piece, std::vector<unsigned char>& descriptor,
              WSAOVERLAPPED& overlapped) {
        overlapped = {};
        overlapped.hEvent = kPolled;
        WSABUFEX buffer{kPiece, memory.data() + piece * kPiece, region};
        DWORD bytes = 0;
        int error = 0;
        const auto& functions = provider.extensions();
        (writes ? functions.rdma_write : functions.rdma_read)(
            socket, &buffer, 1, descriptor.data(), static_cast<DWORD>(descriptor.size()),
            static_cast<DWORD>(piece * kPiece), &bytes, 0, &overlapped, nullptr, nullptr, &error);
        if (error != WSA_IO_PENDING) {
            fail(writes ? "WSPRdmaWrite" : "WSPRdmaRead", error);
        }
    }
    [[nodiscard]] Result wait(WSAOVERLAPPED& overlapped, bool asleep) const {
        const auto deadline = std::chrono::steady_clock::now() + kPatience;
        while (std::chrono::steady_clock::now() < deadline) {
            if (const auto result = result_of(provider, socket, &overlapped, asleep)) {
                return *result;
            }
            std::this_thread::yield();
        }
        throw std::runtime_error("an RDMA operation does not end");
    }
    void transfer(bool writes, std::size_t piece, std::vector<unsigned char>& descriptor,
                  bool asleep = false) {
        WSAOVERLAPPED overlapped;
        post(writes, piece, descriptor, overlapped);
        const Result result = wait(overlapped, asleep);
        if (result.error != 0 || result.bytes != kPiece) {
            fail(writes ? "an RDMA write" : "an RDMA read", result.error);
        }
    }

    const Provider& provider;
    SOCKET socket;
    std::vector<char> memory;
    HANDLE region;
};

/// Exposes memory, then does what the test says; between its sayings no thread of it calls the provider.
/// "check N" and "fillerN": pieces N to N + kPieces.
const Role target("rdma_target", [](Channel& test, const Arguments& arguments) {
    const auto provider = load_provider();
    End end(*provider,
            connect_to(*provider, static_cast<std::uint16_t>(std::stoul(arguments.at(0)))));
    std::vector<unsigned char> descriptor = end.expose();
    test.tell(to_text(descriptor));
    for (;;) {
        const auto what = test.hear();
        if (!what) {
            return 1;
        }
        const std::uint64_t number =
            what->find_first_of("0123456789") == 6 ? std::stoull(what->substr(6)) : 0;
        end.meet_the_core();
        if (what->starts_with("check ")) {
            bool good = true;
            for (std::size_t i = 0; i < kPieces; ++i) {
                good = good && holds(end.memory.data() + i * kPiece, number + i);
            }
            end.meet_the_core();
            test.tell(good ? "good" : "damaged");
        } else if (what->starts_with("filler")) {
            for (std::size_t i = 0; i < kPieces; ++i) {
                fill(end.memory.data() + i * kPiece, number + i);
            }
            end.meet_the_core();
            test.tell("filled");
        } else if (*what == "conceal") {
            int error = 0;
            (void)provider->extensions().deregister_rdma_memory(
                end.socket, descriptor.data(), static_cast<DWORD>(descriptor.size()), &error);
            test.tell(std::to_string(error));
        } else {
            return provider->close(end.socket);
        }
    }
});

class Rdma : public ::testing::TestWithParam<const char*> {
protected:
    void SetUp() override {
        // "one": only this side would copy directly, so neither does.
        const std::string copy = GetParam();
        const Environment knobs{{"SANPOLL_COPY", copy == "one" ? "staged" : copy}};
        provider_ = load_provider({{"SANPOLL_COPY", copy == "one" ? "direct" : copy}});
        listener_ = std::make_unique<Listener>(*provider_);
        child_ = std::make_unique<Child>("rdma_target",
                                         Arguments{std::to_string(listener_->port())}, knobs);
        end_ = std::make_unique<End>(*provider_, listener_->accept());
        const auto told = child_->channel().hear();
        ASSERT_TRUE(told);
        descriptor_ = from_text(*told);
    }
    void ask(const std::string& what, const std::string& answer) {
        ASSERT_TRUE(child_->channel().tell(what));
        child_->channel().expect(answer);
    }
    void write_and_check(std::uint64_t rounds, bool asleep) {
        for (std::uint64_t round = 0; round < rounds; ++round) {
            for (std::size_t i = 0; i < kPieces; ++i) {
                fill(end_->memory.data() + i * kPiece, round * kPieces + i);
                end_->transfer(true, i, descriptor_, asleep);
            }
            ASSERT_NO_FATAL_FAILURE(ask("check " + std::to_string(round * kPieces), "good"));
        }
    }
    void read_and_check(std::uint64_t rounds, bool asleep) {
        for (std::uint64_t round = 0; round < rounds; ++round) {
            ASSERT_NO_FATAL_FAILURE(ask("filler" + std::to_string(round * kPieces), "filled"));
            for (std::size_t i = 0; i < kPieces; ++i) {
                end_->transfer(false, i, descriptor_, asleep);
                ASSERT_TRUE(holds(end_->memory.data() + i * kPiece, round * kPieces + i));
            }
        }
    }
    void part() {
        ASSERT_NO_FATAL_FAILURE(ask("conceal", "0"));
        child_->channel().tell("quit");
        EXPECT_EQ(child_->reap(), 0);
    }

    std::unique_ptr<Provider> provider_;
    std::unique_ptr<Listener> listener_;
    std::unique_ptr<Child> child_;
    std::unique_ptr<End> end_;
    std::vector<unsigned char> descriptor_;
};

// The target's thread waits for the test's words all the while: nobody there calls the provider.
TEST_P(Rdma, WritesIntoAProcessThatDoesNothing) {
    write_and_check(scaled(64, 4), false);
    part();
}

TEST_P(Rdma, ReadsFromAProcessThatDoesNothing) {
    read_and_check(scaled(64, 4), false);
    part();
}

TEST_P(Rdma, WaitingAsleepForAProcessThatDoesNothing) {
    write_and_check(scaled(8, 2), true);
    read_and_check(scaled(8, 2), true);
    part();
}

TEST_P(Rdma, AMemoryThatWasTakenAwayIsOutOfReachAtOnce) {
    end_->transfer(true, 0, descriptor_);
    ASSERT_NO_FATAL_FAILURE(ask("conceal", "0"));
    WSAOVERLAPPED overlapped;
    end_->post(false, 0, descriptor_, overlapped);
    EXPECT_EQ(end_->wait(overlapped, false).error, WSAECONNABORTED);
}

TEST_P(Rdma, ATargetThatIsKilledResetsWhatIsPending) {
    for (const bool writes : {true, false}) {
        std::vector<WSAOVERLAPPED> operations(64);
        for (std::size_t i = 0; i < operations.size(); ++i) {
            end_->post(writes, i % kPieces, descriptor_, operations[i]);
        }
        (void)end_->wait(operations[3], false);
        child_->kill();
        bool ended = false;
        for (WSAOVERLAPPED& operation : operations) {
            const Result result = end_->wait(operation, false);
            EXPECT_TRUE(result.error == 0 || result.error == WSAECONNRESET) << result.error;
            EXPECT_TRUE(!ended || result.error != 0) << "success after a failure";
            ended = ended || result.error != 0;
        }
        EXPECT_EQ(child_->reap(), -SIGKILL);
        provider_->close(end_->socket);
        if (writes) {
            end_.reset();
            child_.reset();
            listener_.reset();
            provider_.reset();
            ASSERT_NO_FATAL_FAILURE(SetUp());
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Copy, Rdma, ::testing::Values("staged", "direct", "auto", "one"),
                         [](const auto& one) { return std::string(one.param); });

}  // namespace
}  // namespace sanpoll::system_test
