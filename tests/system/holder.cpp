#include "tests/system/holder.hpp"

#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>

#include <sstream>

#include "tests/system/numbered.hpp"

namespace sanpoll::system_test {
namespace {

class HolderRole {
public:
    std::string answer(const std::string& command) {
        std::istringstream words(command);
        std::string verb;
        words >> verb;
        if (verb == "connect") {
            return connect(words);
        }
        if (verb == "listen") {
            listener_ = std::make_unique<Listener>(*provider_);
            listening_ = listener_->descriptor();
            return std::to_string(listener_->port());
        }
        if (verb == "accept") {
            return accept();
        }
        if (verb == "accept-now") {
            return accept_now();
        }
        if (verb == "give") {
            return give(words);
        }
        if (verb == "give-listener") {
            return give_listener(words);
        }
        if (verb == "take" || verb == "take-listener") {
            return take(words, verb == "take");
        }
        if (verb == "work") {
            return work(words);
        }
        if (verb == "until") {
            return until(words);
        }
        if (verb == "close-old") {
            return close_old();
        }
        if (verb == "cleanup") {
            listener_.reset();
            provider_.reset();
            return "ok";
        }
        return "what is " + verb + "?";
    }

private:
    void hold(SOCKET socket, Position position = {}) {
        socket_ = socket;
        messages_.reset();
        messages_ = std::make_unique<Numbered>(*provider_, socket_, position);
    }

    std::string connect(std::istringstream& words) {
        unsigned port = 0;
        words >> port;
        hold(connect_to(*provider_, static_cast<std::uint16_t>(port)).descriptor);
        return "ok";
    }

    std::string accept() {
        const auto deadline = std::chrono::steady_clock::now() + kPatience;
        while (std::chrono::steady_clock::now() < deadline) {
            if (const std::string answer = accept_now(); answer != "none") {
                return answer;
            }
            ::sched_yield();
        }
        return "nobody came";
    }

    std::string accept_now() {
        const ProviderSocket socket = provider_->accept(listening_);
        if (socket) {
            hold(socket.descriptor);
            return "ok";
        }
        return socket.error == WSAEWOULDBLOCK ? "none" : "error " + std::to_string(socket.error);
    }

    std::string give(std::istringstream& words) {
        DWORD process = 0;
        words >> process;
        std::string token;
        if (const int error = duplicate(socket_, process, token); error != 0) {
            return "error " + std::to_string(error);
        }
        messages_->check_swapped_out();
        const Position position = messages_->position();
        old_.push_back(std::exchange(socket_, INVALID_SOCKET));
        return token + " " + std::to_string(position.sent) + " " +
               std::to_string(position.received);
    }

    std::string give_listener(std::istringstream& words) {
        DWORD process = 0;
        words >> process;
        std::string token;
        if (const int error = duplicate(listening_, process, token); error != 0) {
            return "error " + std::to_string(error);
        }
        if (listener_ == nullptr) {
            old_.push_back(listening_);
        }
        return token;
    }

    [[nodiscard]] int duplicate(SOCKET socket, DWORD process, std::string& token) const {
        WSAPROTOCOL_INFOW info{};
        int error = 0;
        if (provider_->table().lpWSPDuplicateSocket(socket, process, &info, &error) != 0) {
            return error;
        }
        token = std::to_string(info.dwProviderReserved);
        return 0;
    }

    std::string take(std::istringstream& words, bool connection) {
        WSAPROTOCOL_INFOW info{};
        Position position;
        words >> info.dwProviderReserved >> position.sent >> position.received;
        const ProviderSocket socket = provider_->socket(&info);
        if (!socket) {
            return "error " + std::to_string(socket.error);
        }
        if (connection) {
            hold(socket.descriptor, position);
        } else {
            listening_ = socket.descriptor;
        }
        return "ok";
    }

    std::string work(std::istringstream& words) {
        std::uint64_t count = 0;
        words >> count;
        const std::uint64_t target = messages_->position().sent + count;
        while (messages_->position().sent != target || !messages_->collect_sends()) {
            bool any = messages_->receive();
            any |= messages_->position().sent != target && messages_->send();
            if (!any) {
                ::sched_yield();
            }
        }
        return "ok";
    }

    std::string until(std::istringstream& words) {
        std::uint64_t count = 0;
        words >> count;
        while (messages_->position().received < count) {
            if (!messages_->receive()) {
                ::sched_yield();
            }
        }
        return std::to_string(messages_->position().sent);
    }

    std::string close_old() {
        for (const SOCKET old : old_) {
            if (const int error = provider_->close(old); error != 0) {
                return "error " + std::to_string(error);
            }
        }
        old_.clear();
        return "ok";
    }

    std::unique_ptr<Provider> provider_ = load_provider();
    std::unique_ptr<Listener> listener_;
    SOCKET listening_ = INVALID_SOCKET;
    SOCKET socket_ = INVALID_SOCKET;
    std::unique_ptr<Numbered> messages_;
    std::vector<SOCKET> old_;
};

const Role role("holder", [](Channel& test, const Arguments&) {
    // Never destroyed: it ends as a program that just returns from main(), without a farewell.
    static auto* const holder = new HolderRole;
    test.tell("ready");
    while (const auto command = test.hear(std::chrono::hours(1))) {
        if (*command == "exit") {
            return 0;
        }
        test.tell(holder->answer(*command));
    }
    return 0;
});

}  // namespace

Holder::Holder(const Environment& knobs) : child_("holder", {}, knobs) {
    child_.channel().expect("ready");
}

std::string Holder::ask(const std::string& command) {
    child_.channel().tell(command);
    const auto answer = child_.channel().hear();
    return answer ? *answer : "no answer to: " + command;
}

void Holder::kill() {
    child_.kill();
    EXPECT_EQ(child_.reap(), -SIGKILL);
}

void Holder::exit() {
    child_.channel().tell("exit");
    EXPECT_EQ(child_.reap(), 0);
}

}  // namespace sanpoll::system_test
