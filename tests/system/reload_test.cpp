// A caller may load and unload the library again and again: what it needs once in a process is made once.
#include <gtest/gtest.h>
#include <unistd.h>

#include "tests/system/process_state.hpp"
#include "tests/system/san.hpp"

namespace sanpoll::system_test {
namespace {

class Reload : public ::testing::TestWithParam<const char*> {};

TEST_P(Reload, MakesNothingTwice) {
    // No connection: a thread's first post would keep the library in until the thread ends.
    const auto load_and_unload = [] {
        const auto provider = load_provider({{"SANPOLL_MODE", GetParam()}});
    };
    load_and_unload();
    const auto descriptors = open_descriptors();
    const std::size_t threads = threads_of(::getpid()).size();
    for (int i = 0; i < 5; ++i) {
        load_and_unload();
    }
    EXPECT_EQ(open_descriptors(), descriptors);
    EXPECT_EQ(threads_of(::getpid()).size(), threads);
    EXPECT_EQ(mapped_segments(), 0U);
}

INSTANTIATE_TEST_SUITE_P(Modes, Reload, ::testing::Values("inline", "dedicated"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace sanpoll::system_test
