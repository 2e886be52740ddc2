// What completions with an error mean.
#include "engine/fabric/verbs/work_completion.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <set>
#include <sstream>
#include <string>

namespace sanpoll::engine::verbs {
namespace {

TEST(WorkCompletionTest, EveryStatusHasAMeaningOfItsOwn) {
    EXPECT_EQ(meaning_of(IBV_WC_SUCCESS).status, Status::kOk);
    std::set<std::string_view> names;
    std::set<std::string_view> remedies;
    for (std::uint32_t status = 1; status < kWorkStatuses; ++status) {
        const WorkCompletionMeaning& meaning = meaning_of(status);
        EXPECT_TRUE(meaning.status == Status::kReset || meaning.status == Status::kTransportFailed)
            << meaning.name;
        EXPECT_TRUE(names.insert(meaning.name).second) << meaning.name;
        EXPECT_TRUE(remedies.insert(meaning.remedy).second) << meaning.remedy;
        EXPECT_EQ(meaning.remedy.back(), '.') << meaning.remedy;
    }
}

TEST(WorkCompletionTest, RowsAreWhereVerbsCountsThem) {
    EXPECT_EQ(meaning_of(IBV_WC_LOC_LEN_ERR).name, "LOC_LEN_ERR");
    EXPECT_EQ(meaning_of(IBV_WC_LOC_PROT_ERR).name, "LOC_PROT_ERR");
    EXPECT_EQ(meaning_of(IBV_WC_WR_FLUSH_ERR).name, "WR_FLUSH_ERR");
    EXPECT_EQ(meaning_of(IBV_WC_REM_ACCESS_ERR).name, "REM_ACCESS_ERR");
    EXPECT_EQ(meaning_of(IBV_WC_RETRY_EXC_ERR).name, "RETRY_EXC_ERR");
    EXPECT_EQ(meaning_of(IBV_WC_RNR_RETRY_EXC_ERR).name, "RNR_RETRY_EXC_ERR");
    EXPECT_EQ(meaning_of(IBV_WC_FATAL_ERR).name, "FATAL_ERR");
    EXPECT_EQ(meaning_of(IBV_WC_GENERAL_ERR).name, "GENERAL_ERR");
    EXPECT_EQ(meaning_of(IBV_WC_TM_RNDV_INCOMPLETE).name, "TM_RNDV_INCOMPLETE");
}

TEST(WorkCompletionTest, OnlyAFlushIsThePeersEnd) {
    for (std::uint32_t status = 1; status < kWorkStatuses; ++status) {
        EXPECT_EQ(meaning_of(status).status == Status::kReset, status == IBV_WC_WR_FLUSH_ERR)
            << meaning_of(status).name;
    }
}

TEST(WorkCompletionTest, AStatusFromTheFutureHasAMeaningToo) {
    for (const std::uint32_t status : {kWorkStatuses, kWorkStatuses + 1, UINT32_MAX}) {
        EXPECT_EQ(meaning_of(status).status, Status::kTransportFailed);
        EXPECT_EQ(meaning_of(status).name, "unknown");
    }
}

TEST(WorkCompletionTest, TheDocumentationHasEveryRow) {
    std::ifstream file(SANPOLL_SOURCE_DIR "/engine/fabric/verbs/README.md");
    ASSERT_TRUE(file.is_open());
    std::stringstream text;
    text << file.rdbuf();
    const std::string page = text.str();
    for (std::uint32_t status = 1; status <= kWorkStatuses; ++status) {
        const WorkCompletionMeaning& meaning = meaning_of(status);
        const std::string error =
            meaning.status == Status::kReset ? "WSAECONNRESET" : "WSAECONNABORTED";
        const std::string row = "| " + std::string(meaning.name) + " | " + error + " | " +
                                std::string(meaning.remedy) + " |";
        EXPECT_NE(page.find(row), std::string::npos) << row;
    }
}

}  // namespace
}  // namespace sanpoll::engine::verbs
