// One of two programs that meet through the provider; run by the tests in this folder, in machines of the lab.
//
//   lab_peer serve PORT_FILE SESSIONS       listens, writes its port into the file, serves so many connections
//   lab_peer echo ADDRESS PORT_FILE COUNT LONGEST FLAG
//                                           so many messages of all lengths up to LONGEST, there and back; creates
//                                           the file FLAG when they flow
//   lab_peer rdma ADDRESS PORT_FILE ROUNDS  writes, reads, and what happens when the memory is taken back
//   lab_peer broken ADDRESS PORT_FILE FLAG  messages until the connection ends; creates FLAG when they flow
//   lab_peer idle ADDRESS PORT_FILE FLAG    the same without messages
//   lab_peer devices ADDRESS ADDRESS PORT_FILE PORT_FILE FLAG
//                                           a connection to the first server at the first address and one to the second
//                                           at the second, over different devices; creates FLAG when messages flow on
//                                           both, for the second device to be removed; the first one's go on; creates
//                                           FLAG-gone when nothing here has the second device open any more, and calls
//                                           again when FLAG-back is there
//   lab_peer connections ADDRESS UNDER_WAY  1,000 connects and closes in a row, twice 512 at once, and what is left;
//                                           so many connects have begun at the same time, up to 16
//
// Prints one line a connection. Status 0 if everything was as it has to be, else 1 and a line on standard error.
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <memory>
#include <optional>
#include <stdexcept>
#include <thread>

#include "tests/lab/many_connections.hpp"
#include "tests/lab/session.hpp"
#include "tests/system/process_state.hpp"
#include "tests/system/san.hpp"

namespace sanpoll::lab {
namespace {

using bench::SanConnector;
using bench::SanListener;
using sanpoll_switch::Provider;

constexpr std::uint64_t kFlowing = 40;  // messages after which a connection counts as flowing

std::string name_of(int error) { return sanpoll_switch::wsa_error_name(error); }

void expect(bool fact, const std::string& otherwise) {
    if (!fact) {
        throw std::runtime_error(otherwise);
    }
}

// The two ways in which a connection may end that nobody here has closed.
void expect_documented(int error) {
    expect(error == WSAECONNRESET || error == WSAECONNABORTED,
           "a connection ended with " + name_of(error));
}

void create(const std::filesystem::path& file, const std::string& text) {
    // Whole when it is there.
    std::ofstream(file.string() + ".part") << text;
    std::filesystem::rename(file.string() + ".part", file);
}

// Which device carries the session, and whether a core that does nothing else polls it.
std::string over(const Session& session) {
    return session.fabric() + " " + session.device() +
           (system_test::thread_named(::getpid(), "sanpoll-core") != 0 ? ", dedicated" : "");
}

// ---- the server -------------------------------------------------------------------------------------------------

std::string word(std::string_view text, std::size_t which) {
    std::size_t begin = 0;
    for (; which != 0; --which) {
        begin = std::min(text.find(' ', begin), text.size() - 1) + 1;
    }
    return std::string(text.substr(begin, text.find(' ', begin) - begin));
}

// Returns every message until the end.
void serve_echo(Session& session, std::uint64_t& messages) {
    for (;; ++messages) {
        session.send(session.receive());
    }
}

// Gives its memory to the peer and does as it says.
void serve_rdma(Session& session, std::uint64_t& messages) {
    const std::span<char> memory = session.rdma_memory();
    const std::string descriptor = session.expose();
    session.send(descriptor);
    for (;; ++messages) {
        const std::string command(session.receive());
        const std::uint64_t number = std::stoull(word(command, 1));
        std::string answer = "done";
        if (word(command, 0) == "check") {
            const std::string wanted = bytes_of(number, memory.size());
            answer = std::equal(memory.begin(), memory.end(), wanted.begin()) ? "good" : "bad";
        } else if (word(command, 0) == "fill") {
            bytes_of(number, memory.size()).copy(memory.data(), memory.size());
        } else {
            session.conceal(descriptor);
        }
        session.send(answer);
    }
}

void serve_one(const Provider& provider, SanListener& listener) {
    const auto session = std::make_unique<Session>(provider, listener.accept(kPatience));
    const std::string device = over(*session);
    std::uint64_t messages = 0;
    int error = 0;
    try {
        const std::string what(session->receive());
        session->send("welcome");
        (what == "rdma" ? serve_rdma : serve_echo)(*session, messages);
    } catch (const Ended& end) {
        error = end.error;
    }
    expect_documented(error);
    const std::uint32_t rest = session->await_rest(error);
    std::cout << "served " << messages << " messages over " << device << ", ended with "
              << name_of(error) << ", and so did " << rest << " operations" << std::endl;
}

void serve(const Provider& provider, const std::string& file, int sessions) {
    SanListener listener(provider, "0.0.0.0");
    create(file, std::to_string(listener.port()));
    for (int i = 0; i < sessions; ++i) {
        serve_one(provider, listener);
    }
}

// ---- the caller -------------------------------------------------------------------------------------------------

std::uint16_t port_in(const std::string& file) {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    for (;;) {
        std::uint16_t port = 0;
        if (std::ifstream(file) >> port) {
            return port;
        }
        expect(std::chrono::steady_clock::now() < deadline, "nobody wrote a port into " + file);
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
}

std::unique_ptr<Session> call(const Provider& provider, const std::string& address,
                              const std::string& file, const std::string& what) {
    auto session = std::make_unique<Session>(
        provider,
        SanConnector::begin(provider, "0.0.0.0", address, port_in(file)).finish(kPatience));
    try {
        session->send(what);
        expect(session->receive() == "welcome", "the server does not welcome");
    } catch (const Ended& end) {
        throw std::runtime_error("the connection ended at once, with " + name_of(end.error));
    }
    return session;
}

// Keeps two messages under way. Stops after `count`, or with the connection.
void echo(Session& session, std::uint64_t count, std::size_t longest, const std::string& flag,
          std::uint64_t& done) {
    const auto message = [longest](std::uint64_t number) {
        return bytes_of(number, std::min(length_of(number), longest));
    };
    std::uint64_t sent = 0;
    for (; done < count; ++done) {
        for (; sent < count && sent < done + 2; ++sent) {
            session.send(message(sent));
        }
        expect(session.receive() == message(done),
               "message " + std::to_string(done) + " came back as another one");
        if (done == kFlowing) {
            create(flag, "");
        }
    }
    session.drain();
}

void call_echo(const Provider& provider, const std::string& address, const std::string& file,
               std::uint64_t count, std::size_t longest, const std::string& flag) {
    const auto session = call(provider, address, file, "echo");
    std::uint64_t done = 0;
    try {
        echo(*session, count, longest, flag, done);
    } catch (const Ended& end) {
        throw std::runtime_error("the connection ended after " + std::to_string(done) +
                                 " messages, with " + name_of(end.error));
    }
    std::cout << "echo: " << done << " messages over " << over(*session) << std::endl;
}

void call_rdma(const Provider& provider, const std::string& address, const std::string& file,
               std::uint64_t rounds) {
    const auto session = call(provider, address, file, "rdma");
    const std::span<char> memory = session->rdma_memory();
    const auto ask = [&](const std::string& command) {
        session->send(command);
        return std::string(session->receive());
    };
    try {
        const std::string descriptor(session->receive());
        for (std::uint64_t round = 0; round < rounds; ++round) {
            bytes_of(2 * round, memory.size()).copy(memory.data(), memory.size());
            session->rdma(true, descriptor);
            expect(ask("check " + std::to_string(2 * round)) == "good",
                   "what was written is not what is there");
            expect(ask("fill " + std::to_string(2 * round + 1)) == "done", "not filled");
            session->rdma(false, descriptor);
            const std::string wanted = bytes_of(2 * round + 1, memory.size());
            expect(std::equal(memory.begin(), memory.end(), wanted.begin()),
                   "what was read is not what was there");
        }
        expect(ask("conceal 0") == "done", "not concealed");
        session->drain();
        int error = 0;
        try {
            session->rdma(true, descriptor);
        } catch (const Ended& end) {
            error = end.error;
        }
        expect(error == WSAECONNABORTED,
               "a write into memory that was taken back ended with " + name_of(error));
        (void)session->await_rest(error);
    } catch (const Ended& end) {
        throw std::runtime_error("the connection ended early, with " + name_of(end.error));
    }
    std::cout << "rdma: " << rounds << " rounds of writes and reads over " << over(*session)
              << ", then refused" << std::endl;
}

void call_broken(const Provider& provider, const std::string& address, const std::string& file,
                 const std::string& flag, bool idle) {
    const auto session = call(provider, address, file, "echo");
    std::uint64_t done = 0;
    int error = 0;
    try {
        if (idle) {
            create(flag, "");
            (void)session->receive();
        } else {
            echo(*session, UINT64_MAX, kLongest, flag, done);
        }
    } catch (const Ended& end) {
        error = end.error;
    }
    expect_documented(error);
    const std::uint32_t rest = session->await_rest(error);
    std::cout << "broken: after " << done << " messages over " << over(*session) << ", with "
              << name_of(error) << ", and so ended " << rest << " operations" << std::endl;
}

// One message there and back.
void echo_one(Session& session, std::uint64_t number) {
    const std::string message = bytes_of(number, length_of(number));
    session.send(message);
    expect(session.receive() == message,
           "message " + std::to_string(number) + " came back as another one");
}

void await(const std::string& file) {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (!std::filesystem::exists(file)) {
        expect(std::chrono::steady_clock::now() < deadline, "nobody made " + file);
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
}

// To a device that has just come: until both processes and the kernel have it whole, a connect times out at once, or
// finds nobody who listens.
std::unique_ptr<Session> call_again(const Provider& provider, const std::string& address,
                                    const std::string& file) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    for (;;) {
        try {
            return call(provider, address, file, "echo");
        } catch (const std::runtime_error& fault) {
            const std::string_view text = fault.what();
            const bool too_early = text.find("WSAETIMEDOUT") != std::string_view::npos ||
                                   text.find("WSAECONNRESET") != std::string_view::npos;
            if (!too_early || std::chrono::steady_clock::now() > deadline) {
                throw;
            }
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(200));
    }
}

void call_devices(const Provider& provider, const std::string& first_address,
                  const std::string& second_address, const std::string& first_file,
                  const std::string& second_file, const std::string& flag) {
    const auto lasting = call(provider, first_address, first_file, "echo");
    auto removed = call(provider, second_address, second_file, "echo");
    const std::string device = over(*removed);
    expect(over(*lasting) != device, "both connections are over " + device);
    std::uint64_t number = 0;
    for (; number < kFlowing; ++number) {
        echo_one(*lasting, number);
        echo_one(*removed, number);
    }
    create(flag, "");

    int error = 0;
    std::uint64_t until_the_end = 0;
    try {
        for (;; ++until_the_end) {
            echo_one(*lasting, number++);
            echo_one(*removed, until_the_end);
        }
    } catch (const Ended& end) {
        error = end.error;
    }
    expect_documented(error);
    const std::uint32_t rest = removed->await_rest(error);
    // It throws if the first connection was the one that ended.
    for (std::uint64_t i = 0; i < kFlowing; ++i) {
        echo_one(*lasting, number++);
    }
    removed.reset();
    create(flag + "-gone", "");
    await(flag + "-back");
    removed = call_again(provider, second_address, second_file);
    expect(over(*removed) == device, "the device that came back does not carry the connection");
    for (std::uint64_t i = 0; i < kFlowing; ++i) {
        echo_one(*lasting, number++);
        echo_one(*removed, i);
    }
    lasting->drain();
    removed->drain();
    std::cout << "devices: " << number << " messages over " << over(*lasting) << "; over " << device
              << " until it was removed, which ended the connection with " << name_of(error)
              << " and " << rest << " operations with it, and again when it was back" << std::endl;
}

int run(const std::vector<std::string>& arguments) {
    const auto is = [&](const char* verb, std::size_t count) {
        return arguments.size() == count + 1 && arguments[0] == verb;
    };
    const std::unique_ptr<Provider> provider = system_test::load_provider();
    if (is("serve", 2)) {
        serve(*provider, arguments[1], std::stoi(arguments[2]));
    } else if (is("echo", 5)) {
        call_echo(*provider, arguments[1], arguments[2], std::stoull(arguments[3]),
                  std::stoull(arguments[4]), arguments[5]);
    } else if (is("rdma", 3)) {
        call_rdma(*provider, arguments[1], arguments[2], std::stoull(arguments[3]));
    } else if (is("broken", 3) || is("idle", 3)) {
        call_broken(*provider, arguments[1], arguments[2], arguments[3], arguments[0] == "idle");
    } else if (is("devices", 5)) {
        call_devices(*provider, arguments[1], arguments[2], arguments[3], arguments[4],
                     arguments[5]);
    } else if (is("connections", 2)) {
        many_connections(*provider, arguments[1], std::stoi(arguments[2]));
    } else {
        std::cerr << "lab_peer: see the head of tests/lab/lab_peer.cpp\n";
        return 2;
    }
    return 0;
}

}  // namespace
}  // namespace sanpoll::lab

int main(int argc, char** argv) {
    try {
        return sanpoll::lab::run(std::vector<std::string>(argv + 1, argv + argc));
    } catch (const std::exception& fault) {
        std::cerr << "lab_peer: " << fault.what() << std::endl;
    } catch (const sanpoll::lab::Ended& end) {
        std::cerr << "lab_peer: the connection ended with "
                  << sanpoll_switch::wsa_error_name(end.error) << std::endl;
    }
    return 1;
}
