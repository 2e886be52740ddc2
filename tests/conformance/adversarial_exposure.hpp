// Memory that one end of a connection exposes to the other, as the adversarial switch remembers it.
#pragma once

#include <cstdint>
#include <memory>
#include <memory_resource>
#include <utility>
#include <vector>

#include "tests/conformance/conformance_fixture.hpp"

namespace sanpoll::conformance {

/// What one descriptor stands for.
struct Exposure {
    std::vector<char> descriptor;
    std::size_t offset = 0;  // in the memory
    std::size_t length = 0;
    DWORD rights = 0;
    int registrations = 1;  // 0: it is good for nothing any more

    [[nodiscard]] bool permits(bool write) const {
        return (rights & static_cast<DWORD>(write ? MEM_WRITE : MEM_READ)) != 0;
    }
};

using Exposures = std::vector<std::shared_ptr<Exposure>>;
/// One of those that live, or of those that were revoked; none if there is none.
[[nodiscard]] std::shared_ptr<Exposure> pick(const Exposures& all, bool live, std::uint32_t choice);

inline constexpr DWORD kLongestDescriptor = 64;  // project decision: no longer

/// The memory itself, and what must be in it. Of every byte one of these is true: it is known; a write into
/// it was given up half-way and it is not known; or nobody may reach it any more, and then it stays what
/// it was, whatever that is.
class ExposedMemory {
public:
    static constexpr std::size_t kSize = 8192;
    using Range = std::pair<std::size_t, std::size_t>;  // offset, length

    [[nodiscard]] char* at(std::size_t offset) { return actual_.data() + offset; }
    [[nodiscard]] const char* at(std::size_t offset) const { return actual_.data() + offset; }

    /// A write of these bytes is complete.
    void written(std::size_t offset, const std::vector<char>& bytes);
    /// A write into this range was given up.
    void given_up(std::size_t offset, std::size_t length);
    /// The owner itself writes. Nobody else may be at it.
    void fill(std::size_t offset, std::size_t length, std::uint64_t number);
    /// From here on nobody may write there; may again.
    void freeze(std::size_t offset, std::size_t length);
    void thaw(std::size_t offset, std::size_t length);

    [[nodiscard]] std::vector<char> expected(std::size_t offset, std::size_t length) const;
    /// What is wrong with it, or nullptr. Ranges that are being written are not looked at.
    [[nodiscard]] const char* fault(const std::vector<Range>& being_written) const;

private:
    std::pmr::vector<char> actual_ = std::pmr::vector<char>(kSize);  // see AdversarialTest
    std::vector<char> expected_ = std::vector<char>(kSize);
    std::vector<char> unknown_ = std::vector<char>(kSize);
    std::vector<char> is_frozen_ = std::vector<char>(kSize, 1);
    std::vector<char> frozen_ = std::vector<char>(kSize);
};

}  // namespace sanpoll::conformance
