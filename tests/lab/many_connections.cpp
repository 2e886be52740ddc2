#include "tests/lab/many_connections.hpp"

#include <chrono>
#include <cstdio>
#include <deque>
#include <filesystem>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <thread>
#include <vector>

#include "bench/san_socket.hpp"
#include "tests/lab/session.hpp"
#include "tests/system/san.hpp"

namespace sanpoll::lab {
namespace {

using bench::SanConnector;
using bench::SanListener;
using bench::SanSocket;
using sanpoll_switch::Provider;
using Clock = std::chrono::steady_clock;

constexpr int kInARow = 1000;
constexpr int kAtOnce = 512;

void expect(bool fact, const std::string& otherwise) {
    if (!fact) {
        throw std::runtime_error(otherwise);
    }
}

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

struct Left {
    std::size_t descriptors = 0;
    std::string resources;  // queue pairs, memory regions and the like, by `rdma resource`

    [[nodiscard]] bool operator==(const Left&) const = default;
    [[nodiscard]] std::string text() const {
        return std::to_string(descriptors) + " descriptors, and\n" + resources;
    }
};

Left what_is_left() {
    Left left;
    for ([[maybe_unused]] const auto& one : std::filesystem::directory_iterator("/proc/self/fd")) {
        ++left.descriptors;
    }
    FILE* const program = popen("rdma resource show 2>&1", "r");
    expect(program != nullptr, "no process for 'rdma resource show'");
    char line[256];
    while (std::fgets(line, sizeof line, program) != nullptr) {
        left.resources += line;
    }
    expect(pclose(program) == 0, "'rdma resource show' fails: " + left.resources);
    return left;
}

// What is there when nothing has changed for longer than a close may take.
Left settled() {
    constexpr std::chrono::seconds kCloseTakes{5};
    Left left = what_is_left();
    auto since = Clock::now();
    const auto deadline = since + kPatience;
    while (Clock::now() < since + kCloseTakes) {
        std::this_thread::sleep_for(std::chrono::milliseconds(200));
        if (Left now = what_is_left(); now != left) {
            left = std::move(now);
            since = Clock::now();
        }
        expect(Clock::now() < deadline, "what is in use keeps changing: " + left.text());
    }
    return left;
}

// The provider gives back what a closed connection had off its data path, so a moment later.
double expect_as_before(const Left& before, const std::string& after_what) {
    const auto start = Clock::now();
    for (Left now = what_is_left(); now != before; now = what_is_left()) {
        expect(Clock::now() < start + kPatience,
               after_what + " there are " + now.text() + "instead of " + before.text());
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    return seconds_since(start);
}

struct Both {
    std::unique_ptr<SanSocket> client;
    std::unique_ptr<SanSocket> server;
};

Both connect_both(const Provider& provider, SanListener& listener, const std::string& address) {
    SanConnector connector = SanConnector::begin(provider, "0.0.0.0", address, listener.port());
    Both both;
    both.server = std::make_unique<SanSocket>(listener.accept(kPatience));
    both.client = std::make_unique<SanSocket>(std::move(connector).finish(kPatience));
    return both;
}

struct Message {
    char text[8] = "there";
    char place[8] = "";
    WSAOVERLAPPED receive{};
    WSAOVERLAPPED send{};
};

// One message on each connection, all of them under way at the same time.
void carry_messages(const Provider& provider, const std::vector<Both>& all) {
    std::vector<Message> messages(all.size());
    for (std::size_t i = 0; i < all.size(); ++i) {
        Message& message = messages[i];
        message.receive.hEvent = message.send.hEvent = system_test::kPolled;
        const SOCKET from = all[i].client->descriptor();
        const SOCKET to = all[i].server->descriptor();
        (void)system_test::register_memory(provider, from, message.text, sizeof message.text,
                                           MEM_READ);
        (void)system_test::register_memory(provider, to, message.place, sizeof message.place,
                                           MEM_WRITE);
        WSABUF in{sizeof message.place, message.place};
        WSABUF out{sizeof message.text, message.text};
        expect(system_test::patiently([&] {
                   return system_test::post_receive(provider, to, &in, 1, &message.receive);
               }) == 0,
               "no receive");
        expect(system_test::patiently([&] {
                   return system_test::post_send(provider, from, &out, 1, &message.send);
               }) == 0,
               "no send");
    }
    for (std::size_t i = 0; i < all.size(); ++i) {
        Message& message = messages[i];
        for (auto* operation : {&message.receive, &message.send}) {
            const SOCKET s = operation == &message.receive ? all[i].server->descriptor()
                                                           : all[i].client->descriptor();
            const auto result = system_test::result_of(provider, s, operation, true);
            expect(result && result->error == 0 && result->bytes == sizeof message.text,
                   "a message of one of many connections was lost");
        }
        expect(std::string(message.place) == "there", "a message came as another one");
    }
}

void many_at_once(const Provider& provider, SanListener& listener, const std::string& address,
                  const Left& before, int under_way) {
    auto start = Clock::now();
    std::vector<Both> all;
    while (all.size() < static_cast<std::size_t>(kAtOnce)) {
        std::deque<SanConnector> connecting;
        for (int i = 0; i < under_way; ++i) {
            connecting.push_back(
                SanConnector::begin(provider, "0.0.0.0", address, listener.port()));
        }
        // They may come in any order, so the two ends of one entry need not belong together.
        for (SanConnector& connector : connecting) {
            Both& both = all.emplace_back();
            both.server = std::make_unique<SanSocket>(listener.accept(kPatience));
            both.client = std::make_unique<SanSocket>(std::move(connector).finish(kPatience));
        }
    }
    const double made = seconds_since(start);
    const Left open = what_is_left();
    start = Clock::now();
    carry_messages(provider, all);
    const double carried = seconds_since(start);
    start = Clock::now();
    all.clear();
    const double closed = seconds_since(start);
    const double gone = expect_as_before(before, "after connections at once");
    std::printf(
        "connections: %d at once, made in %.1f s, a message on each in %.1f s, closed in %.1f s, "
        "nothing left "
        "after %.1f s; meanwhile there were %s",
        kAtOnce, made, carried, closed, gone, open.text().c_str());
    std::fflush(stdout);
}

}  // namespace

void many_connections(const Provider& provider, const std::string& address, int under_way) {
    SanListener listener(provider, address);
    // What the first connection brings for good, such as the device and its first completion queue.
    (void)connect_both(provider, listener, address);
    const Left before = settled();
    std::cout << "connections: before, there are " << before.text() << std::flush;

    const auto start = Clock::now();
    for (int i = 0; i < kInARow; ++i) {
        (void)connect_both(provider, listener, address);
    }
    const double took = seconds_since(start);
    const double gone = expect_as_before(before, "after connects in a row");
    std::printf("connections: %d in a row in %.1f s, nothing left after %.1f s\n", kInARow, took,
                gone);
    std::fflush(stdout);

    for (int round = 0; round < 2; ++round) {
        many_at_once(provider, listener, address, before, under_way);
    }
}

}  // namespace sanpoll::lab
