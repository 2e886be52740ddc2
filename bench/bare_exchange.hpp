// Messages through bare cache lines between two processes: what a paced load costs where no provider has a part in it,
// so what the machine makes of it. The measuring loops (bench/paced_loop.hpp) run over it as over the provider.
//
// A slot for each message under way, in each direction; the message's stamp is its first word and is written last, so
// a slot is full when that word is another one than before. There is no credit, no queue and no check: the loop keeps no
// more messages under way than there are slots, and a reply frees its request's. Both ends look all the while.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "bench/connection.hpp"
#include "bench/spin.hpp"

namespace sanpoll::bench {

// Memory that two processes of one user share. Zero-filled.
class BareMemory {
public:
    // For messages of up to `bytes`, `window` of them under way. Throws std::system_error.
    BareMemory(std::uint32_t bytes, std::uint32_t window);
    // The same memory in another process, which has to be there still. Throws std::system_error.
    BareMemory(const std::string& path, std::uint32_t bytes, std::uint32_t window);
    BareMemory(const BareMemory&) = delete;
    BareMemory& operator=(const BareMemory&) = delete;
    ~BareMemory();

    // Under which another process opens it, as long as this one has it.
    [[nodiscard]] std::string path() const;

    [[nodiscard]] std::uint32_t slots() const noexcept { return slots_; }
    // Slot `index` of the messages that the client sends, or of those that it receives.
    [[nodiscard]] std::byte* slot(bool of_client, std::uint32_t index) const noexcept {
        return memory_ + (std::size_t{of_client ? 0U : slots_} + index) * stride_;
    }

private:
    void map(int fd);

    std::uint32_t slots_;
    std::size_t stride_;
    int fd_ = -1;
    std::byte* memory_ = nullptr;
};

// One end: a Connection with try_receive(). One thread. No message's stamp is 0, or that of the message `slots()` before it.
class BareConnection {
public:
    BareConnection(const BareMemory& memory, bool is_client, const SpinRule& rule)
        : memory_(memory),
          is_client_(is_client),
          rule_(rule),
          seen_(memory.slots(), 0),
          payload_(kLongest, 'b') {}

    void send(std::uint32_t size, std::uint64_t stamp) noexcept;
    std::uint64_t receive(std::uint32_t size);
    std::optional<std::uint64_t> try_receive(std::uint32_t size) noexcept;
    void recycle() noexcept {}
    void drain() noexcept {}  // a send is over when send() returns

    static constexpr std::uint32_t kLongest = 4096;  // bytes of a message

private:
    const BareMemory& memory_;
    bool is_client_;
    SpinRule rule_;
    std::uint32_t next_out_ = 0;  // slots
    std::uint32_t next_in_ = 0;
    std::vector<std::uint64_t> seen_;  // the first word of each slot that comes in
    std::vector<char> payload_;
    MessageReader reader_;
};

}  // namespace sanpoll::bench
