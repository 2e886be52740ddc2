// register_bench: what WSPRegisterMemory and WSPDeregisterMemory cost on a connection, with and without the
// registration cache, and for memory that is the provider's own; and what exposing that to the peer costs. See
// bench/README.md.
//
// --json: {"program", "fabric", "buffer_bytes", "entries", "count", "results": [{"memory": words, "cache": whether
// it is on, "register_ns", "deregister_ns": medians}], "exposed": [{"bytes", "fresh": whether none of its pages had been
// touched, "register_ns", "deregister_ns": medians of WSPRegisterRdmaMemory and its opposite}], "lacking": [words]}.
// One thread: no sentinels.
#include <fmt/format.h>
#include <sanpoll.h>
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <nlohmann/json.hpp>
#include <random>
#include <sanpoll/switch.hpp>
#include <string>
#include <vector>

#include "bench/json_output.hpp"
#include "bench/program.hpp"
#include "bench/san_socket.hpp"

namespace sanpoll::bench {
namespace {

using nlohmann::json;
using sanpoll_switch::Provider;

struct Options {
    std::size_t entries = 10000;  // buffers that the cache holds
    std::size_t size_kb = 4;      // of one of them
    std::size_t count = 20000;    // registrations of a measurement
    std::string address;
    std::string json;  // empty: none
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

    // The nanoseconds of exposing it to the peer and of taking that back.
    [[nodiscard]] std::pair<double, double> expose(char* at, std::size_t length) const {
        using Clock = std::chrono::steady_clock;
        const auto& functions = provider_->extensions();
        char descriptor[64];
        DWORD size = sizeof(descriptor);
        int error = 0;
        const auto begin = Clock::now();
        if (functions.register_rdma_memory(socket().descriptor(), at, static_cast<DWORD>(length),
                                           MEM_READWRITE, descriptor, &size, &error) != 0) {
            throw san_fault("WSPRegisterRdmaMemory", error);
        }
        const auto middle = Clock::now();
        if (functions.deregister_rdma_memory(socket().descriptor(), descriptor, size, &error) !=
            0) {
            throw san_fault("WSPDeregisterRdmaMemory", error);
        }
        const std::chrono::duration<double, std::nano> there = middle - begin;
        const std::chrono::duration<double, std::nano> back = Clock::now() - middle;
        return {there.count(), back.count()};
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

// Medians, each by itself.
Cost medians(std::vector<Cost>& costs) {
    const auto median = [&](double Cost::*of) {
        std::nth_element(costs.begin(),
                         costs.begin() + static_cast<std::ptrdiff_t>(costs.size() / 2), costs.end(),
                         [&](const Cost& a, const Cost& b) { return a.*of < b.*of; });
        return costs[costs.size() / 2].*of;
    };
    return {median(&Cost::add), median(&Cost::remove)};
}

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
    return medians(costs);
}

// Takes the results: the table as they come, if it is wanted, and the JSON at the end.
class Results {
public:
    explicit Results(bool table) : table_(table) {}

    void begin(const Options& options, const std::string& fabric) {
        fabric_ = fabric;
        if (!table_) return;
        fmt::print("{} KiB each, over {}; ns a call, medians\n{:<58} {:>10} {:>12}\n",
                   options.size_kb, fabric, "", "register", "deregister");
    }
    void add(const std::string& what, bool cache, const Cost& cost) {
        if (table_) fmt::print("{:<58} {:>10.0f} {:>12.0f}\n", what, cost.add, cost.remove);
        results_.push_back({{"memory", what},
                            {"cache", cache},
                            {"register_ns", cost.add},
                            {"deregister_ns", cost.remove}});
    }
    void add_exposed(std::size_t mebibytes, bool fresh, const Cost& cost) {
        if (table_) {
            fmt::print("{:<58} {:>10.0f} {:>12.0f}\n",
                       fmt::format("exposed (Rdma), {} MiB of the heap, {}", mebibytes,
                                   fresh ? "never touched" : "touched"),
                       cost.add, cost.remove);
        }
        exposed_.push_back({{"bytes", mebibytes << 20},
                            {"fresh", fresh},
                            {"register_ns", cost.add},
                            {"deregister_ns", cost.remove}});
    }
    void lack(const std::string& what) {
        if (table_) fmt::print("{}\n", what);
        lacking_.push_back(what);
    }
    [[nodiscard]] json all(const Options& options) const {
        return {{"program", "register_bench"},
                {"fabric", fabric_},
                {"buffer_bytes", options.size_kb << 10},
                {"entries", options.entries},
                {"count", options.count},
                {"results", results_},
                {"exposed", exposed_},
                {"lacking", lacking_}};
    }

private:
    const bool table_;
    std::string fabric_;
    json results_ = json::array();
    json exposed_ = json::array();
    json lacking_ = json::array();
};

// Buffers of the provider's heap.
void measure_heap(const Connection& connection, const SANPOLL_MEMORY_FUNCTIONS& memory,
                  const Options& options, Results& results) {
    std::vector<char*> buffers;
    DWORD reason = SANPOLL_MEMORY_OK;
    while (buffers.size() < options.entries) {
        auto* const buffer =
            static_cast<char*>(memory.lpAllocate(options.size_kb << 10, 0, 0, &reason));
        if (buffer == nullptr) {
            results.lack(
                fmt::format("no buffers of the provider's heap: {}", memory.lpReasonText(reason)));
            break;
        }
        buffers.push_back(buffer);
    }
    if (buffers.size() == options.entries) {
        std::shuffle(buffers.begin(), buffers.end(), std::mt19937_64(1));
        results.add("of the provider's heap (SANPOLL_MEMORY_FUNCTIONS)", false,
                    measure(connection, buffers, options.size_kb << 10, options.count));
    }
    for (char* buffer : buffers) {
        (void)memory.lpFree(buffer, nullptr);
    }
}

// Large blocks of the provider's heap, exposed when none of their pages has been touched, and once more.
void measure_exposing(const Connection& connection, const SANPOLL_MEMORY_FUNCTIONS& memory,
                      Results& results) {
    std::vector<char*>
        blocks;  // kept to the end, or the next ones would be what others have touched
    for (const auto& [mebibytes, count] : {std::pair<std::size_t, int>{1, 15}, {16, 5}}) {
        std::vector<Cost> fresh;
        std::vector<Cost> touched;
        for (int i = 0; i < count; ++i) {
            DWORD reason = SANPOLL_MEMORY_OK;
            auto* const block =
                static_cast<char*>(memory.lpAllocate(mebibytes << 20, 0, 0, &reason));
            if (block == nullptr) {
                results.lack(fmt::format("no {} MiB of the provider's heap: {}", mebibytes,
                                         memory.lpReasonText(reason)));
                break;
            }
            blocks.push_back(block);
            for (std::vector<Cost>* costs : {&fresh, &touched}) {
                const auto [there, back] = connection.expose(block, mebibytes << 20);
                costs->push_back({there, back});
            }
        }
        if (!fresh.empty()) {
            results.add_exposed(mebibytes, true, medians(fresh));
            results.add_exposed(mebibytes, false, medians(touched));
        }
    }
    for (char* block : blocks) {
        (void)memory.lpFree(block, nullptr);
    }
}

void run(const Options& options, Results& results) {
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
        results.begin(options, connection.socket().fabric().name);
        results.add("without the cache", false,
                    measure(connection, buffers, length, options.count));
        GUID id = WSAID_SANPOLL_MEMORY;
        SANPOLL_MEMORY_FUNCTIONS functions{};
        functions.cbSize = sizeof(functions);
        DWORD returned = 0;
        int error = 0;
        if (connection.provider().table().lpWSPIoctl(
                INVALID_SOCKET, SIO_GET_MULTIPLE_EXTENSION_FUNCTION_POINTER, &id, sizeof(id),
                &functions, sizeof(functions), &returned, nullptr, nullptr, nullptr, &error) == 0) {
            measure_heap(connection, functions, options, results);
            measure_exposing(connection, functions, results);
        }
    }
    const Connection connection(true, options);
    if (!connection.cached()) {
        results.lack("the registration cache is not to be had here");
        return;
    }
    for (char* buffer : buffers) {
        connection.remove(connection.add(buffer, length));
    }
    results.add(fmt::format("with the cache, {} kept", options.entries), true,
                measure(connection, buffers, length, options.count));
    results.add("with the cache, the same one each time", true,
                measure(connection, {buffers.front()}, length, options.count));
}

}  // namespace
}  // namespace sanpoll::bench

int main(int argc, char** argv) {
    sanpoll::bench::Options options;
    sanpoll::bench::CommandLine line("register_bench", "what registering memory costs");
    line.option("--entries", options.entries, "buffers, all of which the cache holds")
        .within(16, 400000);
    line.option("--size", options.size_kb, "KiB of a buffer").within(1, 65536);
    line.option("--count", options.count, "registrations of a measurement").within(16, 100000000);
    line.option("--address", options.address, "address of this host whose fabric carries it");
    line.option("--json", options.json, "also write the results to this file; - : only them");
    return sanpoll::bench::run_program(line, argc, argv, [&] {
        sanpoll::bench::JsonOutput output(options.json);
        sanpoll::bench::Results results(output.leaves_stdout());
        sanpoll::bench::run(options, results);
        output.write(results.all(options));
        return 0;
    });
}
