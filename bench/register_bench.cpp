// register_bench: what WSPRegisterMemory and WSPDeregisterMemory cost on a connection, with and without the
// registration cache, and for memory that is the provider's own. See bench/README.md.
#include <fmt/format.h>
#include <sanpoll.h>
#include <sys/mman.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <sanpoll/switch.hpp>
#include <string>
#include <vector>

#include "bench/san_socket.hpp"

namespace sanpoll::bench {
namespace {

using sanpoll_switch::Provider;

struct Options {
    std::size_t entries = 10000;  // buffers that the cache holds
    std::size_t size_kb = 4;      // of one of them
    std::size_t count = 20000;    // registrations of a measurement
    std::string address;
};

// A started provider and a connection of it to itself.
class Connection {
public:
    Connection(bool cached, const Options& options) : provider_(load(cached, options)) {
        SanListener listener(*provider_, options.address);
        SanConnector connector = SanConnector::begin(*provider_, listener.address(),
                                                     listener.address(), listener.port());
        ends_.push_back(listener.accept());
        ends_.push_back(std::move(connector).finish());
    }
    ~Connection() { ends_.clear(); }
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;

    [[nodiscard]] const Provider& provider() const { return *provider_; }
    [[nodiscard]] const SanSocket& socket() const { return ends_.back(); }
    [[nodiscard]] bool cached() const {
        return provider_->extensions().memory_registration_cache_callback != nullptr;
    }
    [[nodiscard]] HANDLE add(char* at, std::size_t length) const {
        int error = 0;
        HANDLE handle = provider_->extensions().register_memory(
            socket().descriptor(), at, static_cast<DWORD>(length), MEM_WRITE, &error);
        if (handle == nullptr) {
            throw san_fault("WSPRegisterMemory", error);
        }
        return handle;
    }
    void remove(HANDLE handle) const {
        int error = 0;
        if (provider_->extensions().deregister_memory(socket().descriptor(), handle, &error) != 0) {
            throw san_fault("WSPDeregisterMemory", error);
        }
    }

private:
    static std::unique_ptr<Provider> load(bool cached, const Options& options) {
        ::setenv("SANPOLL_REGISTRATION_CACHE", cached ? "on" : "off", 1);
        ::setenv("SANPOLL_REGISTRATION_CACHE_ENTRIES",
                 std::to_string(2 * options.entries + 64).c_str(), 1);
        auto loaded = Provider::load();
        if (!loaded) throw ConnectionFault(loaded.error.message);
        return std::move(loaded.provider);
    }

    std::unique_ptr<Provider> provider_;
    std::vector<SanSocket> ends_;
};

struct Cost {
    double add = 0;  // ns
    double remove = 0;
};

// Registers and deregisters, one at a time in the given order; batches, so that the clock costs little.
Cost measure(const Connection& connection, const std::vector<char*>& order, std::size_t length,
             std::size_t count) {
    using Clock = std::chrono::steady_clock;
    constexpr std::size_t kBatch = 16;
    std::vector<Cost> costs;
    HANDLE handles[kBatch];
    for (std::size_t at = 0; at + kBatch <= count; at += kBatch) {
        const auto begin = Clock::now();
        for (std::size_t i = 0; i < kBatch; ++i) {
            handles[i] = connection.add(order[(at + i) % order.size()], length);
        }
        const auto middle = Clock::now();
        for (HANDLE handle : handles) {
            connection.remove(handle);
        }
        const auto end = Clock::now();
        costs.push_back({std::chrono::duration<double, std::nano>(middle - begin).count() / kBatch,
                         std::chrono::duration<double, std::nano>(end - middle).count() / kBatch});
    }
    // Medians, each by itself.
    const auto median = [&](double Cost::*of) {
        std::nth_element(costs.begin(),
                         costs.begin() + static_cast<std::ptrdiff_t>(costs.size() / 2), costs.end(),
                         [&](const Cost& a, const Cost& b) { return a.*of < b.*of; });
        return costs[costs.size() / 2].*of;
    };
    return {median(&Cost::add), median(&Cost::remove)};
}

void print(const std::string& what, const Cost& cost) {
    fmt::print("{:<58} {:>10.0f} {:>12.0f}\n", what, cost.add, cost.remove);
}

// Buffers of the provider's heap.
void measure_heap(const Connection& connection, const SANPOLL_MEMORY_FUNCTIONS& memory,
                  const Options& options) {
    std::vector<char*> buffers;
    DWORD reason = SANPOLL_MEMORY_OK;
    while (buffers.size() < options.entries) {
        auto* const buffer =
            static_cast<char*>(memory.lpAllocate(options.size_kb << 10, 0, 0, &reason));
        if (buffer == nullptr) {
            fmt::print("no buffers of the provider's heap: {}\n", memory.lpReasonText(reason));
            break;
        }
        buffers.push_back(buffer);
    }
    if (buffers.size() == options.entries) {
        std::shuffle(buffers.begin(), buffers.end(), std::mt19937_64(1));
        print("of the provider's heap (SANPOLL_MEMORY_FUNCTIONS)",
              measure(connection, buffers, options.size_kb << 10, options.count));
    }
    for (char* buffer : buffers) {
        (void)memory.lpFree(buffer, nullptr);
    }
}

int run(const Options& options) {
    const std::size_t length = options.size_kb << 10;
    // With a hole between two buffers, as buffers that are allocated one by one have them.
    const std::size_t stride = length + 4096;
    void* const all = ::mmap(nullptr, options.entries * stride, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (all == MAP_FAILED) {
        throw ConnectionFault("not enough memory; choose fewer --entries or a smaller --size");
    }
    std::vector<char*> buffers;
    for (std::size_t i = 0; i < options.entries; ++i) {
        buffers.push_back(static_cast<char*>(all) + i * stride);
    }
    std::shuffle(buffers.begin(), buffers.end(), std::mt19937_64(1));
    {
        const Connection connection(false, options);
        fmt::print("{} KiB each, over {}; ns a call, medians\n{:<58} {:>10} {:>12}\n",
                   options.size_kb, connection.socket().fabric().name, "", "register",
                   "deregister");
        print("without the cache", measure(connection, buffers, length, options.count));
        GUID id = WSAID_SANPOLL_MEMORY;
        SANPOLL_MEMORY_FUNCTIONS functions{};
        functions.cbSize = sizeof(functions);
        DWORD returned = 0;
        int error = 0;
        if (connection.provider().table().lpWSPIoctl(
                INVALID_SOCKET, SIO_GET_MULTIPLE_EXTENSION_FUNCTION_POINTER, &id, sizeof(id),
                &functions, sizeof(functions), &returned, nullptr, nullptr, nullptr, &error) == 0) {
            measure_heap(connection, functions, options);
        }
    }
    const Connection connection(true, options);
    if (!connection.cached()) {
        fmt::print("the registration cache is not to be had here\n");
        return 0;
    }
    for (char* buffer : buffers) {
        connection.remove(connection.add(buffer, length));
    }
    print(fmt::format("with the cache, {} kept", options.entries),
          measure(connection, buffers, length, options.count));
    print("  the same one each time",
          measure(connection, {buffers.front()}, length, options.count));
    return 0;
}

}  // namespace
}  // namespace sanpoll::bench

int main(int argc, char** argv) {
    sanpoll::bench::Options options;
    CLI::App app("register_bench: what registering memory costs");
    app.add_option("--entries", options.entries, "buffers, all of which the cache holds")
        ->check(CLI::Range(16, 400000));
    app.add_option("--size", options.size_kb, "KiB of a buffer")->check(CLI::Range(1, 65536));
    app.add_option("--count", options.count, "registrations of a measurement")
        ->check(CLI::Range(16, 100000000));
    app.add_option("--address", options.address, "address of this host whose fabric carries it");
    CLI11_PARSE(app, argc, argv);
    std::signal(SIGPIPE, SIG_IGN);
    try {
        return sanpoll::bench::run(options);
    } catch (const std::exception& fault) {
        fmt::print(stderr, "register_bench: {}\n", fault.what());
        return 1;
    }
}
