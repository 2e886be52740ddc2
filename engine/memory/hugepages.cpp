#include "engine/memory/hugepages.hpp"

#include <fstream>
#include <string>

namespace sanpoll::engine::memory {

namespace {

std::uint64_t number_in(const std::string& path) {
    std::ifstream file(path);
    std::uint64_t number = 0;
    file >> number;
    return file ? number : 0;
}

}  // namespace

std::uint64_t free_hugepages(const char* folder) {
    // Reserved pages are those that somebody has mapped and not yet touched: they still count as free.
    const std::uint64_t free = number_in(std::string(folder) + "/free_hugepages");
    const std::uint64_t promised = number_in(std::string(folder) + "/resv_hugepages");
    return free > promised ? free - promised : 0;
}

}  // namespace sanpoll::engine::memory
