// What the kernel lets the process do with its pages, found out in each of the ways that kernels have.
#include "engine/memory/page_rights.hpp"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "engine/memory_region.hpp"
#include "tests/engine/lesser_kernel.hpp"
#include "tests/engine/memory/mapped_pages.hpp"

namespace sanpoll::engine::memory {
namespace {

using tests::LesserKernel;
using tests::MappedPages;

constexpr std::uint32_t kBoth = kRead | kWrite;
constexpr std::size_t kMiB = 1U << 20;

Lack lack(const void* at, std::uint64_t length, std::uint32_t access) {
    return page_rights(reinterpret_cast<std::uint64_t>(at), length, access).lack;
}

/// Pages of a memory file, mapped at once.
class FilePages {
public:
    FilePages(std::size_t pages, std::size_t in_file, int access, int sharing)
        : bytes_(pages * MappedPages::size()) {
        const int fd = ::memfd_create("sanpoll-test", MFD_CLOEXEC);
        EXPECT_EQ(::ftruncate(fd, static_cast<off_t>(in_file * MappedPages::size())), 0);
        const std::string name = "/proc/self/fd/" + std::to_string(fd);
        // Opened for reading only, as the file of somebody else would be.
        const int opened = (access & PROT_WRITE) != 0 && sharing == MAP_SHARED
                               ? ::dup(fd)
                               : ::open(name.c_str(), O_RDONLY | O_CLOEXEC);
        base_ = ::mmap(nullptr, bytes_, access, sharing, opened, 0);
        EXPECT_NE(base_, MAP_FAILED);
        ::close(opened);
        ::close(fd);
    }
    ~FilePages() { ::munmap(base_, bytes_); }
    FilePages(const FilePages&) = delete;
    FilePages& operator=(const FilePages&) = delete;
    [[nodiscard]] char* at(std::size_t page) const {
        return static_cast<char*>(base_) + page * MappedPages::size();
    }

private:
    std::size_t bytes_;
    void* base_;
};

/// The process's own mapping of that name, of pages of the kernel's; nullptr if there is none.
const char* mapping_named(const char* name) {
    std::FILE* maps = std::fopen("/proc/self/maps", "re");
    const char* found = nullptr;
    char line[512];
    while (maps != nullptr && found == nullptr && std::fgets(line, sizeof(line), maps) != nullptr) {
        if (std::strstr(line, name) != nullptr) {
            found = reinterpret_cast<const char*>(std::strtoull(line, nullptr, 16));
        }
    }
    if (maps != nullptr) {
        std::fclose(maps);
    }
    return found;
}

std::size_t pages_there(const char* at, std::size_t pages) {
    std::vector<unsigned char> there(pages);
    EXPECT_EQ(::mincore(const_cast<char*>(at), pages * MappedPages::size(), there.data()), 0);
    std::size_t count = 0;
    for (const unsigned char page : there) {
        count += page & 1U;
    }
    return count;
}

TEST(PageRights, WritableMemoryAllowsEverything) {
    const MappedPages pages(4);
    for (const std::uint32_t access : {std::uint32_t{kRead}, std::uint32_t{kWrite}, kBoth}) {
        EXPECT_EQ(lack(pages.at(0), 4 * MappedPages::size(), access), Lack::kNothing);
        EXPECT_EQ(lack(pages.at(0) + 5, 1, access), Lack::kNothing);
        EXPECT_EQ(lack(pages.at(1) - 1, 2, access), Lack::kNothing);
    }
}

TEST(PageRights, MemoryThatMayOnlyBeReadLacksWriting) {
    const MappedPages pages(3);
    ASSERT_EQ(::mprotect(pages.at(0), 3 * MappedPages::size(), PROT_READ), 0);
    EXPECT_EQ(lack(pages.at(0), 3 * MappedPages::size(), kRead), Lack::kNothing);
    for (const std::uint32_t access : {std::uint32_t{kWrite}, kBoth}) {
        EXPECT_EQ(lack(pages.at(0), 3 * MappedPages::size(), access), Lack::kWriting);
        EXPECT_EQ(lack(pages.at(1) + 7, 1, access), Lack::kWriting);
    }
}

TEST(PageRights, ForbiddenMemoryLacksAccess) {
    const MappedPages pages(1);
    ASSERT_EQ(::mprotect(pages.at(0), MappedPages::size(), PROT_NONE), 0);
    for (const std::uint32_t access : {std::uint32_t{kRead}, std::uint32_t{kWrite}, kBoth}) {
        EXPECT_EQ(lack(pages.at(0), 100, access), Lack::kAccess);
    }
}

TEST(PageRights, OnePageOfManyIsFoundAndNamed) {
    for (const std::size_t count : {std::size_t{5}, 2 * kMiB / MappedPages::size()}) {
        MappedPages pages(count);
        const std::size_t middle = count / 2;
        const auto whole = [&](std::uint32_t access) {
            return page_rights(pages.address(0), count * MappedPages::size(), access);
        };
        ASSERT_EQ(::mprotect(pages.at(middle), MappedPages::size(), PROT_READ), 0);
        EXPECT_EQ(whole(kRead).lack, Lack::kNothing);
        EXPECT_EQ(whole(kBoth).lack, Lack::kWriting);
        EXPECT_EQ(whole(kBoth).at, pages.address(middle));
        ASSERT_EQ(::mprotect(pages.at(middle), MappedPages::size(), PROT_NONE), 0);
        EXPECT_EQ(whole(kRead).lack, Lack::kAccess);
        EXPECT_EQ(whole(kRead).at, pages.address(middle));
        EXPECT_EQ(lack(pages.at(0), middle * MappedPages::size(), kBoth), Lack::kNothing);
        EXPECT_EQ(lack(pages.at(0), middle * MappedPages::size() + 1, kRead), Lack::kAccess);
        pages.unmap(middle, 1);
        EXPECT_EQ(whole(kRead).lack, Lack::kMapping);
        EXPECT_EQ(whole(kRead).at, pages.address(middle));
    }
}

TEST(PageRights, AddressesThatNobodyHasAreNotMapped) {
    EXPECT_EQ(lack(reinterpret_cast<void*>(8), 100, kRead), Lack::kMapping);
    EXPECT_EQ(lack(reinterpret_cast<void*>(8), kMiB, kWrite), Lack::kMapping);
    EXPECT_EQ(lack(reinterpret_cast<void*>(UINTPTR_MAX - 8), 8, kRead), Lack::kMapping);
    EXPECT_EQ(lack(reinterpret_cast<void*>(UINTPTR_MAX - 3 * kMiB), kMiB, kRead), Lack::kMapping);
}

TEST(PageRights, OfAFileCountsHowItIsMapped) {
    const std::size_t page = MappedPages::size();
    const FilePages read_only(2, 2, PROT_READ, MAP_SHARED);
    EXPECT_EQ(lack(read_only.at(0), 2 * page, kRead), Lack::kNothing);
    EXPECT_EQ(lack(read_only.at(0), 2 * page, kBoth), Lack::kWriting);
    const FilePages shared(2, 2, PROT_READ | PROT_WRITE, MAP_SHARED);
    EXPECT_EQ(lack(shared.at(0), 2 * page, kBoth), Lack::kNothing);
    const FilePages copy(2, 2, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    EXPECT_EQ(lack(copy.at(0), 2 * page, kBoth), Lack::kNothing) << "what is written is a copy";
}

TEST(PageRights, ASealAgainstNewWritersLeavesTheOldOnesTheirRight) {
    const std::size_t page = MappedPages::size();
    const int fd = ::memfd_create("sanpoll-test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    ASSERT_EQ(::ftruncate(fd, static_cast<off_t>(page)), 0);
    void* const before = ::mmap(nullptr, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ASSERT_NE(before, MAP_FAILED);
    constexpr int kFutureWrite = 0x10;  // F_SEAL_FUTURE_WRITE
    if (::fcntl(fd, F_ADD_SEALS, kFutureWrite) == 0) {
        void* const after = ::mmap(nullptr, page, PROT_READ, MAP_SHARED, fd, 0);
        ASSERT_NE(after, MAP_FAILED);
        EXPECT_EQ(lack(before, page, kBoth), Lack::kNothing);
        EXPECT_EQ(lack(after, page, kRead), Lack::kNothing);
        EXPECT_EQ(lack(after, page, kWrite), Lack::kWriting);
        ::munmap(after, page);
    }
    ::munmap(before, page);
    ::close(fd);
}

// What a read of it would be a SIGBUS for; asked for here, it is an answer.
TEST(PageRights, WhatLiesBehindTheEndOfItsFileIsNotToBeHad) {
    if (::madvise(nullptr, 0, 22) != 0) {
        GTEST_SKIP() << "this kernel does not populate";
    }
    const std::size_t page = MappedPages::size();
    const FilePages pages(3, 2, PROT_READ | PROT_WRITE, MAP_SHARED);
    EXPECT_EQ(lack(pages.at(0), 2 * page, kBoth), Lack::kNothing);
    EXPECT_EQ(lack(pages.at(0), 3 * page, kRead), Lack::kPage);
    EXPECT_EQ(lack(pages.at(2), 1, kWrite), Lack::kPage);
}

// More than is populated by any kernel, and hardly a page of it is there.
TEST(PageRights, OfALongRangeTheEndOfItsFileIsSeen) {
    if (::madvise(nullptr, 0, 22) != 0) {
        GTEST_SKIP() << "this kernel does not populate";
    }
    const std::size_t page = MappedPages::size();
    for (const std::size_t count : {40UL, kMiB / page, 256 * kMiB / page}) {
        for (const int sharing : {MAP_SHARED, MAP_PRIVATE}) {
            const FilePages whole(count, count, PROT_READ | PROT_WRITE, sharing);
            EXPECT_EQ(lack(whole.at(0), count * page, kBoth), Lack::kNothing);
            const FilePages less(count, count - 1, PROT_READ | PROT_WRITE, sharing);
            EXPECT_EQ(lack(less.at(0), count * page, kBoth), Lack::kPage);
            EXPECT_EQ(lack(less.at(0), count * page, kRead), Lack::kPage);
            EXPECT_EQ(lack(less.at(0), (count - 1) * page, kBoth), Lack::kNothing);
            EXPECT_EQ(lack(less.at(1), (count - 2) * page, kBoth), Lack::kNothing);
        }
    }
}

TEST(PageRights, AGuardPageIsNotToBeHad) {
    constexpr int kInstallGuard = 102;  // MADV_GUARD_INSTALL, Linux 6.13
    const MappedPages pages(3);
    if (::madvise(pages.at(1), MappedPages::size(), kInstallGuard) != 0) {
        GTEST_SKIP() << "this kernel has no guard pages that no mapping shows";
    }
    EXPECT_EQ(lack(pages.at(0), 3 * MappedPages::size(), kRead), Lack::kPage);
    EXPECT_EQ(lack(pages.at(0), MappedPages::size(), kRead), Lack::kNothing);
}

// Pages of the kernel's, as a device's would be: they cannot be populated, and may be used all the same.
TEST(PageRights, OfSpecialMemoryTheMappingDecides) {
    const char* const special = mapping_named("[vvar]");
    if (special == nullptr) {
        GTEST_SKIP() << "no mapping of the kernel's pages is known here";
    }
    EXPECT_EQ(lack(special, MappedPages::size(), kRead), Lack::kNothing);
    EXPECT_EQ(lack(special, MappedPages::size(), kBoth), Lack::kWriting);
}

TEST(PageRights, SecretMemoryIsUsedAsTheMappingSays) {
    const std::size_t page = MappedPages::size();
    const int fd = static_cast<int>(::syscall(SYS_memfd_secret, O_CLOEXEC));
    void* at = MAP_FAILED;
    if (fd >= 0 && ::ftruncate(fd, static_cast<off_t>(page)) == 0) {
        at = ::mmap(nullptr, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    }
    ::close(fd);
    if (at == MAP_FAILED) {
        GTEST_SKIP() << "no secret memory here";
    }
    EXPECT_EQ(lack(at, page, kBoth), Lack::kNothing);
    ::munmap(at, page);
}

TEST(PageRights, ALongRangeIsNotTouched) {
    constexpr std::size_t kPages = 32U << 10;
    const std::size_t bytes = kPages * MappedPages::size();
    void* const at = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    ASSERT_NE(at, MAP_FAILED);
    EXPECT_EQ(lack(at, bytes, kBoth), Lack::kNothing);
    EXPECT_EQ(pages_there(static_cast<char*>(at), kPages), 0U);
    ::munmap(at, bytes);
}

TEST(PageRights, TheWordsTellWhatIsWrong) {
    for (const auto& [lacking, word] :
         {std::pair{Lack::kMapping, "not mapped"}, std::pair{Lack::kAccess, "PROT_NONE"},
          std::pair{Lack::kWriting, "MEM_WRITE"}, std::pair{Lack::kPage, "guard page"},
          std::pair{Lack::kSoundness, "broken"}, std::pair{Lack::kMemory, "control group"}}) {
        const std::string words = to_words({lacking, 0x7000}, 0x6800, 0x1000);
        EXPECT_NE(words.find(word), std::string::npos) << words;
        EXPECT_NE(words.find("[0x6800, 0x7800)"), std::string::npos) << words;
    }
    EXPECT_NE(to_words({Lack::kWriting, 0x7000}, 0x6800, 0x1000).find("at 0x7000"),
              std::string::npos);
    EXPECT_EQ(to_words({Lack::kWriting, 0}, 0x6800, 0x1000).find("at 0x"), std::string::npos);
}

// ---- on other kernels ------------------------------------------------------------------------------------------

constexpr std::uint32_t kArgument1 = offsetof(seccomp_data, args[1]);
constexpr std::uint32_t kArgument2 = offsetof(seccomp_data, args[2]);
constexpr std::uint32_t kMapQuery = _IOWR('f', 17, char[104]);

sock_filter load(std::uint32_t what) { return BPF_STMT(BPF_LD | BPF_W | BPF_ABS, what); }
sock_filter unless(std::uint32_t value, std::uint8_t skip) {
    return BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, skip);
}
sock_filter refuse(int error) {
    return BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<std::uint32_t>(error));
}
const sock_filter kAllow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
const sock_filter kNothing = BPF_STMT(BPF_JMP | BPF_JA, 0);

struct Kernel {
    bool populates;
    bool answers_queries;
    bool has_proc;
};

/// `body` as a child that such a kernel runs.
template <typename Body>
LesserKernel on(const Kernel& kernel, Body body) {
    sock_filter filter[] = {
        load(offsetof(seccomp_data, nr)),
        unless(SYS_madvise, 5),
        load(kArgument2),
        kernel.populates ? kNothing : unless(22, 1),
        kernel.populates ? kAllow : refuse(EINVAL),
        kernel.populates ? kAllow : unless(23, 1),
        kernel.populates ? kAllow : refuse(EINVAL),
        load(offsetof(seccomp_data, nr)),
        unless(SYS_ioctl, 3),
        load(kArgument1),
        kernel.answers_queries ? kNothing : unless(kMapQuery, 1),
        kernel.answers_queries ? kAllow : refuse(ENOTTY),
        load(offsetof(seccomp_data, nr)),
        unless(SYS_openat, 1),
        kernel.has_proc ? kAllow : refuse(ENOENT),
        kAllow,
    };
    return tests::under_lesser_kernel(filter, body);
}

/// Whether everything that mappings tell is told, of ranges of every length.
bool tells_rights() {
    bool right = true;
    for (const std::size_t bytes : {3 * MappedPages::size(), kMiB, 65 * kMiB}) {
        const std::size_t count = bytes / MappedPages::size();
        MappedPages pages(count);
        const auto is = [&](std::uint32_t access, Lack expected) {
            right = right && lack(pages.at(0), bytes, access) == expected;
        };
        const auto protect = [&](int access) {
            right = right && ::mprotect(pages.at(count / 2), MappedPages::size(), access) == 0;
        };
        is(kBoth, Lack::kNothing);
        protect(PROT_READ);
        is(kRead, Lack::kNothing);
        is(kWrite, Lack::kWriting);
        is(kBoth, Lack::kWriting);
        protect(PROT_NONE);
        is(kRead, Lack::kAccess);
        is(kWrite, Lack::kAccess);
        pages.unmap(count / 2, 1);
        is(kRead, Lack::kMapping);
        is(kBoth, Lack::kMapping);
    }
    return right;
}

TEST(PageRightsOnOtherKernels, AnyOfTheThreeWaysWillDo) {
    for (const Kernel& kernel :
         {Kernel{false, true, true}, Kernel{true, false, true}, Kernel{false, false, true}}) {
        EXPECT_NE(on(kernel, tells_rights), LesserKernel::kFalse)
            << "populates " << kernel.populates << ", answers queries " << kernel.answers_queries;
    }
}

TEST(PageRightsOnOtherKernels, SpecialMemoryIsFoundInTheText) {
    const char* const special = mapping_named("[vvar]");
    EXPECT_NE(on({true, false, true},
                 [&] {
                     return special == nullptr || (lack(special, 4096, kRead) == Lack::kNothing &&
                                                   lack(special, 4096, kWrite) == Lack::kWriting);
                 }),
              LesserKernel::kFalse);
}

TEST(PageRightsOnOtherKernels, WithoutProcPopulatingTells) {
    EXPECT_NE(on({true, false, false},
                 [] {
                     const MappedPages pages(3);
                     const std::size_t bytes = 3 * MappedPages::size();
                     bool right = ::madvise(nullptr, 0, 22) == 0;
                     if (!right) {
                         return true;  // not on this one
                     }
                     right = lack(pages.at(0), bytes, kBoth) == Lack::kNothing;
                     (void)::mprotect(pages.at(1), MappedPages::size(), PROT_READ);
                     right = right && lack(pages.at(0), bytes, kRead) == Lack::kNothing &&
                             lack(pages.at(0), bytes, kBoth) == Lack::kWriting;
                     (void)::mprotect(pages.at(1), MappedPages::size(), PROT_NONE);
                     return right && lack(pages.at(0), bytes, kRead) == Lack::kAccess;
                 }),
              LesserKernel::kFalse);
}

TEST(PageRightsOnOtherKernels, WithNothingAtAllMappedMemoryIsTakenToDo) {
    EXPECT_NE(on({false, false, false},
                 [] {
                     MappedPages pages(3);
                     const std::size_t bytes = 3 * MappedPages::size();
                     bool whole = lack(pages.at(0), bytes, kBoth) == Lack::kNothing;
                     (void)::mprotect(pages.at(1), MappedPages::size(), PROT_READ);
                     whole = whole && lack(pages.at(0), bytes, kBoth) == Lack::kNothing;
                     pages.unmap(1, 1);
                     return whole && lack(pages.at(0), bytes, kRead) == Lack::kMapping;
                 }),
              LesserKernel::kFalse);
}

// What many tests rely on: what is unmapped stays a fault, whatever else is mapped meanwhile, and mapping it again takes
// nothing from anybody.
TEST(MappedPagesTest, NobodyFillsAHole) {
    MappedPages pages{3};
    pages.unmap(1, 1);
    std::vector<void*> others;
    for (int i = 0; i < 200; ++i) {
        others.push_back(
            ::mmap(nullptr, MappedPages::size(), PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    }
    EXPECT_EQ(std::count(others.begin(), others.end(), pages.at(1)), 0);
    for (void* other : others) {
        EXPECT_EQ(::munmap(other, MappedPages::size()), 0);
    }
}

}  // namespace
}  // namespace sanpoll::engine::memory
