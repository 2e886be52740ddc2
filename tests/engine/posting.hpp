// Ways to post to a core, and what came of it, for its tests.
#pragma once

#include <gtest/gtest.h>

#include <numeric>
#include <thread>
#include <vector>

#include "tests/engine/fake_port.hpp"

namespace sanpoll::tests {

/// The lane may be full for a while when the token's holder is preempted.
inline void post_patiently(FakeSocket& socket, std::uint64_t number, std::uint8_t flags = 0,
                           std::uint32_t pieces = 1) {
    engine::Status status = engine::Status::kFull;
    while ((status = socket.post(number, flags, pieces)) == engine::Status::kFull) {
        std::this_thread::yield();
    }
    ASSERT_EQ(status, engine::Status::kOk);
}

/// Posts from a thread of its own, which ends then.
inline void post_elsewhere(FakeSocket& socket, std::uint64_t first, std::uint64_t count,
                           std::uint8_t flags = 0) {
    std::thread([&] {
        for (std::uint64_t i = 0; i < count; ++i) {
            ASSERT_EQ(socket.post(first + i, flags), engine::Status::kOk);
        }
    }).join();
}

/// 0, 1, 2 ...
inline std::vector<std::uint64_t> counting(std::uint64_t count) {
    std::vector<std::uint64_t> list(count);
    std::iota(list.begin(), list.end(), 0U);
    return list;
}

/// The numbers under which requests were posted.
inline std::vector<std::uint64_t> contexts(const std::vector<engine::WorkRequest>& requests) {
    std::vector<std::uint64_t> list;
    for (const engine::WorkRequest& request : requests) {
        list.push_back(Record::number_of(request.context));
    }
    return list;
}

}  // namespace sanpoll::tests
