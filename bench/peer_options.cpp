#include "bench/peer_options.hpp"

#include <algorithm>
#include <sstream>
#include <stdexcept>

#include "bench/command_line.hpp"

namespace sanpoll::bench {
namespace {

constexpr int kWrongOption = 2;
constexpr const char* kSizes = "0,8,64,256,1K,4K,64K,1M";
constexpr const char* kOurs[] = {"shm", "shm-arena"};

struct Refusal : std::runtime_error {
    using std::runtime_error::runtime_error;
};

std::vector<std::string> items_of(const std::string& list) {
    std::vector<std::string> items;
    std::stringstream stream(list + ",");
    for (std::string item; std::getline(stream, item, ',');) {
        if (std::find(items.begin(), items.end(), item) == items.end()) items.push_back(item);
    }
    return items;
}

std::string names_of(const Peers& peers) {
    std::string names;
    for (const char* ours : kOurs)
        names.append(ours).append(", ");
    for (const Peer& peer : peers)
        names.append(peer.name).append(", ");
    return names.substr(0, names.size() - 2);
}

void choose_transports(const std::string& list, const Peers& peers, PeerBenchOptions& options) {
    PingOptions& ping = options.ping;
    ping.shm = ping.arena = false;
    const std::vector<PeerLeftOut> left_out = peers_left_out();
    std::vector<std::string> wanted = items_of(list);
    if (list.empty()) {
        wanted.assign(std::begin(kOurs), std::end(kOurs));
        for (const Peer& peer : peers)
            wanted.emplace_back(peer.name);
        for (const PeerLeftOut& missing : left_out)
            wanted.push_back(missing.name);
    }
    for (const std::string& name : wanted) {
        const auto missing =
            std::find_if(left_out.begin(), left_out.end(),
                         [&](const PeerLeftOut& candidate) { return candidate.name == name; });
        if (name == kOurs[0]) {
            ping.shm = true;
        } else if (name == kOurs[1]) {
            ping.arena = true;
        } else if (const Peer* peer = find_peer(peers, name)) {
            ping.peers.push_back({name, peer->largest});
        } else if (missing != left_out.end()) {
            options.skipped.push_back(*missing);
        } else {
            throw Refusal("--transports: there is no '" + name + "'; it takes a list of " +
                          names_of(peers));
        }
    }
    ping.tcp = false;
    if (!ping.shm && !ping.arena && ping.peers.empty())
        throw Refusal("--transports: none of those can be measured here; it takes a list of " +
                      names_of(peers));
}

void choose_sizes(const std::string& list, std::vector<std::uint32_t>& sizes) {
    sizes.clear();
    for (const std::string& item : items_of(list)) {
        const auto size = parse_size(item);
        if (!size)
            throw Refusal("--sizes: '" + list +
                          "' is not allowed; it takes bytes, comma separated, 0 to 1G, suffixes K "
                          "and M");
        sizes.push_back(*size);
    }
}

void choose_completions(const std::string& list, PingOptions& ping) {
    std::vector<Completion> chosen;
    for (const std::string& item : items_of(list)) {
        const auto completion = completion_from(item);
        if (!completion)
            throw Refusal("--completion: '" + list +
                          "' is not allowed; it takes polled, event or port, or a list of them");
        chosen.push_back(*completion);
    }
    ping.completion = chosen.front();
    ping.more_completions.assign(chosen.begin() + 1, chosen.end());
}

}  // namespace

ParsedPeerOptions parse_peer_options(int argc, const char* const* argv, const Peers& peers) {
    PeerBenchOptions options;
    PingOptions& ping = options.ping;
    ping.rounds = 5;
    ping.phase_ms = 20;
    std::uint32_t rate_kb = 1024;
    std::string transports;
    std::string sizes = kSizes;
    std::string completions = "polled";
    CommandLine line(
        "peer_bench",
        "Messages between two processes: the provider beside other ways, in the same run.");
    line.option("--transports", transports,
                "what is measured, comma separated; default all of " + names_of(peers));
    line.option("--sizes", sizes, "message sizes, comma separated, 0 to 1G, suffixes K and M")
        .shows_default();
    line.option("--rounds", ping.rounds, "rounds, in each of which all take turns")
        .shows_default()
        .within(1, 1000);
    line.option("--phase-ms", ping.phase_ms, "how long each figure of a round is measured")
        .shows_default()
        .within(1, 10000);
    line.option("--count", ping.count, "messages of each size instead, in all rounds together")
        .within(1, 1000000000);
    line.flag("--quick", options.quick, "2 rounds of 10 ms, unless told otherwise");
    line.flag("--fresh", ping.fresh,
              "senders write each line of a message before they send it, not its beginning only");
    line.option("--completion", completions,
                "how the provider's receives are learnt of: polled, event, port, or a list")
        .shows_default();
    line.option("--mode", ping.mode, "inline or dedicated: who polls for the provider")
        .shows_default()
        .one_of(std::vector<std::string>{"inline", "dedicated"});
    line.option("--window", ping.window, "sends outstanding while the rate is measured")
        .shows_default()
        .within(1, 1024);
    line.option("--rate-receives", ping.rate_receives, "receives posted meanwhile")
        .shows_default()
        .within(4, 4096);
    line.option("--window-kb", rate_kb,
                "KiB that the messages under way hold at most, or 4 messages, so that the caches "
                "hold the buffers of long ones; 0: no bound")
        .shows_default()
        .within(0, 1 << 20);
    line.option("--retries", ping.retries, "repetitions of a sample whose placement moved")
        .shows_default()
        .within(0, 100);
    line.option("--json", ping.json, "file for the results; - for standard output");
    line.option("--library", ping.library, "the provider to load: path of a libsanpoll.so");
    line.flag("--quiet", ping.quiet, "no progress");
    line.option("--role", ping.role).hidden();
    line.option("--control-fd", ping.control_fds).hidden();
    if (const auto end = line.read(argc, argv)) {
        const std::string text =
            end->status == 0
                ? end->text
                : "peer_bench: " + end->text + "; `peer_bench --help` lists what is allowed";
        return {std::nullopt, text, end->status};
    }
    ping.rate_bytes = std::uint64_t{rate_kb} << 10;
    if (options.quick) {
        if (!line.given("--rounds")) ping.rounds = 2;
        if (!line.given("--phase-ms")) ping.phase_ms = 10;
    }
    try {
        choose_sizes(sizes, ping.sizes);
        choose_completions(completions, ping);
        choose_transports(transports, peers, options);
    } catch (const Refusal& refusal) {
        return {std::nullopt, std::string("peer_bench: ") + refusal.what(), kWrongOption};
    }
    return {std::move(options), {}, 0};
}

}  // namespace sanpoll::bench
