#include "bench/san_socket.hpp"

#include <arpa/inet.h>
#include <sanpoll.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>

namespace sanpoll::bench {
namespace {

using sanpoll_switch::Provider;
using sanpoll_switch::ProviderSocket;

constexpr int kBacklog = 16;
constexpr const char* kLoopback = "127.0.0.1";

// What a reader can do about an error; empty where its name says it all.
const char* remedy(int error) {
    switch (error) {
        case WSAECONNREFUSED:
            return "; the server's condition function or a full backlog refused";
        case WSAECONNRESET:
            return "; the other process ended, or nobody listens there any more";
        case WSAECONNABORTED:
            return "; what carries the connection failed";
        case WSAETIMEDOUT:
            return "; the other side does not answer: is its process running, and under the same "
                   "user?";
        case WSAEADDRNOTAVAIL:
            return "; choose an address of the provider with --address";
        case WSAEMSGSIZE:
            return "; larger than the provider's maximum message, choose smaller --sizes";
        case WSAENOBUFS:
            return "; no memory, choose smaller --sizes or fewer --rate-receives";
        case WSAEWOULDBLOCK:
            return "; too many operations outstanding, choose a smaller --window or fewer "
                   "--receives";
        default:
            return "";
    }
}

sockaddr_in endpoint(const std::string& address, std::uint16_t port) {
    sockaddr_in where{};
    where.sin_family = AF_INET;
    where.sin_port = htons(port);
    inet_pton(AF_INET, address.c_str(), &where.sin_addr);  // checked when the options were read
    return where;
}

std::vector<std::string> query_addresses(const Provider& provider, SOCKET descriptor) {
    // Asked twice, as a switch does: for the size, then for the list.
    DWORD bytes = 0;
    int error = 0;
    provider.table().lpWSPIoctl(descriptor, SIO_ADDRESS_LIST_QUERY, nullptr, 0, nullptr, 0, &bytes,
                                nullptr, nullptr, nullptr, &error);
    if (bytes < sizeof(INT))
        throw san_fault("asking for the provider's addresses (SIO_ADDRESS_LIST_QUERY)", error);
    const std::size_t words = bytes / sizeof(std::uint64_t) + 1;
    const auto buffer = std::make_unique<std::uint64_t[]>(words);
    const auto space = static_cast<DWORD>(words * sizeof(std::uint64_t));
    if (provider.table().lpWSPIoctl(descriptor, SIO_ADDRESS_LIST_QUERY, nullptr, 0, buffer.get(),
                                    space, &bytes, nullptr, nullptr, nullptr, &error) != 0) {
        throw san_fault("asking for the provider's addresses (SIO_ADDRESS_LIST_QUERY)", error);
    }
    const auto* list = reinterpret_cast<const SOCKET_ADDRESS_LIST*>(buffer.get());
    std::vector<std::string> addresses;
    for (INT i = 0; i < list->iAddressCount; ++i) {
        const auto* where = reinterpret_cast<const sockaddr_in*>(list->Address[i].lpSockaddr);
        char text[INET_ADDRSTRLEN] = "";
        inet_ntop(AF_INET, &where->sin_addr, text, sizeof text);
        addresses.emplace_back(text);
    }
    return addresses;
}

// The condition function: takes every request that says properly who calls.
int WSPAPI accept_everyone(LPWSABUF caller, LPWSABUF, LPQOS, LPQOS, LPWSABUF callee, LPWSABUF,
                           GROUP*, DWORD_PTR) {
    const bool proper =
        caller != nullptr && caller->len >= sizeof(sockaddr_in) && callee != nullptr;
    return proper ? CF_ACCEPT : CF_REJECT;
}

std::string joined(const std::vector<std::string>& texts) {
    std::string all;
    for (const auto& text : texts)
        all += (all.empty() ? "" : ", ") + text;
    return all.empty() ? "none" : all;
}

SanSocket new_socket(const Provider& provider) {
    const ProviderSocket socket = provider.socket();
    if (!socket) throw san_fault("WSPSocket", socket.error);
    return {provider, socket};
}

}  // namespace

ConnectionFault san_fault(const std::string& step, int error) {
    return ConnectionFault(step + " failed with " + sanpoll_switch::wsa_error_name(error) +
                           remedy(error));
}

// ------------------------------------------------------------------------------------------------------- event --

SanEvent::SanEvent() : handle_(sanpoll_switch::WSACreateEvent()) {
    if (handle_ == WSA_INVALID_EVENT)
        throw san_fault("WSACreateEvent", sanpoll_switch::WSAGetLastError());
}

SanEvent::~SanEvent() {
    if (handle_ != nullptr) sanpoll_switch::WSACloseEvent(handle_);
}

void SanEvent::wait(const char* awaited, std::chrono::seconds patience) const {
    const auto limit = static_cast<DWORD>(std::chrono::milliseconds(patience).count());
    const DWORD answer = sanpoll_switch::WSAWaitForMultipleEvents(1, &handle_, FALSE, limit, FALSE);
    if (answer == sanpoll_switch::WSA_WAIT_EVENT_0) return;
    if (answer == sanpoll_switch::WSA_WAIT_TIMEOUT) {
        throw ConnectionFault(std::string(awaited) + " did not come for " +
                              std::to_string(patience.count()) +
                              " s; the other end is stopped or gone");
    }
    throw san_fault("WSAWaitForMultipleEvents", sanpoll_switch::WSAGetLastError());
}

// ------------------------------------------------------------------------------------------------------ socket --

SanSocket::SanSocket(const Provider& provider, ProviderSocket socket)
    : provider_(&provider), socket_(socket) {}

SanSocket::SanSocket(SanSocket&& other) noexcept
    : provider_(other.provider_),
      socket_(std::exchange(other.socket_, ProviderSocket{})),
      companion_(std::move(other.companion_)) {}

SanSocket::~SanSocket() {
    if (socket_) provider_->close(socket_.descriptor);
}

void SanSocket::bind(const std::string& address) {
    companion_ = reserve_port(address);
    const sockaddr_in where = endpoint(address, companion_.port);
    int error = 0;
    if (provider_->table().lpWSPBind(descriptor(), reinterpret_cast<const sockaddr*>(&where),
                                     sizeof where, &error) != 0) {
        throw san_fault("WSPBind to " + address + ":" + std::to_string(companion_.port), error);
    }
}

FabricFacts SanSocket::fabric() const {
    SANPOLL_FABRIC answer{};
    DWORD bytes = 0;
    int error = 0;
    if (provider_->table().lpWSPIoctl(descriptor(), SIO_SANPOLL_FABRIC, nullptr, 0, &answer,
                                      sizeof answer, &bytes, nullptr, nullptr, nullptr,
                                      &error) == 0) {
        return {answer.fabric, answer.device, answer.reason, answer.arenas};
    }
    if (error != WSAEINVAL && error != WSAEOPNOTSUPP)
        throw san_fault("asking for the connection's fabric (SIO_SANPOLL_FABRIC)", error);
    return {"san", "", "the provider does not say", ""};
}

// ---------------------------------------------------------------------------------------------------- listener --

SanListener::SanListener(const Provider& provider, std::string address)
    : socket_(new_socket(provider)),
      addresses_(query_addresses(provider, socket_.descriptor())),
      address_(std::move(address)) {
    if (address_.empty()) {
        const bool loopback = addresses_.empty() || std::find(addresses_.begin(), addresses_.end(),
                                                              kLoopback) != addresses_.end();
        address_ = loopback ? kLoopback : addresses_.front();
    }
    try {
        socket_.bind(address_);
    } catch (const ConnectionFault& fault) {
        throw ConnectionFault(std::string(fault.what()) +
                              " (the provider's addresses: " + joined(addresses_) + ")");
    }
    int error = 0;
    if (provider.table().lpWSPListen(socket_.descriptor(), kBacklog, &error) != 0)
        throw san_fault("WSPListen", error);
    if (provider.table().lpWSPEventSelect(socket_.descriptor(), event_.handle(), FD_ACCEPT,
                                          &error) != 0) {
        throw san_fault("WSPEventSelect(FD_ACCEPT)", error);
    }
}

SanSocket SanListener::accept(std::chrono::seconds patience) {
    const Provider& provider = socket_.provider();
    for (;;) {
        event_.wait("a connection request", patience);
        WSANETWORKEVENTS events{};
        int error = 0;
        if (provider.table().lpWSPEnumNetworkEvents(socket_.descriptor(), event_.handle(), &events,
                                                    &error) != 0) {
            throw san_fault("WSPEnumNetworkEvents of the listener", error);
        }
        if ((events.lNetworkEvents & FD_ACCEPT) == 0)
            continue;  // signalled with an empty record: allowed
        if (events.iErrorCode[FD_ACCEPT_BIT] != 0)
            throw san_fault("listening (FD_ACCEPT)", events.iErrorCode[FD_ACCEPT_BIT]);
        const ProviderSocket accepted =
            provider.accept(socket_.descriptor(), nullptr, accept_everyone);
        if (accepted) return {provider, accepted};
        // The request may have been withdrawn in between; the next one signals again.
        if (accepted.error != WSAEWOULDBLOCK) throw san_fault("WSPAccept", accepted.error);
    }
}

// --------------------------------------------------------------------------------------------------- connector --

SanConnector::SanConnector(SanEvent event, SanSocket socket, std::string target)
    : event_(std::move(event)), socket_(std::move(socket)), target_(std::move(target)) {}

SanConnector SanConnector::begin(const Provider& provider, const std::string& local,
                                 const std::string& address, std::uint16_t port) {
    SanConnector attempt(SanEvent(), new_socket(provider), address + ":" + std::to_string(port));
    attempt.socket_.bind(local);
    int error = 0;
    if (provider.table().lpWSPEventSelect(attempt.socket_.descriptor(), attempt.event_.handle(),
                                          FD_CONNECT, &error) != 0) {
        throw san_fault("WSPEventSelect(FD_CONNECT)", error);
    }
    const sockaddr_in where = endpoint(address, port);
    const int answer = provider.table().lpWSPConnect(
        attempt.socket_.descriptor(), reinterpret_cast<const sockaddr*>(&where), sizeof where,
        nullptr, nullptr, nullptr, nullptr, &error);
    // Connected at once is allowed too; the event tells either way.
    if (answer != 0 && error != WSAEWOULDBLOCK)
        throw san_fault("WSPConnect to " + attempt.target_, error);
    return attempt;
}

SanSocket SanConnector::finish(std::chrono::seconds patience) && {
    const Provider& provider = socket_.provider();
    for (;;) {
        event_.wait("the answer to a connect", patience);
        WSANETWORKEVENTS events{};
        int error = 0;
        if (provider.table().lpWSPEnumNetworkEvents(socket_.descriptor(), event_.handle(), &events,
                                                    &error) != 0) {
            throw san_fault("WSPEnumNetworkEvents of the connector", error);
        }
        if ((events.lNetworkEvents & FD_CONNECT) == 0) continue;
        if (events.iErrorCode[FD_CONNECT_BIT] != 0) {
            throw san_fault("WSPConnect to " + target_, events.iErrorCode[FD_CONNECT_BIT]);
        }
        // The event object ends with this attempt, so the socket must forget it.
        if (provider.table().lpWSPEventSelect(socket_.descriptor(), nullptr, 0, &error) != 0) {
            throw san_fault("WSPEventSelect(0)", error);
        }
        return std::move(socket_);
    }
}

}  // namespace sanpoll::bench
