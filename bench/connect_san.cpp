// Connections of the provider that come and go.
#include <array>
#include <optional>
#include <vector>

#include "bench/connect_ends.hpp"
#include "bench/light_socket.hpp"
#include "bench/spin.hpp"

namespace sanpoll::bench {
namespace {

using sanpoll_switch::Provider;
using sanpoll_switch::ProviderSocket;

// Open sockets with an owner.
class KeptSockets {
public:
    explicit KeptSockets(const Provider& provider) : provider_(provider) {}
    ~KeptSockets() { drop(); }
    KeptSockets(const KeptSockets&) = delete;
    KeptSockets& operator=(const KeptSockets&) = delete;

    void add(const ProviderSocket& socket) { sockets_.push_back(socket.descriptor); }
    void drop() {
        for (const SOCKET socket : sockets_)
            provider_.close(socket);
        sockets_.clear();
    }

private:
    const Provider& provider_;
    std::vector<SOCKET> sockets_;
};

class SanServer final : public ConnectServer {
public:
    explicit SanServer(const Provider& provider)
        : provider_(provider), listener_(provider), kept_(provider) {
        rule_.yield = true;
    }
    [[nodiscard]] std::uint16_t port() const override { return listener_.port(); }
    void take(std::uint64_t count, bool keep, ConnectWait wait) override {
        for (; count != 0; --count) {
            const ProviderSocket socket =
                wait == ConnectWait::kSleep ? listener_.accept() : poll_accept();
            if (keep) {
                kept_.add(socket);
            } else {
                provider_.close(socket.descriptor);
            }
        }
    }
    void drop() override { kept_.drop(); }

private:
    ProviderSocket poll_accept() {
        Spin spin(rule_, "a connection request");
        for (;;) {
            if (const auto socket = listener_.try_accept()) return *socket;
            spin.turn();
        }
    }

    const Provider& provider_;
    SpinRule rule_;
    LightListener listener_;
    KeptSockets kept_;
};

class SanClient final : public ConnectClient {
public:
    SanClient(const Provider& provider, std::uint16_t port)
        : provider_(provider), port_(port), kept_(provider) {}

    [[nodiscard]] bool begin_connects() const noexcept override { return false; }
    void begin(std::size_t slot) override {
        slots_[slot].connect.emplace(provider_, slots_[slot].event, port_);
    }
    bool accepted(std::size_t slot, ConnectWait wait, bool alone) override {
        Slot& own = slots_[slot];
        if (alone && wait == ConnectWait::kSleep) {
            own.socket = own.connect->finish();
        } else if (const auto socket = own.connect->look()) {
            own.socket = *socket;
        } else {
            return false;
        }
        own.connect.reset();
        return true;
    }
    void sleep(std::size_t slots) override {
        std::array<WSAEVENT, kMostSlots> events{};
        for (std::size_t i = 0; i < slots; ++i)
            events[i] = slots_[i].event.handle();
        const auto patience = static_cast<DWORD>(std::chrono::milliseconds(kPatience).count());
        if (sanpoll_switch::WSAWaitForMultipleEvents(static_cast<DWORD>(slots), events.data(),
                                                     FALSE, patience,
                                                     FALSE) == sanpoll_switch::WSA_WAIT_TIMEOUT)
            throw ConnectionFault("no connect was answered for " +
                                  std::to_string(kPatience.count()) + " s; the server is stopped");
    }
    void end(std::size_t slot) override { provider_.close(slots_[slot].socket.descriptor); }
    void keep() override { kept_.add(LightConnect(provider_, slots_[0].event, port_).finish()); }
    void drop() override { kept_.drop(); }

private:
    struct Slot {
        SanEvent event;
        std::optional<LightConnect> connect;
        ProviderSocket socket;
    };

    const Provider& provider_;
    std::uint16_t port_;
    std::array<Slot, kMostSlots> slots_;
    KeptSockets kept_;
};

}  // namespace

std::unique_ptr<ConnectServer> san_connect_server(const Provider& provider) {
    return std::make_unique<SanServer>(provider);
}

std::unique_ptr<ConnectClient> san_connect_client(const Provider& provider, std::uint16_t port) {
    return std::make_unique<SanClient>(provider, port);
}

}  // namespace sanpoll::bench
