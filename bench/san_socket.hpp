// How a caller of the service provider interface gets from nothing to a connected socket, step by step:
//
//   listener   WSPSocket, SIO_ADDRESS_LIST_QUERY, WSPBind, WSPListen, WSPEventSelect(FD_ACCEPT);
//              then for each connection: wait for the event, WSPEnumNetworkEvents, WSPAccept with a condition function
//   connector  WSPSocket, WSPBind, WSPEventSelect(FD_CONNECT), WSPConnect; wait, WSPEnumNetworkEvents
//
// All of it through sanpoll_switch::Provider, as a third party would do it. Everything throws ConnectionFault with
// one plain line that tells the step, the error's name and what to do.
#pragma once

#include <chrono>
#include <cstdint>
#include <sanpoll/switch.hpp>
#include <string>
#include <utility>
#include <vector>

#include "bench/connection.hpp"
#include "bench/tcp_connection.hpp"

namespace sanpoll::bench {

// The fault of a WSP function that failed with `error`.
ConnectionFault san_fault(const std::string& step, int error);

// A manual-reset event of the switch with an owner.
class SanEvent {
public:
    SanEvent();
    SanEvent(SanEvent&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    SanEvent& operator=(SanEvent&&) = delete;
    ~SanEvent();
    WSAEVENT handle() const noexcept { return handle_; }
    // Throws when patience ends.
    void wait(const char* awaited, std::chrono::seconds patience = kPatience) const;

private:
    WSAEVENT handle_;
};

struct FabricFacts {
    std::string name;    // "shm", "verbs"
    std::string device;  // empty: it has none
    std::string reason;
    std::string arenas;  // whether the processes share them; empty: the fabric knows none
};

// A socket of the provider with an owner, and the TCP port that it borrows its number from, if it does.
class SanSocket {
public:
    SanSocket(const sanpoll_switch::Provider& provider, sanpoll_switch::ProviderSocket socket);
    SanSocket(SanSocket&& other) noexcept;
    SanSocket& operator=(SanSocket&&) = delete;
    ~SanSocket();  // WSPCloseSocket

    // WSPBind to a free port of `address`, which stays reserved as long as the socket lives.
    void bind(const std::string& address);

    // What carries it and why (SIO_SANPOLL_FABRIC); of another product's provider, that it does not say. Connected
    // sockets only.
    FabricFacts fabric() const;

    const sanpoll_switch::Provider& provider() const noexcept { return *provider_; }
    SOCKET descriptor() const noexcept { return socket_.descriptor; }
    SOCKET switch_handle() const noexcept { return socket_.switch_handle; }
    std::uint16_t port() const noexcept { return companion_.port; }

private:
    const sanpoll_switch::Provider* provider_;
    sanpoll_switch::ProviderSocket socket_;
    ReservedPort companion_;
};

class SanListener {
public:
    // An empty address: 127.0.0.1 if the provider has it, else the first that it has.
    SanListener(const sanpoll_switch::Provider& provider, std::string address);

    const std::string& address() const noexcept { return address_; }
    std::uint16_t port() const noexcept { return socket_.port(); }
    const std::vector<std::string>& addresses() const noexcept {
        return addresses_;
    }  // of SIO_ADDRESS_LIST_QUERY

    // Waits for a request and takes it.
    SanSocket accept(std::chrono::seconds patience = kPatience);

private:
    SanEvent event_;  // before socket_: must outlive it
    SanSocket socket_;
    std::vector<std::string> addresses_;
    std::string address_;
};

// A connect under way. begin() returns at once, so that one thread can accept in between.
class SanConnector {
public:
    // `local`: what it binds to, "0.0.0.0" for whatever leads to `address`.
    static SanConnector begin(const sanpoll_switch::Provider& provider, const std::string& local,
                              const std::string& address, std::uint16_t port);

    // Waits for the answer.
    SanSocket finish(std::chrono::seconds patience = kPatience) &&;

private:
    SanConnector(SanEvent event, SanSocket socket, std::string target);

    SanEvent event_;
    SanSocket socket_;
    std::string target_;  // for messages
};

}  // namespace sanpoll::bench
