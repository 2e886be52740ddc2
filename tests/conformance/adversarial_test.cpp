// Random calls, legal and not, against a model. SANPOLL_ADVERSARIAL_SEED replays one seed,
// SANPOLL_ADVERSARIAL_STEPS sets how long it goes on.
#include <sanpoll.h>

#include <cstdlib>
#include <memory_resource>
#include <new>

#include "tests/conformance/adversarial_switch.hpp"

namespace sanpoll::conformance {
namespace {

#if defined(__SANITIZE_THREAD__)
constexpr std::uint64_t kSteps = 25'000;
#elif defined(__SANITIZE_ADDRESS__)
constexpr std::uint64_t kSteps = 60'000;
#else
constexpr std::uint64_t kSteps = 400'000;
#endif

std::uint64_t from_environment(const char* name, std::uint64_t otherwise) {
    const char* text = std::getenv(name);
    return text != nullptr && *text != '\0' ? std::strtoull(text, nullptr, 0) : otherwise;
}

// Memory of the provider's, out of shareable arenas.
class ArenaMemory final : public std::pmr::memory_resource {
public:
    explicit ArenaMemory(const Calls& san) {
        GUID id = WSAID_SANPOLL_MEMORY;
        DWORD returned = 0;
        EXPECT_EQ(san.ioctl(INVALID_SOCKET, SIO_GET_MULTIPLE_EXTENSION_FUNCTION_POINTER, &id,
                            sizeof(id), &functions_, sizeof(functions_), &returned),
                  0);
    }
    [[nodiscard]] bool works() {
        void* const tried = functions_.lpAllocate(1, 0, 0, nullptr);
        return tried != nullptr && functions_.lpFree(tried, nullptr);
    }

private:
    void* do_allocate(std::size_t bytes, std::size_t alignment) override {
        void* const got = functions_.lpAllocate(bytes, alignment, 0, nullptr);
        return got != nullptr ? got : throw std::bad_alloc();
    }
    void do_deallocate(void* at, std::size_t, std::size_t) override {
        EXPECT_TRUE(functions_.lpFree(at, nullptr));
    }
    [[nodiscard]] bool do_is_equal(const memory_resource& other) const noexcept override {
        return this == &other;
    }

    SANPOLL_MEMORY_FUNCTIONS functions_{};
};

// The sockets' memory, whatever it is for, comes from here for the time of a test.
class MemoryOfSockets {
public:
    explicit MemoryOfSockets(std::pmr::memory_resource* from)
        : before_(std::pmr::set_default_resource(from)) {}
    ~MemoryOfSockets() { std::pmr::set_default_resource(before_); }
    MemoryOfSockets(const MemoryOfSockets&) = delete;
    MemoryOfSockets& operator=(const MemoryOfSockets&) = delete;

private:
    std::pmr::memory_resource* before_;
};

class AdversarialTest : public ConformanceTest, public testing::WithParamInterface<std::uint64_t> {
protected:
    Knobs knobs() const override {
        Knobs all = ConformanceTest::knobs();
        all.emplace_back("connect_timeout_ms",
                         "3600000");  // requests may wait as long as they like
        const bool direct = GetParam() > 2;
        if (direct || GetParam() % 2 != 0) {
            // Longer messages wait for their receives, longer RDMA may be copied directly.
            all.emplace_back("eager_max", "512");
        }
        all.emplace_back("copy", direct ? "direct" : "staged");
        return all;
    }
    // What is longer than eager_max is one copy then, and the sender's until it is made.
    [[nodiscard]] static bool in_arenas() { return GetParam() > 4; }
};

// [R12.6 R15.4 P6 P8 P3 R10.8 R8.1 R8.2 R8.3 R12.5 R18.4 R13.2 R13.6 C33]
// [R7.6 R7.7 R9.3 R10.16 C2 F.WSPDeregisterRdmaMemory.1 F.WSPRdma.1 F.WSPRdma.3]
// [F.WSPRdma.completion.WSAECONNABORTED F.WSPRdma.completion.WSA_OPERATION_ABORTED]
TEST_P(AdversarialTest, EveryAnswerAndCompletionIsWhatTheModelAllows) {
    const std::uint64_t seed = from_environment("SANPOLL_ADVERSARIAL_SEED", GetParam());
    ArenaMemory arenas(san);
    if (in_arenas() && !arenas.works()) {
        GTEST_SKIP() << "libmimalloc is not installed";
    }
    const MemoryOfSockets memory(in_arenas() ? &arenas : std::pmr::new_delete_resource());
    AdversarialSwitch adversary(san, upcalls, seed);
    adversary.run(from_environment("SANPOLL_ADVERSARIAL_STEPS", kSteps));
    if (!adversary.failed()) {
        adversary.finish();
    }
    RecordProperty("calls", std::to_string(adversary.calls()));
    RecordProperty("messages", std::to_string(adversary.messages_delivered()));
    RecordProperty("rdma", std::to_string(adversary.rdma_done()));
    EXPECT_TRUE(adversary.failed() || adversary.messages_delivered() > adversary.calls() / 50)
        << "it does little but make mistakes";
    EXPECT_TRUE(adversary.failed() || adversary.rdma_done() > adversary.calls() / 50)
        << "it hardly reaches into its peers' memory";
}

INSTANTIATE_TEST_SUITE_P(Seeds, AdversarialTest, testing::Values(1, 2, 3, 4, 5, 6));

}  // namespace
}  // namespace sanpoll::conformance
