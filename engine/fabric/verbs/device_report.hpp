// What this host's RDMA devices can do, without starting anything on them.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace sanpoll::engine::verbs {

struct Api;

/// Each device's name and its limits in words, or why it does not tell; nothing on a host without devices. Opens
/// and closes every one: blocks. Any thread but a polling core's.
[[nodiscard]] std::vector<std::pair<std::string, std::string>> device_report();
/// The same by way of `api`.
[[nodiscard]] std::vector<std::pair<std::string, std::string>> device_report(const Api& api);

}  // namespace sanpoll::engine::verbs
