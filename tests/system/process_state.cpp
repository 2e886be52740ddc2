#include "tests/system/process_state.hpp"

#include <dirent.h>
#include <time.h>
#include <unistd.h>

#include <fstream>
#include <stdexcept>
#include <string_view>

namespace sanpoll::system_test {
namespace {

std::vector<std::string> entries_of(const std::string& folder) {
    std::vector<std::string> names;
    if (DIR* directory = ::opendir(folder.c_str()); directory != nullptr) {
        while (const dirent* entry = ::readdir(directory)) {
            if (entry->d_name[0] != '.') {
                names.emplace_back(entry->d_name);
            }
        }
        ::closedir(directory);
    }
    return names;
}

std::string target_of(const std::string& link) {
    char target[512];
    const ssize_t length = ::readlink(link.c_str(), target, sizeof(target));
    return length < 0 ? std::string() : std::string(target, static_cast<std::size_t>(length));
}

}  // namespace

std::multiset<std::string> open_descriptors() {
    std::multiset<std::string> result;
    for (const std::string& name : entries_of("/proc/self/fd")) {
        // Sockets and pipes are told by their kind: their numbers are new every time.
        const std::string target = target_of("/proc/self/fd/" + name);
        if (!target.empty()) {  // the directory's own is closed by now
            result.insert(target.substr(0, target.find('[')));
        }
    }
    return result;
}

std::vector<pid_t> threads_of(pid_t process) {
    std::vector<pid_t> result;
    for (const std::string& name : entries_of("/proc/" + std::to_string(process) + "/task")) {
        result.push_back(static_cast<pid_t>(std::stol(name)));
    }
    return result;
}

pid_t thread_named(pid_t process, const std::string& name) {
    for (const pid_t thread : threads_of(process)) {
        std::ifstream file("/proc/" + std::to_string(process) + "/task/" + std::to_string(thread) +
                           "/comm");
        std::string text;
        if (std::getline(file, text) && text == name) {
            return thread;
        }
    }
    return 0;
}

namespace {

std::set<std::string> lasting_files(pid_t process) {
    const auto lasting = [](const std::string& path) {
        for (const std::string_view folder :
             {"/dev/shm/", "/tmp/", "/run/", "/var/", "/dev/huge"}) {
            if (path.starts_with(folder) && !path.ends_with(" (deleted)")) {
                return true;
            }
        }
        return false;
    };
    std::set<std::string> files;
    const std::string folder = "/proc/" + std::to_string(process);
    for (const std::string& name : entries_of(folder + "/fd")) {
        const std::string path = target_of(folder + "/fd/" + name);
        if (std::stoi(name) > STDERR_FILENO && lasting(path)) {
            files.insert(path);
        }
    }
    std::ifstream maps(folder + "/maps");
    for (std::string line; std::getline(maps, line);) {
        const std::size_t path = line.find('/');
        const std::size_t rights = line.find(' ');
        if (path != std::string::npos && line[rights + 4] == 's' && lasting(line.substr(path))) {
            files.insert(line.substr(path));
        }
    }
    return files;
}

// What the program had open when it began is its parent's (a test runner's log, say) and not ours.
const std::set<std::string> inherited = lasting_files(::getpid());

}  // namespace

std::set<std::string> files_at_risk(pid_t process) {
    std::set<std::string> files = lasting_files(process);
    for (const std::string& path : inherited) {
        files.erase(path);
    }
    return files;
}

std::size_t mapped_segments() {
    std::ifstream maps("/proc/self/maps");
    std::size_t count = 0;
    for (std::string line; std::getline(maps, line);) {
        count += line.find("memfd:sanpoll") != std::string::npos ? 1 : 0;
    }
    return count;
}

bool rendezvous_exists(std::uint16_t port) {
    std::ifstream sockets("/proc/net/unix");
    const std::string end = ":" + std::to_string(port);
    for (std::string line; std::getline(sockets, line);) {
        if (line.find("@sanpoll/") != std::string::npos && line.ends_with(end)) {
            return true;
        }
    }
    return false;
}

std::uint64_t sleeps_of(pid_t process) {
    constexpr std::string_view kName = "voluntary_ctxt_switches:";
    std::uint64_t sleeps = 0;
    for (const pid_t thread : threads_of(process)) {
        std::ifstream status("/proc/" + std::to_string(process) + "/task/" +
                             std::to_string(thread) + "/status");
        for (std::string line; std::getline(status, line);) {
            if (line.starts_with(kName)) {
                sleeps += std::stoull(line.substr(kName.size()));
            }
        }
    }
    return sleeps;
}

std::chrono::nanoseconds cpu_time_of(pid_t process) {
    clockid_t clock{};
    timespec used{};
    if (::clock_getcpuclockid(process, &clock) != 0 || ::clock_gettime(clock, &used) != 0) {
        throw std::runtime_error("no CPU clock of process " + std::to_string(process));
    }
    return std::chrono::seconds(used.tv_sec) + std::chrono::nanoseconds(used.tv_nsec);
}

}  // namespace sanpoll::system_test
