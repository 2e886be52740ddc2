#include "tests/conformance/duplication_fixture.hpp"

#include <arpa/inet.h>
#include <unistd.h>

#include <sstream>

namespace sanpoll::conformance {
namespace {

using test::hear;
using test::say;

// The other side of Taker.
class TakerProcess : public ConformanceTest {
public:
    void TestBody() override {}
    int run() {
        ConformanceTest::SetUp();
        say("ready");
        for (;;) {
            std::istringstream line(hear());
            std::string command;
            if (!(line >> command)) {
                return 0;  // the test is over
            }
            std::string rest;
            line.get();
            std::getline(line, rest);
            say(std::to_string(testing::Test::HasFailure() ? 1 : 0) + obey(command, rest));
        }
    }

private:
    std::string obey(const std::string& command, const std::string& rest) {
        if (command == "take") {
            WSAPROTOCOL_INFOW info{};
            info.dwProviderReserved = static_cast<DWORD>(std::stoul(rest));
            int error = 0;
            end_.s = san.socket(&error, AF_INET, SOCK_STREAM, IPPROTO_TCP, &info);
            return std::to_string(error);
        }
        if (command == "register") {
            give_memory(end_, 65536);
            return "";
        }
        if (command == "send") {
            send_now(end_, rest);
            return "";
        }
        if (command == "receive") {
            return receive_now(end_);
        }
        if (command == "give") {
            WSAPROTOCOL_INFOW info{};
            EXPECT_EQ(san.duplicate(end_.s, static_cast<DWORD>(std::stoul(rest)), &info), 0);
            return std::to_string(info.dwProviderReserved);
        }
        if (command == "accept") {
            const WSAEVENT event = upcalls.create_event();
            EXPECT_TRUE(wait_for_request(end_.s, event));
            int error = 0;
            const SOCKET s = san.accept(end_.s, &error);
            EXPECT_EQ(san.close(end_.s), 0);
            end_.s = s;
            return std::to_string(error);
        }
        if (command == "look") {
            int error = 0;
            (void)san.accept(end_.s, &error);
            return std::to_string(error);
        }
        if (command == "priority") {
            INT value = 0;
            INT length = sizeof(value);
            EXPECT_EQ(san.get_option(end_.s, WSP_SOL_SOCKET, SO_GROUP_PRIORITY,
                                     reinterpret_cast<char*>(&value), &length),
                      0);
            return std::to_string(value);
        }
        if (command == "connect") {
            std::uint32_t ip = 0;
            std::uint32_t port = 0;
            std::istringstream(rest) >> ip >> port;
            WSAEVENT event = nullptr;
            end_.s = connecting(address_of(ip, static_cast<std::uint16_t>(port)), &event);
            const int error = connect_result(end_.s, event);
            give_memory(end_, 65536);
            return std::to_string(error);
        }
        return command == "close" ? std::to_string(san.close(end_.s)) : "what?";
    }

    End end_;
};

const test::Role taker("conformance-taker",
                       [](const std::vector<std::string>&) { return TakerProcess().run(); });

}  // namespace

Taker::Taker() : child_("conformance-taker", {}) {
    const std::string word = child_.hear();
    EXPECT_EQ(word, "ready") << child_.errors();
}

std::string Taker::ask(const std::string& command) {
    child_.say(command);
    const std::string answer = child_.hear();
    if (answer.empty() || answer[0] != '0') {
        ADD_FAILURE() << "'" << command << "' failed in the other process: " << child_.errors();
        return "-1";
    }
    return answer.substr(1);
}

int Taker::take(DWORD token) { return std::stoi(ask("take " + std::to_string(token))); }
void Taker::register_memory() { (void)ask("register"); }
void Taker::send(const std::string& message) { (void)ask("send " + message); }
std::string Taker::receive() { return ask("receive"); }
DWORD Taker::give(DWORD process) {
    return static_cast<DWORD>(std::stoul(ask("give " + std::to_string(process))));
}
int Taker::accept() { return std::stoi(ask("accept")); }
int Taker::accept_and_listen_on() { return std::stoi(ask("look")); }
DWORD Taker::priority() { return static_cast<DWORD>(std::stol(ask("priority"))); }
int Taker::close() { return std::stoi(ask("close")); }
int Taker::connect(const sockaddr_in& address) {
    return std::stoi(ask("connect " + std::to_string(ntohl(address.sin_addr.s_addr)) + " " +
                         std::to_string(ntohs(address.sin_port))));
}
void Taker::kill() {
    child_.kill();
    (void)child_.wait();
}

DWORD DuplicationTest::own_pid() { return static_cast<DWORD>(::getpid()); }

}  // namespace sanpoll::conformance
