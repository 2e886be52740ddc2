// Sockets of the provider with as little around them as can be: none of the companion ports that a switch keeps, an
// event that the caller lends, nothing registered. For measuring many of them, and how fast they come and go.
//
// Contract: one thread at a time; what fails throws ConnectionFault.
#pragma once

#include <cstdint>
#include <optional>
#include <sanpoll/switch.hpp>

#include "bench/san_socket.hpp"
#include "bench/tcp_connection.hpp"

namespace sanpoll::bench {

// Listens on 127.0.0.1.
class LightListener {
public:
    explicit LightListener(const sanpoll_switch::Provider& provider);
    ~LightListener();
    LightListener(const LightListener&) = delete;
    LightListener& operator=(const LightListener&) = delete;

    [[nodiscard]] std::uint16_t port() const noexcept { return companion_.port; }
    // Nothing if nobody asks. Never blocks.
    std::optional<sanpoll_switch::ProviderSocket> try_accept();
    // Sleeps until somebody asks.
    sanpoll_switch::ProviderSocket accept();

private:
    const sanpoll_switch::Provider& provider_;
    SanEvent event_;
    ReservedPort companion_;
    sanpoll_switch::ProviderSocket socket_;
};

// A connect under way. `event` must outlive it, and is nobody else's meanwhile.
class LightConnect {
public:
    LightConnect(const sanpoll_switch::Provider& provider, const SanEvent& event,
                 std::uint16_t port);
    LightConnect(LightConnect&& other) noexcept;
    LightConnect& operator=(LightConnect&&) = delete;
    ~LightConnect();  // closes a socket that nobody has taken

    // The connected socket, which is the caller's from then on; nothing while there is no answer. Never blocks.
    std::optional<sanpoll_switch::ProviderSocket> look();
    // Sleeps until there is one.
    sanpoll_switch::ProviderSocket finish();

private:
    const sanpoll_switch::Provider& provider_;
    const SanEvent& event_;
    sanpoll_switch::ProviderSocket socket_;
};

}  // namespace sanpoll::bench
