#include "bench/light_socket.hpp"

#include <arpa/inet.h>

#include <utility>

namespace sanpoll::bench {
namespace {

using sanpoll_switch::Provider;
using sanpoll_switch::ProviderSocket;

constexpr int kBacklog = 4096;
constexpr std::uint16_t kConnectorPort = 40000;  // shared memory takes any, many times
constexpr const char* kHere = "127.0.0.1";

sockaddr_in endpoint(std::uint16_t port) {
    sockaddr_in where{};
    where.sin_family = AF_INET;
    where.sin_port = htons(port);
    where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return where;
}

int WSPAPI accept_everyone(LPWSABUF, LPWSABUF, LPQOS, LPQOS, LPWSABUF, LPWSABUF, GROUP*,
                           DWORD_PTR) {
    return CF_ACCEPT;
}

ProviderSocket new_socket(const Provider& provider) {
    const ProviderSocket socket = provider.socket();
    if (!socket) throw san_fault("WSPSocket", socket.error);
    return socket;
}

}  // namespace

LightListener::LightListener(const Provider& provider)
    : provider_(provider), companion_(reserve_port(kHere)), socket_(new_socket(provider)) {
    const sockaddr_in where = endpoint(companion_.port);
    int error = 0;
    const WSPPROC_TABLE& table = provider.table();
    if (table.lpWSPBind(socket_.descriptor, reinterpret_cast<const sockaddr*>(&where), sizeof where,
                        &error) != 0 ||
        table.lpWSPListen(socket_.descriptor, kBacklog, &error) != 0 ||
        table.lpWSPEventSelect(socket_.descriptor, event_.handle(), FD_ACCEPT, &error) != 0) {
        provider.close(socket_.descriptor);
        throw san_fault("listening", error);
    }
}

LightListener::~LightListener() { provider_.close(socket_.descriptor); }

std::optional<ProviderSocket> LightListener::try_accept() {
    const ProviderSocket accepted = provider_.accept(socket_.descriptor, nullptr, accept_everyone);
    if (accepted) return accepted;
    if (accepted.error != WSAEWOULDBLOCK) throw san_fault("WSPAccept", accepted.error);
    return std::nullopt;
}

ProviderSocket LightListener::accept() {
    for (;;) {
        if (const auto accepted = try_accept()) return *accepted;
        event_.wait("a connection request");
        WSANETWORKEVENTS events{};
        int error = 0;
        provider_.table().lpWSPEnumNetworkEvents(socket_.descriptor, event_.handle(), &events,
                                                 &error);
    }
}

LightConnect::LightConnect(const Provider& provider, const SanEvent& event, std::uint16_t port)
    : provider_(provider), event_(event), socket_(new_socket(provider)) {
    const sockaddr_in from = endpoint(kConnectorPort);
    const sockaddr_in to = endpoint(port);
    int error = 0;
    const WSPPROC_TABLE& table = provider.table();
    if (table.lpWSPBind(socket_.descriptor, reinterpret_cast<const sockaddr*>(&from), sizeof from,
                        &error) != 0 ||
        table.lpWSPEventSelect(socket_.descriptor, event.handle(), FD_CONNECT, &error) != 0) {
        provider.close(socket_.descriptor);
        throw san_fault("binding a socket", error);
    }
    table.lpWSPConnect(socket_.descriptor, reinterpret_cast<const sockaddr*>(&to), sizeof to,
                       nullptr, nullptr, nullptr, nullptr, &error);
    if (error != 0 && error != WSAEWOULDBLOCK) {
        provider.close(socket_.descriptor);
        throw san_fault("WSPConnect", error);
    }
}

LightConnect::LightConnect(LightConnect&& other) noexcept
    : provider_(other.provider_),
      event_(other.event_),
      socket_(std::exchange(other.socket_, ProviderSocket{})) {}

LightConnect::~LightConnect() {
    if (socket_) provider_.close(socket_.descriptor);
}

std::optional<ProviderSocket> LightConnect::look() {
    WSANETWORKEVENTS events{};
    int error = 0;
    const WSPPROC_TABLE& table = provider_.table();
    if (table.lpWSPEnumNetworkEvents(socket_.descriptor, event_.handle(), &events, &error) != 0)
        throw san_fault("WSPEnumNetworkEvents", error);
    if ((events.lNetworkEvents & FD_CONNECT) == 0) return std::nullopt;
    if (events.iErrorCode[FD_CONNECT_BIT] != 0)
        throw san_fault("WSPConnect", events.iErrorCode[FD_CONNECT_BIT]);
    // The event goes on to another attempt, so the socket must forget it.
    table.lpWSPEventSelect(socket_.descriptor, nullptr, 0, &error);
    return std::exchange(socket_, ProviderSocket{});
}

ProviderSocket LightConnect::finish() {
    for (;;) {
        event_.wait("the answer to a connect");
        if (const auto connected = look()) return *connected;
    }
}

}  // namespace sanpoll::bench
