#include "bench/process_memory.hpp"

#include <fstream>
#include <sstream>
#include <string>
#include <string_view>

namespace sanpoll::bench {
namespace {

// "Name:   123 kB"
void take_line(const std::string& line, std::string_view name, std::uint64_t& value) {
    if (line.size() > name.size() && line.starts_with(name) && line[name.size()] == ':') {
        std::istringstream(line.substr(name.size() + 1)) >> value;
    }
}

}  // namespace

ProcessMemory memory_of(pid_t process) {
    ProcessMemory memory;
    const std::string folder = "/proc/" + std::to_string(process);
    std::ifstream status(folder + "/status");
    for (std::string line; std::getline(status, line);) {
        take_line(line, "VmHWM", memory.peak);
        take_line(line, "VmRSS", memory.resident);
        take_line(line, "RssAnon", memory.anonymous);
        take_line(line, "RssFile", memory.file);
        take_line(line, "RssShmem", memory.shared);
    }
    std::ifstream rollup(folder + "/smaps_rollup");
    for (std::string line; std::getline(rollup, line);) {
        take_line(line, "Pss", memory.proportional);
    }
    return memory;
}

std::uint64_t kernel_socket_bytes() {
    std::uint64_t bytes = 0;
    std::ifstream slabs("/proc/slabinfo");
    for (std::string line; std::getline(slabs, line);) {
        std::istringstream words(line);
        std::string name;
        std::uint64_t active = 0;
        std::uint64_t all = 0;
        std::uint64_t size = 0;
        words >> name >> active >> all >> size;
        for (const std::string_view wanted :
             {"TCP", "sock_inode_cache", "dentry", "filp", "tcp_bind_bucket"}) {
            if (name == wanted) bytes += active * size;
        }
    }
    return bytes;
}

}  // namespace sanpoll::bench
