#include "bench/rdma_compare.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <deque>
#include <fstream>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <thread>

#include "bench/connection.hpp"
#include "bench/handoff.hpp"
#include "bench/rdma_ping.hpp"
#include "bench/ucx_perftest.hpp"

namespace sanpoll::bench {
namespace {

using nlohmann::json;

constexpr std::chrono::minutes kLongPatience{2};

// What is compared, in the order of the table.
struct What {
    const char* transport;
    const char* operation;
    const char* measure;
    const char* ucx_test;  // nullptr: ours
};
constexpr What kAll[] = {
    {"shm arena", "write", "latency", nullptr},   {"ucx put", "write", "latency", "ucp_put_lat"},
    {"shm arena", "write", "bandwidth", nullptr}, {"ucx put", "write", "bandwidth", "ucp_put_bw"},
    {"shm arena", "read", "latency", nullptr},    {"shm arena", "read", "bandwidth", nullptr},
    {"ucx get", "read", "bandwidth", "ucp_get"},
};
constexpr std::size_t kKinds = std::size(kAll);

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values.empty() ? 0 : values[values.size() / 2];
}

bool is_latency(const What& what) { return std::strcmp(what.measure, "latency") == 0; }

// The last byte of fresh memory is 1 at either end: RdmaPing counts on from there.
void make_fresh(const RdmaEnd& end) { std::memset(end.memory().data(), 1, end.memory().size()); }

class Comparison {
public:
    Comparison(const CompareOptions& options, RdmaEnd& end, const ControlChannel& control,
               const CpuChoice& cpus)
        : options_(options),
          end_(end),
          control_(control),
          cpus_(cpus),
          clock_(Clock::calibrate()) {}

    void run() {
        look();
        // The first round warms up.
        for (std::size_t round = 0; round <= options_.rounds; ++round) {
            for (const std::size_t bytes : options_.sizes) {
                for (std::size_t kind = 0; kind < kKinds; ++kind) {
                    const double value = measure(kAll[kind], bytes, round == 0);
                    if (round != 0 && value != 0) values_[{kind, bytes}].push_back(value);
                }
            }
            look();
        }
    }
    void print() const;
    [[nodiscard]] json to_json() const;

private:
    // Nanoseconds or operations a second; 0: not measured.
    double measure(const What& what, std::size_t bytes, bool warms_up) {
        if (what.ucx_test != nullptr) return warms_up ? 0 : ucx(what, bytes);
        const bool writes = std::strcmp(what.operation, "write") == 0;
        if (!is_latency(what)) return bandwidth(writes, bytes);
        return writes ? ping(bytes) : read_latency(bytes);
    }
    double ping(std::size_t bytes) {
        control_.send({{"do", "answer"}, {"bytes", bytes}, {"count", count_of(bytes)}});
        make_fresh(end_);
        (void)control_.receive(kLongPatience);
        RdmaPing ping(end_, bytes, clock_);
        LatencyHistogram histogram;
        ping.ping(count_of(bytes) / 10, histogram);
        histogram.reset();
        ping.ping(count_of(bytes) - count_of(bytes) / 10, histogram);
        (void)control_.receive(kLongPatience);
        return static_cast<double>(histogram.quantile(0.5)) / 2;
    }
    double read_latency(std::size_t bytes) {
        LatencyHistogram histogram;
        WSAOVERLAPPED overlapped{};
        for (std::uint64_t i = 0; i < count_of(bytes); ++i) {
            const std::uint64_t start = clock_.ticks();
            end_.post_read(overlapped, 0, 0, bytes);
            end_.finish(overlapped);
            histogram.record(clock_.elapsed_ns(start, clock_.ticks()));
        }
        return static_cast<double>(histogram.quantile(0.5));
    }
    double bandwidth(bool writes, std::size_t bytes) {
        std::vector<WSAOVERLAPPED> window(options_.window);
        const std::uint64_t count =
            std::clamp<std::uint64_t>((options_.mebibytes << 20) / bytes, 100, 100000);
        const std::uint64_t start = Clock::monotonic_ns();
        for (std::uint64_t i = 0; i < count + window.size(); ++i) {
            WSAOVERLAPPED& overlapped = window[i % window.size()];
            if (i >= window.size()) end_.finish(overlapped);
            if (i >= count) continue;
            writes ? end_.post_write(overlapped, 0, 0, bytes)
                   : end_.post_read(overlapped, 0, 0, bytes);
        }
        return static_cast<double>(count) /
               (static_cast<double>(Clock::monotonic_ns() - start) / 1e9);
    }
    double ucx(const What& what, std::size_t bytes) {
        if (!options_.ucx || !no_ucx_.empty()) return 0;
        const std::uint64_t count =
            is_latency(what)
                ? count_of(bytes)
                : std::clamp<std::uint64_t>((options_.mebibytes << 20) / bytes, 100, 100000);
        const UcxResult result = run_ucx({what.ucx_test, bytes, count, cpus_.server, cpus_.client});
        if (!result.failure.empty()) {
            no_ucx_ = result.failure;
            return 0;
        }
        return is_latency(what) ? result.typical_ns : result.operations_per_second;
    }
    // Round trips of long pieces take longer and need be fewer.
    [[nodiscard]] std::uint64_t count_of(std::size_t bytes) const {
        return std::max<std::uint64_t>(options_.count / (1 + bytes / 16384), 200);
    }
    void look() { sentinels_.push_back(measure_handoff(clock_, cpus_.client, cpus_.server)); }

    const CompareOptions& options_;
    RdmaEnd& end_;
    const ControlChannel& control_;
    const CpuChoice& cpus_;
    const Clock clock_;
    std::map<std::pair<std::size_t, std::size_t>, std::vector<double>> values_;  // by kind, bytes
    std::vector<Handoff> sentinels_;
    std::string no_ucx_;
};

void Comparison::print() const {
    for (const Handoff& handoff : sentinels_) {
        fmt::print("sentinel: {:.0f} ns a round trip, {:.1f} ns a line, {}\n",
                   handoff.round_trip_ns, handoff.overwrite_ns_per_line,
                   to_string(handoff.placement));
    }
    fmt::print(
        "{}\n{}\n{} rounds; median (least - most); latency in ns, half a round trip or one "
        "read; bandwidth in GB/s\n",
        cpus_.why, end_.socket().fabric().arenas, options_.rounds);
    if (!no_ucx_.empty()) fmt::print("without UCX: {}\n", no_ucx_);
    fmt::print("{:<28}", "");
    for (const std::size_t bytes : options_.sizes)
        fmt::print("{:>24}", fmt::format("{} B", bytes));
    fmt::print("\n");
    for (std::size_t kind = 0; kind < kKinds; ++kind) {
        const What& what = kAll[kind];
        fmt::print("{:<28}", fmt::format("{} {} {}", what.transport, what.operation, what.measure));
        for (const std::size_t bytes : options_.sizes) {
            const auto found = values_.find({kind, bytes});
            if (found == values_.end()) {
                fmt::print("{:>24}", "-");
                continue;
            }
            const double factor = is_latency(what) ? 1 : static_cast<double>(bytes) / 1e9;
            const auto [least, most] =
                std::minmax_element(found->second.begin(), found->second.end());
            const double middle = median(found->second) * factor;
            fmt::print("{:>24}", is_latency(what) ? fmt::format("{:.0f} ({:.0f} - {:.0f})", middle,
                                                                *least * factor, *most * factor)
                                                  : fmt::format("{:.2f} ({:.2f} - {:.2f})", middle,
                                                                *least * factor, *most * factor));
        }
        fmt::print("\n");
    }
}

json Comparison::to_json() const {
    json whole{{"program", "rdma_bench"},
               {"cpus", {{"client", cpus_.client}, {"server", cpus_.server}, {"why", cpus_.why}}},
               {"sharing", end_.socket().fabric().arenas},
               {"configuration", {{"ucx", fmt::format("UCX_TLS={} ucx_perftest", kUcxTransports)}}},
               {"skipped", json::array()},
               {"sentinels", sentinels_},
               {"results", json::array()}};
    if (!options_.ucx || !no_ucx_.empty()) {
        whole["skipped"].push_back(
            {{"name", "ucx"}, {"why", no_ucx_.empty() ? "--no-ucx" : no_ucx_}});
    }
    for (const auto& [which, values] : values_) {
        const What& what = kAll[which.first];
        const auto bytes = static_cast<double>(which.second);
        json one{{"transport", what.transport},
                 {"operation", what.operation},
                 {"measure", what.measure},
                 {"bytes", which.second},
                 {"rounds", values}};
        if (is_latency(what)) {
            const bool writes = std::strcmp(what.operation, "write") == 0;
            one[writes ? "half_p50_ns" : "p50_ns"] = median(values);
        } else {
            std::vector<double> rates;
            for (const double value : values)
                rates.push_back(value * bytes);
            one["rounds"] = rates;
            one["bytes_per_second"] = median(rates);
            one["operations_per_second"] = median(values);
        }
        whole["results"].push_back(std::move(one));
    }
    return whole;
}

}  // namespace

std::size_t CompareOptions::memory() const {
    return RdmaPing::memory_for(*std::max_element(sizes.begin(), sizes.end()));
}

void compare_rdma(const CompareOptions& options, RdmaEnd& end, const ControlChannel& control,
                  const CpuChoice& cpus) {
    Comparison comparison(options, end, control, cpus);
    comparison.run();
    control.send({{"do", "quit"}});
    if (options.json_file != "-") comparison.print();
    if (options.json_file == "-") {
        std::cout << comparison.to_json().dump(2) << "\n";
    } else if (!options.json_file.empty()) {
        std::ofstream file(options.json_file);
        file << comparison.to_json().dump(2) << "\n";
        if (!file) throw ConnectionFault(fmt::format("{} cannot be written", options.json_file));
    }
}

void serve_compare(RdmaEnd& end, const ControlChannel& leader) {
    for (;;) {
        const json command = leader.receive(kLongPatience);
        if (command.at("do") != "answer") return;
        make_fresh(end);
        RdmaPing ping(end, command.at("bytes"), Clock());
        leader.send("ready");
        ping.answer(command.at("count"));
        leader.send("done");
    }
}

}  // namespace sanpoll::bench
