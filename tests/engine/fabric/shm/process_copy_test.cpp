#include "engine/fabric/shm/process_copy.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

namespace sanpoll::engine::shm {
namespace {

constexpr std::uint64_t kMark[2] = {0x1122334455667788, 0x99AABBCCDDEEFF00};

std::uint64_t address_of(const void* memory) { return reinterpret_cast<std::uint64_t>(memory); }

TEST(ProcessCopy, AProcessMayReadItself) {
    EXPECT_EQ(probe_process(::getpid(), address_of(kMark), kMark), 0);
}

TEST(ProcessCopy, SomethingElseAtThePlaceIsNotThePeer) {
    const std::uint64_t other[2] = {kMark[0], kMark[1] + 1};
    EXPECT_EQ(probe_process(::getpid(), address_of(other), kMark), ESRCH);
}

TEST(ProcessCopy, APlaceThatIsNotMappedIsNotThePeer) {
    EXPECT_EQ(probe_process(::getpid(), 4096, kMark), EFAULT);
    EXPECT_EQ(probe_process(::getpid(), 0, kMark), ESRCH);
}

TEST(ProcessCopy, NobodyIsNotThePeer) {
    EXPECT_EQ(probe_process(0, address_of(kMark), kMark), ESRCH);
    EXPECT_EQ(probe_process(-1, address_of(kMark), kMark), ESRCH);
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        ::_exit(0);
    }
    ASSERT_EQ(::waitpid(child, nullptr, 0), child);
    EXPECT_EQ(probe_process(child, address_of(kMark), kMark), ESRCH);
}

TEST(ProcessCopy, CopiesUpToTheFirstHole) {
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    auto* memory = static_cast<char*>(
        ::mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    ASSERT_NE(memory, MAP_FAILED);
    memory[page - 1] = 'x';
    ASSERT_EQ(::munmap(memory + page, page), 0);
    char local[64] = {};
    const iovec to{local, sizeof(local)};
    const iovec from{memory + page - 10, 20};
    const ssize_t copied = copy_from_process({::getpid(), true, true}, &to, 1, &from, 1);
    EXPECT_TRUE(copied == 10 || copied == -EFAULT) << copied;
    const iovec hole{memory + page, 20};
    EXPECT_EQ(copy_from_process({::getpid(), true, true}, &to, 1, &hole, 1), -EFAULT);
    ::munmap(memory, page);
}

ProcessCopy this_process() {
    return {::getpid(), true, true, address_of(kMark), {kMark[0], kMark[1]}};
}

TEST(ProcessCopy, WithAProbeItBringsTheSame) {
    const char text[] = "0123456789";
    char local[8] = {};
    const iovec to[] = {{local, 3}, {local + 3, 4}};
    const iovec from[] = {{const_cast<char*>(text) + 1, 5}, {const_cast<char*>(text) + 8, 2}};
    EXPECT_EQ(copy_from_process(this_process(), to, 2, from, 2), 7);
    EXPECT_STREQ(local, "1234589");
}

TEST(ProcessCopy, AnotherProbeIsAnotherProcess) {
    ProcessCopy other = this_process();
    ++other.probe[1];
    char local[8] = {};
    const iovec to{local, sizeof(local)};
    const iovec from{const_cast<std::uint64_t*>(kMark), sizeof(local)};
    EXPECT_EQ(copy_from_process(other, &to, 1, &from, 1), -ESRCH);
    other.probe_address = 4096;  // not mapped
    EXPECT_EQ(copy_from_process(other, &to, 1, &from, 1), -ESRCH);
}

TEST(ProcessCopy, MemoryThatIsNotThereIsNotAnotherProcess) {
    char local[8] = {};
    const iovec to{local, sizeof(local)};
    const iovec from{reinterpret_cast<void*>(4096), sizeof(local)};
    EXPECT_EQ(copy_from_process(this_process(), &to, 1, &from, 1), -EFAULT);
}

}  // namespace
}  // namespace sanpoll::engine::shm
