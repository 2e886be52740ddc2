// The two ends of connections that come and go, over the provider and over kernel TCP. See connect_load.hpp for what
// is done with them.
//
// Each way of waiting is the best that its transport has: asleep (the provider's events, which spin briefly before;
// blocking calls and poll() of TCP), or polling and giving the CPU away after each look, since what answers may need
// it. Virtual calls are no matter at some microseconds a connection.
//
// Contract: one thread at a time; what fails throws ConnectionFault.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <sanpoll/switch.hpp>

namespace sanpoll::bench {

enum class ConnectWait { kSleep, kPoll };

class ConnectServer {
public:
    virtual ~ConnectServer() = default;
    [[nodiscard]] virtual std::uint16_t port() const = 0;
    // Takes `count` connections, one after the other; each is closed at once, or kept open.
    virtual void take(std::uint64_t count, bool keep, ConnectWait wait) = 0;
    // Closes those that it has kept.
    virtual void drop() = 0;
};

class ConnectClient {
public:
    virtual ~ConnectClient() = default;
    // Whether the connection is there when begin() returns, as with TCP.
    [[nodiscard]] virtual bool begin_connects() const noexcept = 0;
    // Starts a connection in a free slot (0 ... slots - 1).
    virtual void begin(std::size_t slot) = 0;
    // Whether the server has accepted it: the provider says so; with TCP the client knows it by the server's close.
    // `alone`, asleep: waits until it has. Never blocks otherwise.
    virtual bool accepted(std::size_t slot, ConnectWait wait, bool alone) = 0;
    // Sleeps until accepted() of one of the slots 0 ... slots - 1 may have changed.
    virtual void sleep(std::size_t slots) = 0;
    // Closes it; the slot is free again.
    virtual void end(std::size_t slot) = 0;
    // Opens one more that stays open until drop().
    virtual void keep() = 0;
    virtual void drop() = 0;
};

inline constexpr std::size_t kMostSlots = 64;

std::unique_ptr<ConnectServer> san_connect_server(const sanpoll_switch::Provider& provider);
std::unique_ptr<ConnectClient> san_connect_client(const sanpoll_switch::Provider& provider,
                                                  std::uint16_t port);
std::unique_ptr<ConnectServer> tcp_connect_server();
std::unique_ptr<ConnectClient> tcp_connect_client(std::uint16_t port);

}  // namespace sanpoll::bench
