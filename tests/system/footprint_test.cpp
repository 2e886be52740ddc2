// What idle connections take: a process with one connection has little in memory, and each connection more adds
// little to either end. Bounds on bytes, not on time.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>

#include "bench/process_memory.hpp"
#include "tests/system/child.hpp"
#include "tests/system/process_state.hpp"
#include "tests/system/san.hpp"
#include "tests/system/scale.hpp"

namespace sanpoll::system_test {
namespace {

constexpr std::uint64_t kMostOfAProcessKib = 16 << 10;
constexpr std::uint64_t kMostOfAConnection = 8 << 10;
constexpr std::size_t kReceives = 4;  // posted on each; a switch always has some

/// Ends of connections that receive and get nothing.
class IdleEnds {
public:
    explicit IdleEnds(const Provider& provider) : provider_(provider) {}
    ~IdleEnds() {
        for (const SOCKET descriptor : descriptors_) {
            provider_.close(descriptor);
        }
    }
    IdleEnds(const IdleEnds&) = delete;
    IdleEnds& operator=(const IdleEnds&) = delete;

    // Room for the test's own records before anything is measured.
    void expect(std::size_t count) {
        descriptors_.reserve(count);
        operations_.resize(count * kReceives);
    }
    void add(const ProviderSocket& socket) {
        register_memory(provider_, socket.descriptor, memory_, sizeof(memory_), MEM_READWRITE);
        for (std::size_t i = 0; i < kReceives; ++i) {
            WSAOVERLAPPED& operation = operations_.at(descriptors_.size() * kReceives + i);
            operation.hEvent = kPolled;
            WSABUF buffer{sizeof(memory_), memory_};
            if (const int error = patiently([&] {
                    return post_receive(provider_, socket.descriptor, &buffer, 1, &operation);
                });
                error != 0) {
                fail("WSPRecv", error);
            }
        }
        descriptors_.push_back(socket.descriptor);
    }

private:
    const Provider& provider_;
    std::vector<SOCKET> descriptors_;
    std::vector<WSAOVERLAPPED> operations_;
    char memory_[64] = {};
};

std::string resident() {
    const bench::ProcessMemory memory = bench::memory_of(::getpid());
    return std::to_string(memory.resident) + " " + std::to_string(memory.peak);
}

// "listener" or a port; then connections are made by numbers until 0.
const Role holder("idle-holder", [](Channel& test, const Arguments& arguments) {
    const auto provider = load_provider();
    std::optional<Listener> listener;
    std::uint16_t port = 0;
    if (arguments.at(0) == "listener") {
        listener.emplace(*provider);
        test.tell(std::to_string(listener->port()));
    } else {
        port = static_cast<std::uint16_t>(std::stoul(arguments.at(0)));
    }
    IdleEnds ends(*provider);
    ends.expect(std::stoul(arguments.at(1)));
    for (;;) {
        const auto count = std::stoul(test.hear().value_or("0"));
        if (count == 0) {
            return 0;
        }
        for (std::size_t i = 0; i < count; ++i) {
            ends.add(listener ? listener->accept() : connect_to(*provider, port));
        }
        test.tell(resident());
    }
});

struct Memory {
    std::uint64_t resident = 0;  // KiB
    std::uint64_t peak = 0;
};

Memory memory_told_by(Child& child) {
    Memory memory;
    const std::string text = child.channel().hear().value_or("");
    if (std::sscanf(text.c_str(), "%lu %lu", &memory.resident, &memory.peak) != 2) {
        throw std::runtime_error("a child says '" + text + "'");
    }
    return memory;
}

TEST(Footprint, OfAProcessWithOneAndWithThousandsOfConnections) {
    // A sanitizer keeps shadow memory and what was freed: the bounds are not about those.
    const std::size_t many = scaled(10'000, 200);
    Child listener("idle-holder", {"listener", std::to_string(many)});
    const auto port = listener.channel().hear();
    ASSERT_TRUE(port);
    Child connector("idle-holder", {*port, std::to_string(many)});
    Child* const both[] = {&listener, &connector};
    Memory first[2];
    Memory last[2];
    for (auto* memories : {&first, &last}) {
        const std::size_t count = memories == &first ? 1 : many - 1;
        for (Child* child : both) {
            child->channel().tell(std::to_string(count));
        }
        for (int i = 0; i < 2; ++i) {
            (*memories)[i] = memory_told_by(*both[i]);
        }
    }
    for (int i = 0; i < 2; ++i) {
        const char* const who = i == 0 ? "listener" : "connector";
        const double each = static_cast<double>(last[i].resident - first[i].resident) * 1024 /
                            static_cast<double>(many - 1);
        std::printf("%s: peak %lu KiB with one idle connection; %.0f bytes each more\n", who,
                    first[i].peak, each);
        if (!kSanitized) {
            EXPECT_LT(first[i].peak, kMostOfAProcessKib) << who;
            EXPECT_LT(each, kMostOfAConnection) << who;
        }
    }
    for (Child* child : both) {
        child->channel().tell("0");
        EXPECT_EQ(child->reap(), 0);
    }
}

}  // namespace
}  // namespace sanpoll::system_test
