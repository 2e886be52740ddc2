// One end of a connection that does RDMA: registered memory of its own, and what it knows of the peer's.
#pragma once

#include <sanpoll.h>

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <sanpoll/switch.hpp>
#include <utility>
#include <vector>

#include "bench/san_socket.hpp"

namespace sanpoll::bench {

// Where memory comes from.
enum class MemoryKind {
    kOrdinary,
    kArena,  // the provider's: a buffer of a shareable arena (WSAID_SANPOLL_MEMORY)
};

struct MemoryFree {
    LPFN_SANPOLL_FREE give_back = nullptr;  // of an arena's
    void operator()(char* data) const noexcept {
        if (give_back != nullptr) {
            (void)give_back(data, nullptr);
        } else {
            std::free(data);
        }
    }
};

// Memory whose every page has been written to. Once registered it stays so until the socket closes, and has to
// outlive it.
class RdmaMemory {
public:
    RdmaMemory(const sanpoll_switch::Provider& provider, MemoryKind kind, std::size_t bytes);
    void register_with(const SanSocket& socket);
    [[nodiscard]] char* data() const noexcept { return data_.get(); }
    [[nodiscard]] std::size_t size() const noexcept { return bytes_; }
    [[nodiscard]] HANDLE handle() const noexcept { return handle_; }
    [[nodiscard]] MemoryKind kind() const noexcept { return kind_; }

private:
    std::size_t bytes_;
    MemoryKind kind_;
    std::unique_ptr<char, MemoryFree> data_;
    HANDLE handle_ = nullptr;
};

// Contract: one thread at a time. What fails throws ConnectionFault.
class RdmaEnd {
public:
    RdmaEnd(SanSocket socket, std::size_t memory_bytes, MemoryKind kind = MemoryKind::kOrdinary)
        : memory_(socket.provider(), kind, memory_bytes), socket_(std::move(socket)) {
        memory_.register_with(socket_);
    }

    [[nodiscard]] const SanSocket& socket() const noexcept { return socket_; }
    [[nodiscard]] const RdmaMemory& memory() const noexcept { return memory_; }

    // Whether RDMA into the peer's memory is a store, if both ends' memory is of an arena; so from the moment on at
    // which the processes have mapped each other's arenas. wait_for_stores() waits for it, a second at most.
    [[nodiscard]] bool stores() const;
    bool wait_for_stores() const;

    // Lets the peer at all of our memory. Returns what the peer has to know.
    [[nodiscard]] std::vector<unsigned char> expose() const;
    void know_peer(std::vector<unsigned char> descriptor) { peer_ = std::move(descriptor); }

    void post_write(WSAOVERLAPPED& overlapped, std::size_t from, std::size_t to,
                    std::size_t bytes) const;
    void post_read(WSAOVERLAPPED& overlapped, std::size_t to, std::size_t from,
                   std::size_t bytes) const;
    // An ordinary receive or send of `bytes` bytes at `at`.
    void post_receive(WSAOVERLAPPED& overlapped, std::size_t at, std::size_t bytes) const;
    void post_send(WSAOVERLAPPED& overlapped, std::size_t at, std::size_t bytes) const;

    // A receive that stays posted until the socket closes, and one look at it.
    void keep_receive(std::size_t at, std::size_t bytes) { post_receive(kept_, at, bytes); }
    void look_at_receive() { (void)ended(kept_); }

    // Polls once: whether the operation has ended.
    [[nodiscard]] bool ended(WSAOVERLAPPED& overlapped) const;
    // Polls until it has.
    void finish(WSAOVERLAPPED& overlapped) const;

private:
    void post(bool writes, WSAOVERLAPPED& overlapped, std::size_t local, std::size_t remote,
              std::size_t bytes) const;

    // What the provider may touch until the socket is closed goes after it.
    RdmaMemory memory_;
    WSAOVERLAPPED kept_{};
    SanSocket socket_;
    std::vector<unsigned char> peer_;  // the descriptor of its memory
};

}  // namespace sanpoll::bench
