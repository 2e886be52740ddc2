#include "engine/memory/mimalloc.hpp"

#include <gtest/gtest.h>

namespace sanpoll::engine::memory {
namespace {

void expect_helpful(const Refusal& refusal, const char* name) {
    EXPECT_EQ(refusal.reason, Reason::kNoLibrary);
    for (const char* const word : {name, "2.0.9", "install libmimalloc2.0"}) {
        EXPECT_NE(refusal.text.find(word), std::string::npos) << refusal.text;
    }
}

TEST(Mimalloc, IsFoundAndStays) {
    Refusal refusal;
    const Mimalloc* const functions = Mimalloc::load(refusal);
    ASSERT_NE(functions, nullptr) << refusal.text;
    EXPECT_EQ(functions->version(), 209);
    EXPECT_EQ(Mimalloc::load(refusal), functions);
}

TEST(Mimalloc, ALibraryThatIsNotThereIsARefusal) {
    Mimalloc functions;
    Refusal refusal;
    EXPECT_FALSE(Mimalloc::open("libmimalloc-of-nobody.so.2", functions, refusal));
    expect_helpful(refusal, "libmimalloc-of-nobody.so.2");
}

TEST(Mimalloc, ALibraryWithoutTheFunctionsIsARefusal) {
    Mimalloc functions;
    Refusal refusal;
    EXPECT_FALSE(Mimalloc::open("libnuma.so.1", functions, refusal));
    expect_helpful(refusal, "libnuma.so.1");
    EXPECT_NE(refusal.text.find("has no mi_"), std::string::npos) << refusal.text;
}

TEST(Mimalloc, AnotherVersionIsARefusal) {
    Mimalloc functions;
    Refusal refusal;
    EXPECT_FALSE(Mimalloc::open(SANPOLL_OTHER_MIMALLOC, functions, refusal));
    expect_helpful(refusal, SANPOLL_OTHER_MIMALLOC);
    EXPECT_NE(refusal.text.find("2.1.7"), std::string::npos) << refusal.text;
}

}  // namespace
}  // namespace sanpoll::engine::memory
