#include "engine/memory/hugepages.hpp"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace sanpoll::engine::memory {
namespace {

class HugepagesTest : public testing::Test {
protected:
    HugepagesTest() {
        std::string pattern = testing::TempDir() + "sanpoll-hugepages-XXXXXX";
        folder = ::mkdtemp(pattern.data());
    }
    ~HugepagesTest() override { std::filesystem::remove_all(folder); }
    void write(const char* name, const char* text) const {
        std::ofstream(folder + "/" + name) << text;
    }
    std::string folder;
};

TEST_F(HugepagesTest, FreeAreThoseThatNobodyHasReserved) {
    write("free_hugepages", "100\n");
    EXPECT_EQ(free_hugepages(folder.c_str()), 100U) << "no reservations are told";
    write("resv_hugepages", "30\n");
    EXPECT_EQ(free_hugepages(folder.c_str()), 70U);
    write("resv_hugepages", "130\n");
    EXPECT_EQ(free_hugepages(folder.c_str()), 0U);
}

TEST_F(HugepagesTest, AHostThatDoesNotSayHasNone) {
    EXPECT_EQ(free_hugepages(folder.c_str()), 0U);
    write("free_hugepages", "many\n");
    EXPECT_EQ(free_hugepages(folder.c_str()), 0U);
}

TEST(Hugepages, OfThisHostCanBeAskedFor) { EXPECT_LT(free_hugepages(), 1ULL << 40); }

}  // namespace
}  // namespace sanpoll::engine::memory
