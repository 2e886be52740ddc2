// What a process has, as /proc tells it: for tests that nothing is left behind.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

namespace sanpoll::system_test {

/// What every open descriptor of this process leads to, without the one that this takes.
[[nodiscard]] std::multiset<std::string> open_descriptors();

/// Thread ids of a process.
[[nodiscard]] std::vector<pid_t> threads_of(pid_t process);
/// The thread of a process that has this name; 0 if there is none.
[[nodiscard]] pid_t thread_named(pid_t process, const std::string& name);

/// Files in the folders for shared and temporary things that a process has open (but for its standard
/// streams) or maps as shared: what would be left behind if it was killed now.
[[nodiscard]] std::set<std::string> files_at_risk(pid_t process);
/// The product's shared segments that are mapped into this process.
[[nodiscard]] std::size_t mapped_segments();
/// Whether somebody still listens under the product's name for this port.
[[nodiscard]] bool rendezvous_exists(std::uint16_t port);

/// How often threads of a process went to sleep of their own will, all that it has now taken together.
[[nodiscard]] std::uint64_t sleeps_of(pid_t process);

/// CPU time that a process has used since its start.
[[nodiscard]] std::chrono::nanoseconds cpu_time_of(pid_t process);

}  // namespace sanpoll::system_test
