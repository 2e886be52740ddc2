// What the kernel says about threads of this process.
#pragma once

#include <dirent.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <fstream>
#include <string>

namespace sanpoll::tests {

[[nodiscard]] inline int this_thread_id() { return static_cast<int>(::syscall(SYS_gettid)); }

/// The id of a thread of this process with that name; 0 if there is none.
[[nodiscard]] inline int thread_named(const std::string& name) {
    DIR* folder = ::opendir("/proc/self/task");
    int found = 0;
    while (const dirent* item = folder != nullptr ? ::readdir(folder) : nullptr) {
        std::ifstream file("/proc/self/task/" + std::string(item->d_name) + "/comm");
        std::string comm;
        if (std::getline(file, comm) && comm == name) {
            found = std::stoi(item->d_name);
        }
    }
    if (folder != nullptr) {
        ::closedir(folder);
    }
    return found;
}

/// Whether the thread sleeps (state S).
[[nodiscard]] inline bool thread_sleeps(int id) {
    std::ifstream file("/proc/self/task/" + std::to_string(id) + "/stat");
    std::string text;
    std::getline(file, text);
    const std::size_t after_name = text.rfind(')');
    return after_name != std::string::npos && text.compare(after_name, 3, ") S") == 0;
}

}  // namespace sanpoll::tests
