// Connections of kernel TCP, over loopback, that come and go.
//
// Over loopback the kernel answers a connect within the call, so a blocking connect() never sleeps and is the fastest
// there is. The client closes by a reset (SO_LINGER 0) after it has seen the server's close: otherwise some ten
// thousand connections would wait in TIME_WAIT and the ports run out.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string>
#include <vector>

#include "bench/connect_ends.hpp"
#include "bench/spin.hpp"
#include "bench/tcp_connection.hpp"

namespace sanpoll::bench {
namespace {

// As many as may be open at once: a connect that meets a full backlog tries again a second later.
constexpr int kBacklog = 4096;

ConnectionFault fault(const char* what) {
    return ConnectionFault(std::string("kernel TCP: ") + what + ": " + std::strerror(errno));
}

sockaddr_in loopback(std::uint16_t port) {
    sockaddr_in where{};
    where.sin_family = AF_INET;
    where.sin_port = htons(port);
    where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return where;
}

class TcpServer final : public ConnectServer {
public:
    TcpServer() : socket_(reserve_port("127.0.0.1")) {
        rule_.yield = true;
        if (listen(socket_.socket.get(), kBacklog) != 0) throw fault("listening");
    }
    [[nodiscard]] std::uint16_t port() const override { return socket_.port; }
    void take(std::uint64_t count, bool keep, ConnectWait wait) override {
        const int listener = socket_.socket.get();
        fcntl(listener, F_SETFL, wait == ConnectWait::kPoll ? O_NONBLOCK : 0);
        const timeval patience{kPatience.count(), 0};
        setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        for (; count != 0; --count) {
            Descriptor accepted = accept_one(listener, wait);
            if (keep) kept_.push_back(std::move(accepted));
        }
    }
    void drop() override { kept_.clear(); }

private:
    Descriptor accept_one(int listener, ConnectWait wait) const {
        Spin spin(rule_, "a TCP connection");
        for (;;) {
            const int fd = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
            if (fd >= 0) return Descriptor(fd);
            if (errno == EAGAIN && wait == ConnectWait::kPoll) {
                spin.turn();
            } else if (errno != EINTR && errno != ECONNABORTED) {
                throw fault("accepting");
            }
        }
    }

    SpinRule rule_;
    ReservedPort socket_;
    std::vector<Descriptor> kept_;
};

class TcpClient final : public ConnectClient {
public:
    explicit TcpClient(std::uint16_t port) : where_(loopback(port)) {}

    [[nodiscard]] bool begin_connects() const noexcept override { return true; }
    void begin(std::size_t slot) override { slots_[slot] = connect_one(); }
    bool accepted(std::size_t slot, ConnectWait wait, bool alone) override {
        const int fd = slots_[slot].get();
        const int how = alone && wait == ConnectWait::kSleep ? 0 : MSG_DONTWAIT;
        char byte = 0;
        for (;;) {
            const ssize_t got = recv(fd, &byte, 1, how);
            if (got == 0) return true;
            if (got < 0 && errno == EAGAIN) return false;
            if (got > 0 || errno != EINTR) throw fault("waiting for the server's close");
        }
    }
    void sleep(std::size_t slots) override {
        std::array<pollfd, kMostSlots> waiting{};
        for (std::size_t i = 0; i < slots; ++i)
            waiting[i] = {slots_[i].get(), POLLIN, 0};
        const auto patience = static_cast<int>(std::chrono::milliseconds(kPatience).count());
        if (poll(waiting.data(), slots, patience) == 0)
            throw ConnectionFault("kernel TCP: nothing was accepted for " +
                                  std::to_string(kPatience.count()) + " s");
    }
    void end(std::size_t slot) override {
        const linger reset{1, 0};
        setsockopt(slots_[slot].get(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        slots_[slot] = Descriptor();
    }
    void keep() override { kept_.push_back(connect_one()); }
    void drop() override { kept_.clear(); }

private:
    Descriptor connect_one() const {
        Descriptor socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        if (socket.get() < 0) throw fault("socket");
        if (connect(socket.get(), reinterpret_cast<const sockaddr*>(&where_), sizeof where_) != 0)
            throw fault("connecting");
        return socket;
    }

    sockaddr_in where_;
    std::array<Descriptor, kMostSlots> slots_;
    std::vector<Descriptor> kept_;
};

}  // namespace

std::unique_ptr<ConnectServer> tcp_connect_server() { return std::make_unique<TcpServer>(); }

std::unique_ptr<ConnectClient> tcp_connect_client(std::uint16_t port) {
    return std::make_unique<TcpClient>(port);
}

}  // namespace sanpoll::bench
