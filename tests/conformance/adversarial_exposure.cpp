#include "tests/conformance/adversarial_exposure.hpp"

#include <algorithm>
#include <iterator>

#include "tests/conformance/adversarial_model.hpp"

namespace sanpoll::conformance {

std::shared_ptr<Exposure> pick(const Exposures& all, bool live, std::uint32_t choice) {
    Exposures fit;
    std::copy_if(all.begin(), all.end(), std::back_inserter(fit),
                 [live](const auto& exposure) { return (exposure->registrations != 0) == live; });
    return fit.empty() ? nullptr : fit[choice % fit.size()];
}

void ExposedMemory::written(std::size_t offset, const std::vector<char>& bytes) {
    std::copy(bytes.begin(), bytes.end(), expected_.data() + offset);
}

void ExposedMemory::given_up(std::size_t offset, std::size_t length) {
    std::fill_n(unknown_.data() + offset, length, 1);
}

void ExposedMemory::fill(std::size_t offset, std::size_t length, std::uint64_t number) {
    fill_pattern(actual_.data() + offset, length, number);
    std::copy_n(actual_.data() + offset, length, expected_.data() + offset);
    std::fill_n(unknown_.data() + offset, length, 0);
}

void ExposedMemory::freeze(std::size_t offset, std::size_t length) {
    for (std::size_t i = offset; i < offset + length; ++i) {
        if (is_frozen_[i] == 0) {  // else it must still be what it was at first
            is_frozen_[i] = 1;
            frozen_[i] = actual_[i];
        }
    }
}

void ExposedMemory::thaw(std::size_t offset, std::size_t length) {
    std::fill_n(is_frozen_.data() + offset, length, 0);
}

std::vector<char> ExposedMemory::expected(std::size_t offset, std::size_t length) const {
    return {expected_.data() + offset, expected_.data() + offset + length};
}

const char* ExposedMemory::fault(const std::vector<Range>& being_written) const {
    std::vector<char> busy = unknown_;
    for (const auto& [offset, length] : being_written) {
        std::fill_n(busy.data() + offset, length, 1);
    }
    for (std::size_t i = 0; i < kSize; ++i) {
        if (is_frozen_[i] != 0 && actual_[i] != frozen_[i]) {
            return "memory has changed that nobody may reach any more";
        }
        if (busy[i] == 0 && actual_[i] != expected_[i]) {
            return "exposed memory holds something else than was written into it";
        }
    }
    return nullptr;
}

}  // namespace sanpoll::conformance
