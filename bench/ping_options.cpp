#include "bench/ping_options.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <sstream>
#include <stdexcept>

#include "bench/command_line.hpp"
#include "bench/cpu_placement.hpp"

#ifndef SANPOLL_VERSION
#define SANPOLL_VERSION "unknown"
#endif

namespace sanpoll::bench {
namespace {

constexpr std::uint32_t kLargestSize = 1U << 30;
constexpr int kWrongOption = 2;

// The options while they are text, with the sentence that says what each may be: each wrong value gets the same kind of
// line.
class Table {
public:
    explicit Table(CommandLine& line) : line_(line) {}

    void add(const std::string& name, const std::string& allowed, const std::string& help) {
        line_
            .option(name, values_[name], std::string(help).append(" (").append(allowed).append(")"))
            .last_wins();
        allowed_[name] = allowed;
    }

    bool given(const std::string& name) const { return line_.given(name); }
    const std::string& value(const std::string& name) const { return values_.at(name); }

    std::string refusal(const std::string& name) const {
        return name + ": '" + values_.at(name) + "' is not allowed; it takes " + allowed_.at(name);
    }

    // Adds what is allowed to the command line's own complaint, such as an option without its value.
    std::string explain(const std::string& complaint) const {
        for (const auto& [name, allowed] : allowed_) {
            if (complaint.size() > name.size() && complaint[name.size()] == ':' &&
                complaint.starts_with(name)) {
                return std::string(name).append(" needs a value: ").append(allowed);
            }
        }
        return complaint + "; `sanpoll-ping --help` lists what is allowed";
    }

private:
    CommandLine& line_;
    std::map<std::string, std::string> values_;
    std::map<std::string, std::string> allowed_;
};

struct Refusal : std::runtime_error {
    using std::runtime_error::runtime_error;
};

template <class Number>
void read_number(const Table& table, const std::string& name, Number low, Number high,
                 Number& into) {
    if (!table.given(name)) return;
    const std::string& text = table.value(name);
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size() || value < low || value > high) {
        throw Refusal(table.refusal(name));
    }
    into = static_cast<Number>(value);
}

void read_choice(const Table& table, const std::string& name,
                 const std::vector<std::string>& choices, std::string& into) {
    if (!table.given(name)) return;
    if (std::find(choices.begin(), choices.end(), table.value(name)) == choices.end())
        throw Refusal(table.refusal(name));
    into = table.value(name);
}

void read_sizes(const Table& table, std::vector<std::uint32_t>& into) {
    if (!table.given("--sizes")) return;
    into.clear();
    std::stringstream list(table.value("--sizes") + ",");
    for (std::string item; std::getline(list, item, ',');) {
        const auto size = parse_size(item);
        if (!size) throw Refusal(table.refusal("--sizes"));
        if (std::find(into.begin(), into.end(), *size) == into.end()) into.push_back(*size);
    }
}

void read_cpus(const Table& table, const std::string& name, std::size_t most,
               std::vector<int>& into) {
    if (!table.given(name)) return;
    const auto cpus = parse_cpu_list(table.value(name));
    const std::vector<int> allowed = allowed_cpus();
    const auto usable = [&](int cpu) {
        return std::find(allowed.begin(), allowed.end(), cpu) != allowed.end();
    };
    if (!cpus || cpus->size() > most || !std::all_of(cpus->begin(), cpus->end(), usable)) {
        throw Refusal(table.refusal(name) + "; this process may use CPUs " +
                      format_cpu_list(allowed));
    }
    into = *cpus;
}

void check_together(const PingOptions& options, const Table& table) {
    if (!options.shm && !options.tcp)
        throw Refusal("--no-shm and --no-tcp together leave nothing to measure; drop one");
    if (!options.poll_cores.empty() && options.mode != "dedicated") {
        throw Refusal("--poll-cores: only dedicated mode has polling cores; add --mode dedicated");
    }
    if (!options.shm && table.given("--fabric")) {
        throw Refusal("--fabric: kernel TCP has none; drop --no-shm or --fabric");
    }
    if (!options.shm && table.given("--completion")) {
        throw Refusal("--completion: kernel TCP has none; drop --no-shm or --completion");
    }
    in_addr parsed{};
    if (table.given("--port") && !options.listen && options.connect.empty())
        throw Refusal("--port: only two hosts need one; add --listen or --connect");
    if (table.given("--connect")) {
        if (inet_pton(AF_INET, options.connect.c_str(), &parsed) != 1)
            throw Refusal(table.refusal("--connect"));
        if (options.listen) throw Refusal("--listen and --connect are for two hosts; drop one");
        if (options.layout != Layout::kTwoHosts)
            throw Refusal(
                "--connect: the server is another process; drop --one-process and --one-thread");
        if (table.given("--address"))
            throw Refusal("--address: the server chooses it; give it to --listen");
    }
    if (options.listen && table.given("--json"))
        throw Refusal("--json: the results are on the other host; give it to --connect");
    if (table.given("--address") && inet_pton(AF_INET, options.address.c_str(), &parsed) != 1)
        throw Refusal(table.refusal("--address"));
}

std::string without_trailing_space(std::string text) {
    while (!text.empty() && (text.back() == ' ' || text.back() == '\n'))
        text.pop_back();
    return text;
}

ParsedOptions refuse(const std::string& line) {
    return {std::nullopt, "sanpoll-ping: " + one_line(line), kWrongOption};
}

void add_valued_options(Table& table) {
    const std::string cpus = "CPU numbers such as 0,1 or 2-3";
    table.add("--sizes", "bytes, comma separated, 0 to 1G, suffixes K and M",
              "message sizes; default 0,8,64,1K,64K");
    table.add("--count", "a number from 1 to 10000000000",
              "messages of each size; default: what fits into about 15 s in all");
    table.add("--warmup", "a number from 1 to 100000000",
              "messages before each measurement; default 1000");
    table.add("--mode", "inline or dedicated",
              "who polls: the application's threads, or cores of their own; default inline");
    table.add("--profile", "ultra, balanced or eco",
              "idle profile of the provider; default balanced");
    table.add("--fabric", "auto, shm or verbs",
              "what carries the provider's messages; default auto, by the address");
    table.add("--cores", "one CPU for both ends or two as server,client: " + cpus,
              "the application's CPUs; default chosen");
    table.add("--poll-cores", cpus, "CPUs of the polling cores in dedicated mode; default chosen");
    table.add("--completion", "polled, event or port",
              "how a receive's completion is learnt; default polled");
    table.add("--receives", "a number from 1 to 1024", "receives kept posted; default 8");
    table.add("--window", "a number from 1 to 1024",
              "sends outstanding in the rate phase; default 32");
    table.add("--rate-receives", "a number from 4 to 4096",
              "receives posted in the rate phase; default 64");
    table.add("--rounds", "a number from 1 to 1000",
              "rounds in which shared memory and TCP alternate; default 5");
    table.add("--retries", "a number from 0 to 100",
              "repetitions of a sample whose placement moved; default 3");
    table.add("--json", "a file name, or - for standard output",
              "writes the results with their histograms");
    table.add("--address", "an IPv4 address of this host",
              "where the server listens; default 127.0.0.1, or the first that the provider has");
    table.add("--connect", "the IPv4 address of a host where sanpoll-ping --listen runs",
              "measures between the two hosts");
    table.add("--port", "a number from 1 to 65535",
              "TCP port by which the two hosts agree; default 7412");
    table.add("--library", "the path of a libsanpoll.so", "the provider to load");
}

PingOptions read_values(const Table& table) {
    PingOptions options;
    read_sizes(table, options.sizes);
    read_number<std::uint64_t>(table, "--count", 1, 10'000'000'000, options.count);
    read_number<std::uint64_t>(table, "--warmup", 1, 100'000'000, options.warmup);
    read_choice(table, "--mode", {"inline", "dedicated"}, options.mode);
    read_choice(table, "--profile", {"ultra", "balanced", "eco"}, options.profile);
    read_choice(table, "--fabric", {"auto", "shm", "verbs"}, options.fabric);
    read_cpus(table, "--cores", 2, options.cores);
    read_cpus(table, "--poll-cores", 4096, options.poll_cores);
    std::string completion = to_string(options.completion);
    read_choice(table, "--completion", {"polled", "event", "port"}, completion);
    options.completion = completion_from(completion).value();
    read_number<std::uint32_t>(table, "--receives", 1, 1024, options.receives);
    read_number<std::uint32_t>(table, "--window", 1, 1024, options.window);
    read_number<std::uint32_t>(table, "--rate-receives", 4, 4096, options.rate_receives);
    read_number<std::uint32_t>(table, "--rounds", 1, 1000, options.rounds);
    read_number<std::uint32_t>(table, "--retries", 0, 100, options.retries);
    if (table.given("--address")) options.address = table.value("--address");
    if (table.given("--connect")) options.connect = table.value("--connect");
    read_number<std::uint16_t>(table, "--port", 1, 65535, options.port);
    if (table.given("--library")) options.library = table.value("--library");
    if (table.given("--json")) options.json = table.value("--json");
    return options;
}

}  // namespace

ParsedOptions parse_options(int argc, const char* const* argv) {
    CommandLine line(
        "sanpoll-ping",
        "Round trips and message rates between two processes through a SAN provider, beside kernel "
        "TCP.");
    line.version("sanpoll-ping " SANPOLL_VERSION);
    Table table(line);
    add_valued_options(table);

    bool no_tcp = false, no_shm = false, no_rate = false, tcp_blocking = false, quiet = false;
    bool one_process = false, one_thread = false, listen = false;
    line.flag("--no-tcp", no_tcp, "leaves kernel TCP out");
    line.flag("--no-shm", no_shm, "leaves the provider out");
    line.flag("--no-rate", no_rate, "leaves the message rate out");
    line.flag("--tcp-blocking", tcp_blocking,
              "kernel TCP with blocking sockets instead of spinning");
    line.flag("--one-process", one_process, "server and client as two threads of one process");
    line.flag("--one-thread", one_thread, "one thread drives both ends");
    line.flag("--listen", listen,
              "serves one run of a sanpoll-ping --connect, on a network whose hosts you trust");
    line.flag("--quiet", quiet, "the table without progress and remarks");
    std::string role;
    std::vector<int> control_fds;
    line.option("--role", role).hidden();
    line.option("--control-fd", control_fds).hidden();

    if (const auto end = line.read(argc, argv)) {
        if (end->status != 0) return refuse(table.explain(end->text));
        return {std::nullopt, without_trailing_space(end->text), 0};
    }

    try {
        PingOptions options = read_values(table);
        options.tcp = !no_tcp;
        options.shm = !no_shm;
        options.rate = !no_rate;
        options.tcp_blocking = tcp_blocking;
        options.quiet = quiet;
        options.listen = listen;
        if (!options.connect.empty()) options.layout = Layout::kTwoHosts;
        if (one_process) options.layout = Layout::kOneProcess;
        if (one_thread) options.layout = Layout::kOneThread;
        options.role = role;
        options.control_fds = control_fds;
        check_together(options, table);
        return {options, {}, 0};
    } catch (const Refusal& refusal) {
        return refuse(refusal.what());
    }
}

const char* to_string(Completion completion) noexcept {
    switch (completion) {
        case Completion::kEvent:
            return "event";
        case Completion::kPort:
            return "port";
        case Completion::kPolled:
            break;
    }
    return "polled";
}

const char* to_string(Layout layout) noexcept {
    switch (layout) {
        case Layout::kOneProcess:
            return "one-process";
        case Layout::kOneThread:
            return "one-thread";
        case Layout::kTwoHosts:
            return "two-hosts";
        case Layout::kTwoProcesses:
            break;
    }
    return "two-processes";
}

std::optional<Completion> completion_from(const std::string& text) noexcept {
    for (const Completion completion :
         {Completion::kPolled, Completion::kEvent, Completion::kPort}) {
        if (text == to_string(completion)) return completion;
    }
    return std::nullopt;
}

std::optional<std::uint32_t> parse_size(const std::string& text) noexcept {
    std::uint64_t value = 0;
    const char* const end = text.data() + text.size();
    auto [next, error] = std::from_chars(text.data(), end, value);
    if (error != std::errc{}) return std::nullopt;
    unsigned shift = 0;
    if (next != end) {
        if (*next == 'K' || *next == 'k') shift = 10;
        if (*next == 'M' || *next == 'm') shift = 20;
        if (*next == 'G' || *next == 'g') shift = 30;
        if (shift == 0 || next + 1 != end) return std::nullopt;
    }
    if (value > kLargestSize >> shift) return std::nullopt;
    return static_cast<std::uint32_t>(value << shift);
}

std::string format_size(std::uint32_t bytes) {
    if (bytes != 0 && bytes % (1U << 20) == 0) return std::to_string(bytes >> 20) + "M";
    if (bytes != 0 && bytes % (1U << 10) == 0) return std::to_string(bytes >> 10) + "K";
    return std::to_string(bytes);
}

}  // namespace sanpoll::bench
