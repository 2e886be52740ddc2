// Registering memory with rights that its pages do not give: an error of the registration, and not the end of the
// process, or of the peer's, when something is received into it.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/engine/memory/mapped_pages.hpp"
#include "tests/provider/rdma_fixture.hpp"

namespace sanpoll::test {
namespace {

using tests::MappedPages;

// Whether the registration cache is on, which remembers what memory was found to be good for.
class MemoryRightsTest : public RdmaFixture, public testing::WithParamInterface<bool> {
protected:
    Knobs knobs() const override {
        Knobs all = RdmaFixture::knobs();
        all.emplace_back("registration_cache", GetParam() ? "on" : "off");
        return all;
    }
    void SetUp() override {
        RdmaFixture::SetUp();
        pair = connected();
    }
    /// Of WSPRegisterMemory, and of WSPRegisterRdmaMemory, which must agree. What is registered is given back.
    int error_of(void* memory, std::size_t length, DWORD flags) {
        int error = 0;
        HANDLE handle = san.register_memory(pair.client.s, memory, length, flags, &error);
        if (handle != nullptr) {
            EXPECT_EQ(san.deregister_memory(pair.client.s, handle), 0);
        }
        Exposed exposed;
        const int other = san.register_rdma(pair.client.s, memory, length, flags,
                                            exposed.block.data(), &exposed.length);
        EXPECT_EQ(other, error) << "flags " << flags;
        if (other == 0) {
            EXPECT_EQ(conceal(pair.client, exposed), 0);
        }
        return error;
    }
    void expect_errors(void* memory, std::size_t length, int read, int write) {
        EXPECT_EQ(error_of(memory, length, MEM_READ), read);
        EXPECT_EQ(error_of(memory, length, MEM_WRITE), write);
        EXPECT_EQ(error_of(memory, length, MEM_READWRITE), write);
    }
    /// As the caller of a cache has to: it says so.
    void take_rights(const MappedPages& pages, std::size_t first, std::size_t count, int left) {
        const std::size_t bytes = count * MappedPages::size();
        ASSERT_EQ(::mprotect(pages.at(first), bytes, left), 0);
        if (san.cache_callback_function != nullptr) {
            EXPECT_EQ(san.cache_callback(pages.at(first), bytes), 0);
        }
    }

    Pair pair;
};

TEST_P(MemoryRightsTest, MemoryThatMayOnlyBeReadIsNotRegisteredToBeWritten) {
    for (const std::size_t count : {std::size_t{1}, std::size_t{1024}}) {
        const MappedPages pages(count);
        const std::size_t bytes = count * MappedPages::size();
        expect_errors(pages.at(0), bytes, 0, 0);
        take_rights(pages, 0, count, PROT_READ);
        expect_errors(pages.at(0), bytes, 0, WSAEFAULT);
        ASSERT_EQ(::mprotect(pages.at(0), bytes, PROT_READ | PROT_WRITE), 0);
        expect_errors(pages.at(0), bytes, 0, 0);
    }
}

TEST_P(MemoryRightsTest, MemoryWithoutAnyRightIsNotRegisteredAtAll) {
    for (const std::size_t count : {std::size_t{1}, std::size_t{1024}}) {
        const MappedPages pages(count);
        take_rights(pages, 0, count, PROT_NONE);
        expect_errors(pages.at(0), count * MappedPages::size(), WSAEFAULT, WSAEFAULT);
    }
}

TEST_P(MemoryRightsTest, OnePageInTheMiddleIsEnough) {
    for (const std::size_t count : {std::size_t{3}, std::size_t{1025}}) {
        const MappedPages pages(count);
        const std::size_t page = MappedPages::size();
        const std::size_t middle = count / 2;
        take_rights(pages, middle, 1, PROT_READ);
        expect_errors(pages.at(0), count * page, 0, WSAEFAULT);
        expect_errors(pages.at(0), middle * page + 1, 0, WSAEFAULT);
        expect_errors(pages.at(0), middle * page, 0, 0);
        expect_errors(pages.at(middle + 1) - 1, 2, 0, WSAEFAULT);
        expect_errors(pages.at(middle + 1), middle * page, 0, 0);
        take_rights(pages, middle, 1, PROT_NONE);
        expect_errors(pages.at(0), count * page, WSAEFAULT, WSAEFAULT);
    }
}

TEST_P(MemoryRightsTest, AFileThatIsMappedToBeReadCanBeSentFrom) {
    const std::size_t page = MappedPages::size();
    const int fd = ::memfd_create("sanpoll-test", MFD_CLOEXEC);
    ASSERT_EQ(::ftruncate(fd, static_cast<off_t>(page)), 0);
    ASSERT_EQ(::pwrite(fd, "words", 5, 0), 5);
    void* const file = ::mmap(nullptr, page, PROT_READ, MAP_SHARED, fd, 0);
    ::close(fd);
    ASSERT_NE(file, MAP_FAILED);
    expect_errors(file, page, 0, WSAEFAULT);
    HANDLE handle = san.register_memory(pair.client.s, file, page, MEM_READ);
    ASSERT_NE(handle, nullptr);
    Polled receive;
    Polled send;
    ASSERT_EQ(san.recv(pair.server.s, pair.server.at(0), 64, &receive), WSA_IO_PENDING);
    ASSERT_EQ(san.send(pair.client.s, file, 5, &send), WSA_IO_PENDING);
    EXPECT_EQ(san.finish(pair.client.s, &send).error, 0);
    EXPECT_EQ(san.finish(pair.server.s, &receive).bytes, 5U);
    EXPECT_EQ(std::memcmp(pair.server.at(0), "words", 5), 0);
    // It is not received into by way of another registration either.
    Polled refused;
    EXPECT_EQ(san.recv(pair.client.s, file, 64, &refused), WSAEFAULT);
    EXPECT_EQ(san.deregister_memory(pair.client.s, handle), 0);
    ::munmap(file, page);
}

TEST_P(MemoryRightsTest, ARefusalLeavesNothingBehind) {
    const MappedPages pages(1);
    take_rights(pages, 0, 1, PROT_READ);
    int error = 0;
    EXPECT_EQ(san.register_memory(pair.client.s, pages.at(0), 64, MEM_WRITE, &error), nullptr);
    EXPECT_EQ(error, WSAEFAULT);
    Polled operation;
    EXPECT_EQ(san.recv(pair.client.s, pages.at(0), 64, &operation), WSAEFAULT);
    // The size of a descriptor is told only to who asks for it.
    Exposed exposed;
    const DWORD length = exposed.length;
    EXPECT_EQ(san.register_rdma(pair.client.s, pages.at(0), 64, MEM_WRITE, exposed.block.data(),
                                &exposed.length),
              WSAEFAULT);
    EXPECT_EQ(exposed.length, length);
}

// A right that was found to be there is no other's.
TEST_P(MemoryRightsTest, EachRightIsAskedForByItself) {
    const MappedPages pages(2);
    take_rights(pages, 0, 2, PROT_READ);
    for (int i = 0; i < 3; ++i) {
        expect_errors(pages.at(0), 2 * MappedPages::size(), 0, WSAEFAULT);
        expect_errors(pages.at(1), 100, 0, WSAEFAULT);
    }
}

INSTANTIATE_TEST_SUITE_P(Cache, MemoryRightsTest, testing::Bool(),
                         [](const auto& cache) { return std::string(cache.param ? "on" : "off"); });

}  // namespace
}  // namespace sanpoll::test
