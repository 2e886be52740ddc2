#include "bench/footprint_figures.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace sanpoll::bench {
namespace {

using nlohmann::json;

double quantile_us(std::vector<std::uint64_t> times, double q) {
    if (times.empty()) return 0;
    std::sort(times.begin(), times.end());
    const auto at = static_cast<std::size_t>(q * static_cast<double>(times.size()));
    return static_cast<double>(times[std::min(at, times.size() - 1)]) / 1000;
}
double median_us(const std::vector<std::uint64_t>& times) { return quantile_us(times, 0.5); }

void print(const char* when, const char* who, const ProcessMemory& memory) {
    fmt::print("{:<18} {:<10} {:>9} {:>9} {:>10} {:>9} {:>9} {:>9}\n", when, who, memory.peak,
               memory.resident, memory.anonymous, memory.file, memory.shared, memory.proportional);
}

json json_of(const char* when, const char* process, const ProcessMemory& memory) {
    return {{"when", when},
            {"process", process},
            {"peak_kib", memory.peak},
            {"resident_kib", memory.resident},
            {"anonymous_kib", memory.anonymous},
            {"file_kib", memory.file},
            {"shared_kib", memory.shared},
            {"proportional_kib", memory.proportional}};
}

}  // namespace

double Footprint::each(ProcessMemory FootprintShot::*process) const {
    const std::uint64_t few = (shots[2].*process).resident;
    const std::uint64_t many = (shots.back().*process).resident;
    return static_cast<double>(many - std::min(few, many)) * 1024 /
           static_cast<double>(connections - 1);
}

void print(const Footprint& footprint) {
    fmt::print("{:<18} {:<10} {:>9} {:>9} {:>10} {:>9} {:>9} {:>9}  (KiB)\n", "", "", "peak",
               "resident", "anonymous", "file", "shared", "pss");
    for (const FootprintShot& shot : footprint.shots) {
        print(shot.when, footprint.one_process ? "both ends" : "connector", shot.connector);
        if (!footprint.one_process) print(shot.when, "acceptor", shot.acceptor);
    }
    if (footprint.one_process) {
        fmt::print("bytes a connection, both ends: {:.0f}\n",
                   footprint.each(&FootprintShot::connector));
    } else {
        fmt::print("bytes a connection: connector {:.0f}, acceptor {:.0f}\n",
                   footprint.each(&FootprintShot::connector),
                   footprint.each(&FootprintShot::acceptor));
    }
    fmt::print("{} connects: {:.1f} us median beside 1 open, {:.1f} us beside {}\n",
               footprint.timed, median_us(footprint.connect_few), median_us(footprint.connect_many),
               footprint.connections);
    fmt::print("{} closes: {:.1f} us median beside 1 open, {:.1f} us beside {}\n", footprint.timed,
               median_us(footprint.close_few), median_us(footprint.close_many),
               footprint.connections);
    fmt::print("closing all: {:.1f} ms\n", footprint.closing_all_ms);
    if (footprint.one_process || !footprint.tcp) return;
    if (footprint.tcp_bytes) {
        fmt::print("kernel TCP, objects of the kernel alone: {:.0f} bytes an end\n",
                   *footprint.tcp_bytes);
    } else {
        fmt::print("kernel TCP: /proc/slabinfo is for root\n");
    }
}

json json_of(const Footprint& footprint) {
    const char* const here = footprint.one_process ? "both ends" : "connector";
    json memory = json::array();
    for (const FootprintShot& shot : footprint.shots) {
        memory.push_back(json_of(shot.when, here, shot.connector));
        if (!footprint.one_process) memory.push_back(json_of(shot.when, "acceptor", shot.acceptor));
    }
    json results = json::array();
    results.push_back(
        {{"end", here}, {"bytes_per_connection", footprint.each(&FootprintShot::connector)}});
    if (!footprint.one_process) {
        results.push_back({{"end", "acceptor"},
                           {"bytes_per_connection", footprint.each(&FootprintShot::acceptor)}});
    }
    json times = json::array();
    const auto add = [&](const char* what, std::size_t open, const auto& ns) {
        times.push_back({{"what", what},
                         {"open", open},
                         {"p50_us", median_us(ns)},
                         {"p99_us", quantile_us(ns, 0.99)}});
    };
    add("connect", 1, footprint.connect_few);
    add("connect", footprint.connections, footprint.connect_many);
    add("close", 1, footprint.close_few);
    add("close", footprint.connections, footprint.close_many);
    return {{"program", "footprint"},
            {"connections", footprint.connections},
            {"timed", footprint.timed},
            {"receives", footprint.receives},
            {"processes", footprint.one_process ? 1 : 2},
            {"memory", std::move(memory)},
            {"results", std::move(results)},
            {"times", std::move(times)},
            {"closing_all_ms", footprint.closing_all_ms},
            {"tcp_kernel_bytes_per_end",
             footprint.tcp_bytes ? json(*footprint.tcp_bytes) : json(nullptr)}};
}

}  // namespace sanpoll::bench
