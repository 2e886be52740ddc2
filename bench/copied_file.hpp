// Memory that two processes have mapped: one writes it, the other copies it, and only the copying is timed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace sanpoll::bench {

// What a message of that length can cost at best: its bytes cross from one core's caches to the other's once.
//
// Contract: one thread at each end, both spinning. The file is passed to the other process by its descriptor.
class CopiedFile {
public:
    enum class Kernel {
        kMemcpy,  // the C library's
        kVector,  // engine/fabric/copy.hpp
    };

    // `pieces` of `bytes`, gone round and round.
    static CopiedFile create(std::size_t bytes, std::size_t pieces);
    static CopiedFile open(int fd, std::size_t bytes, std::size_t pieces);
    CopiedFile(CopiedFile&& other) noexcept;
    CopiedFile& operator=(CopiedFile&&) = delete;
    ~CopiedFile();

    [[nodiscard]] int fd() const noexcept { return fd_; }

    // Writes each of `count` pieces and waits until it has been copied.
    void write(std::size_t count);
    // Copies them into `to`, each into the next of `places` places. Returns the seconds that the copying took.
    double copy(std::size_t count, char* to, std::size_t places, Kernel kernel);

private:
    struct Turns;

    CopiedFile(int fd, std::size_t bytes, std::size_t pieces);
    [[nodiscard]] char* piece(std::size_t index) const noexcept;

    int fd_;
    std::size_t bytes_;
    std::size_t pieces_;
    void* mapped_;
    std::uint64_t turn_ = 0;  // pieces written, and copied, since the beginning
};

}  // namespace sanpoll::bench
