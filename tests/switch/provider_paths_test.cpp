#include "switch/provider_paths.hpp"

#include <gtest/gtest.h>

namespace sanpoll_switch::detail {
namespace {

constexpr GUID kSome = {0x12345678, 1, 2, {3, 4, 5, 6, 7, 8, 9, 10}};
constexpr GUID kOther = {0x12345678, 1, 2, {3, 4, 5, 6, 7, 8, 9, 11}};

TEST(ToUtf16, ConvertsCharactersOfEveryLength) {
    EXPECT_EQ(to_utf16(""), u"");
    EXPECT_EQ(to_utf16("/lib/a.so"), u"/lib/a.so");
    EXPECT_EQ(to_utf16("\xC3\xA9"), u"\u00E9");
    EXPECT_EQ(to_utf16("\xE2\x82\xAC"), u"\u20AC");
    EXPECT_EQ(to_utf16("\xF0\x9F\x98\x80"), u"\U0001F600");
}

TEST(ToUtf16, ReplacesWhatIsNoUtf8) {
    EXPECT_EQ(to_utf16("a\xFFz"), u"a\uFFFDz");
    EXPECT_EQ(to_utf16("\xC3"), u"\uFFFD");                      // cut off
    EXPECT_EQ(to_utf16("\xC3z"), u"\uFFFDz");                    // wrong second byte
    EXPECT_EQ(to_utf16("\xC0\x80"), u"\uFFFD\uFFFD");            // two bytes for one
    EXPECT_EQ(to_utf16("\xE0\x80\x80"), u"\uFFFD\uFFFD\uFFFD");  // three bytes for one
    EXPECT_EQ(to_utf16("\xED\xA0\x80"), u"\uFFFD\uFFFD\uFFFD");  // half of a surrogate pair
    EXPECT_EQ(to_utf16("\xF4\x90\x80\x80").size(), 4u);          // beyond the last character
}

TEST(ProviderPaths, LatestOfAnIdentityCounts) {
    EXPECT_FALSE(provider_path(kSome).has_value());
    add_provider_path(kSome, "/one");
    add_provider_path(kOther, "/other");
    add_provider_path(kSome, "/two");
    EXPECT_EQ(provider_path(kSome), u"/two");
    EXPECT_EQ(provider_path(kOther), u"/other");
    remove_provider_path(kSome);
    EXPECT_EQ(provider_path(kSome), u"/one");
    remove_provider_path(kSome);
    remove_provider_path(kSome);
    EXPECT_FALSE(provider_path(kSome).has_value());
    remove_provider_path(kOther);
}

TEST(ProviderPaths, ZerosAreNobody) {
    add_provider_path(GUID{}, "/nobody");
    EXPECT_FALSE(provider_path(GUID{}).has_value());
}

}  // namespace
}  // namespace sanpoll_switch::detail
