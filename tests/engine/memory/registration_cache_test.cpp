#include "engine/memory/registration_cache.hpp"

#include <gtest/gtest.h>
#include <sys/syscall.h>

#include <cerrno>
#include <cstddef>
#include <map>
#include <random>
#include <set>
#include <vector>

#include "engine/memory_region.hpp"
#include "tests/engine/lesser_kernel.hpp"
#include "tests/engine/memory/mapped_pages.hpp"
#include "tests/engine/patience.hpp"
#include "tests/rings/scale.hpp"

namespace sanpoll::engine::memory {
namespace {

using tests::eventually;
using tests::MappedPages;
using Handle = RegistrationCache::Handle;

constexpr std::uint32_t kBoth = kRead | kWrite;

// A device: a registration is a number.
struct Device final : RegistrationCache::Domain {
    bool drop(void* registration) noexcept override {
        const std::lock_guard lock(mutex);
        dropped.insert(registration);
        return !refuses;
    }
    [[nodiscard]] std::size_t drops() {
        const std::lock_guard lock(mutex);
        return dropped.size();
    }
    std::mutex mutex;
    std::multiset<void*> dropped;
    bool refuses = false;
};

void* numbered(std::uintptr_t number) { return reinterpret_cast<void*>(number); }

class RegistrationCacheTest : public testing::Test {
protected:
    void SetUp() override { start({}); }
    void TearDown() override {
        cache.forget(device);
        cache.forget(other);
        cache.stop();
    }
    void start(const RegistrationCache::Limits& limits) {
        cache.stop();
        if (const std::string error = cache.start(limits); !error.empty()) {
            GTEST_SKIP() << error;
        }
    }
    /// As a connection does it. The number of what serves it, a new one if nothing is found.
    std::uintptr_t use(std::uint64_t address, std::uint64_t length, std::uint32_t access,
                       Handle* handle = nullptr, Device* where = nullptr) {
        Device& domain = where == nullptr ? device : *where;
        RegistrationCache::Found found = cache.find(domain, address, length, access);
        if (found.handle == 0) {
            found.registration = numbered(++last);
            found.handle = cache.begin(domain, address, length, access);
            if (found.handle != 0) {
                cache.complete(found.handle, found.registration);
            }
        }
        if (handle != nullptr) {
            *handle = found.handle;
        } else if (found.handle != 0) {
            cache.release(found.handle);
        }
        return reinterpret_cast<std::uintptr_t>(found.registration);
    }
    std::uintptr_t use_pages(std::size_t first, std::size_t count, std::uint32_t access = kBoth) {
        return use(pages.address(first), count * MappedPages::size(), access);
    }

    MappedPages pages{64};
    RegistrationCache cache;
    Device device;
    Device other;
    std::uintptr_t last = 0;
};

TEST_F(RegistrationCacheTest, WhatWasReleasedIsFoundAgain) {
    const std::uintptr_t first = use_pages(2, 4);
    EXPECT_EQ(use_pages(2, 4), first);
    EXPECT_EQ(use_pages(3, 1), first) << "a part of it";
    EXPECT_EQ(use(pages.address(2) + 17, 100, kRead), first);
    EXPECT_NE(use_pages(1, 2), first) << "one page too early";
    EXPECT_NE(use_pages(5, 2), first) << "one too far";
    EXPECT_EQ(device.drops(), 0U);
    EXPECT_EQ(cache.counts().hits, 3U);
    EXPECT_EQ(cache.counts().misses, 3U);
    EXPECT_EQ(cache.counts().entries, 3U);
    EXPECT_EQ(cache.counts().bytes, 8 * MappedPages::size());
}

TEST_F(RegistrationCacheTest, RightsAndDomainsAreHeeded) {
    const std::uintptr_t read = use_pages(0, 1, kRead);
    const std::uintptr_t write = use_pages(0, 1, kWrite);
    EXPECT_NE(read, write);
    const std::uintptr_t both = use_pages(0, 1, kBoth);
    EXPECT_NE(both, read);
    EXPECT_EQ(use_pages(0, 1, kRead), read);
    EXPECT_EQ(use_pages(0, 1, kWrite), write);
    EXPECT_EQ(use_pages(0, 1, kBoth), both);
    EXPECT_NE(use(pages.address(0), 8, kRead, nullptr, &other), read);
    const std::uintptr_t wide = use_pages(4, 4, kBoth);
    EXPECT_EQ(use_pages(5, 1, kRead), wide);
    EXPECT_EQ(use_pages(5, 1, kWrite), wide);
    EXPECT_EQ(cache.find(device, pages.address(5), 1, kWrite, true).handle, 0U)
        << "more rights than wanted";
}

TEST_F(RegistrationCacheTest, EachWayOfChangingTheMappingEndsIt) {
    const auto changes = std::vector<std::function<void()>>{
        [&] {
            pages.unmap(3, 1);
            pages.place(3, 1);
        },
        [&] { pages.place(2, 1); },
        [&] { pages.discard(4, 1); },
        [&] {
            pages.move(5, 20, 1);
            pages.place(5, 1);
        },
        [&] { (void)cache.invalidate(pages.address(5) + 4095, 1); },
    };
    for (std::size_t i = 0; i < changes.size(); ++i) {
        std::uintptr_t before = 0;
        // What was discarded lately is not kept.
        ASSERT_TRUE(eventually([&] {
            before = use_pages(2, 4);
            return use_pages(2, 4) == before;
        }));
        const std::uintptr_t beside = use_pages(40, 1);
        changes[i]();
        EXPECT_NE(use_pages(2, 4), before) << i;
        EXPECT_EQ(use_pages(40, 1), beside) << i;
        EXPECT_TRUE(eventually([&] {
            const std::lock_guard lock(device.mutex);
            return device.dropped.count(numbered(before)) == 1;
        })) << i;
    }
}

TEST_F(RegistrationCacheTest, WhatIsInUseIsDroppedWhenItIsReleased) {
    Handle handle = 0;
    const std::uintptr_t used = use(pages.address(2), 100, kRead, &handle);
    ASSERT_NE(handle, 0U);
    pages.place(2, 1);
    EXPECT_NE(use(pages.address(2), 100, kRead), used);
    EXPECT_EQ(device.dropped.count(numbered(used)), 0U);
    cache.release(handle);
    EXPECT_EQ(device.dropped.count(numbered(used)), 1U);
}

TEST_F(RegistrationCacheTest, TheCallbackDropsAllThatOverlapsBeforeItReturns) {
    (void)use_pages(0, 2);
    (void)use_pages(1, 2);
    const std::uintptr_t apart = use_pages(4, 1);
    (void)use(pages.address(1), 10, kRead, nullptr, &other);
    EXPECT_TRUE(cache.invalidate(pages.address(1), 1));
    EXPECT_EQ(device.drops(), 2U);
    EXPECT_EQ(other.drops(), 1U);
    EXPECT_EQ(use_pages(4, 1), apart);
    EXPECT_TRUE(cache.invalidate(0, 0));
    EXPECT_TRUE(cache.invalidate(pages.address(30), 100)) << "nothing is there";
    device.refuses = true;
    EXPECT_FALSE(cache.invalidate(0, ~0ULL)) << "it could not be released";
    EXPECT_EQ(device.drops(), 3U);
    EXPECT_EQ(cache.counts().entries, 0U);
}

TEST_F(RegistrationCacheTest, TheLeastRecentlyUsedGoesFirst) {
    start({1 << 30, 4});
    std::vector<std::uintptr_t> made;
    for (std::size_t i = 0; i < 4; ++i) {
        made.push_back(use_pages(2 * i, 1));
    }
    EXPECT_EQ(use_pages(0, 1), made[0]);  // page 2 is now the oldest
    (void)use_pages(20, 1);
    EXPECT_EQ(device.drops(), 1U);
    EXPECT_EQ(device.dropped.count(numbered(made[1])), 1U);
    EXPECT_EQ(use_pages(0, 1), made[0]);
    EXPECT_EQ(use_pages(4, 1), made[2]);
    EXPECT_EQ(use_pages(6, 1), made[3]);
    EXPECT_EQ(cache.counts().entries, 4U);
    EXPECT_EQ(cache.counts().evicted, 1U);
}

TEST_F(RegistrationCacheTest, BytesAreBoundedToo) {
    start({10 * MappedPages::size(), 100});
    const std::uintptr_t small = use_pages(0, 2);
    (void)use_pages(10, 4);
    (void)use_pages(20, 4);
    EXPECT_EQ(use_pages(0, 2), small);
    (void)use_pages(30, 5);
    EXPECT_EQ(device.drops(), 2U) << "one was not enough";
    EXPECT_EQ(cache.counts().bytes, 7 * MappedPages::size());
    const std::uintptr_t large = use_pages(40, 11);
    EXPECT_NE(use_pages(40, 11), large) << "more than the whole is not kept";
}

TEST_F(RegistrationCacheTest, WhatCanNeverBeKeptDrivesNothingOut) {
    start({10 * MappedPages::size(), 100});
    const std::uintptr_t kept = use_pages(0, 1);
    (void)use_pages(20, 11);
    EXPECT_EQ(use_pages(0, 1), kept);
}

TEST_F(RegistrationCacheTest, WhatIsInUseIsNotEvicted) {
    start({1 << 30, 2});
    Handle handles[3];
    const std::uintptr_t first = use(pages.address(0), 10, kRead, &handles[0]);
    (void)use(pages.address(2), 10, kRead, &handles[1]);
    (void)use(pages.address(4), 10, kRead, &handles[2]);
    EXPECT_EQ(handles[2], 0U) << "there is no room for a third one";
    EXPECT_EQ(device.drops(), 0U);
    cache.release(handles[0]);
    EXPECT_EQ(use(pages.address(0), 10, kRead), first);
    cache.release(handles[1]);
}

TEST_F(RegistrationCacheTest, PinnedMemoryIsGivenBackOnDemand) {
    (void)use_pages(0, 1);
    (void)use_pages(2, 1);
    (void)use_pages(4, 1);
    EXPECT_TRUE(cache.shrink(MappedPages::size() + 1));
    EXPECT_EQ(device.drops(), 2U);
    EXPECT_EQ(device.dropped.count(numbered(3)), 0U);
    EXPECT_TRUE(cache.shrink(1));
    EXPECT_FALSE(cache.shrink(1));
}

TEST_F(RegistrationCacheTest, ADomainTakesItsRegistrationsAlong) {
    (void)use_pages(0, 1);
    (void)use_pages(1, 1);
    const std::uintptr_t others = use(pages.address(0), 10, kRead, nullptr, &other);
    cache.forget(device);
    EXPECT_EQ(device.drops(), 2U);
    EXPECT_EQ(cache.counts().entries, 1U);
    EXPECT_EQ(use(pages.address(0), 10, kRead, nullptr, &other), others);
}

TEST_F(RegistrationCacheTest, MemoryOfAFileIsNotKept) {
    ASSERT_EQ(::mmap(pages.at(3), 4096, PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
              pages.at(3));
    *pages.at(3) = 1;
    const std::uintptr_t first = use_pages(3, 1);
    EXPECT_NE(use_pages(3, 1), first);
    EXPECT_EQ(device.drops(), 2U) << "but given back";
}

TEST_F(RegistrationCacheTest, ARegistrationThatFailsLeavesNothing) {
    const Handle handle = cache.begin(device, pages.address(0), 100, kRead);
    ASSERT_NE(handle, 0U);
    cache.cancel(handle);
    EXPECT_EQ(cache.counts().entries, 0U);
    EXPECT_EQ(cache.find(device, pages.address(0), 100, kRead).handle, 0U);
    EXPECT_EQ(device.drops(), 0U);
}

TEST_F(RegistrationCacheTest, AChangeWhileItIsRegisteredEndsIt) {
    const Handle handle = cache.begin(device, pages.address(0), 100, kRead);
    ASSERT_NE(handle, 0U);
    EXPECT_EQ(cache.find(device, pages.address(0), 100, kRead).handle, 0U) << "it is not there yet";
    pages.place(0, 1);
    cache.complete(handle, numbered(7));
    EXPECT_EQ(cache.find(device, pages.address(0), 100, kRead).handle, 0U);
    cache.release(handle);
    EXPECT_EQ(device.dropped.count(numbered(7)), 1U);
}

TEST_F(RegistrationCacheTest, WhetherMemoryIsFitIsKeptUntilItChanges) {
    int asked = 0;
    const auto fit = [&](std::uint64_t address, std::uint64_t length, std::uint32_t access) {
        return cache.known_fit(address, length, access) ||
               cache.note_fit(address, length, access, [&] {
                   ++asked;
                   return true;
               });
    };
    EXPECT_TRUE(fit(pages.address(0), 8192, kRead));
    EXPECT_TRUE(fit(pages.address(0) + 5, 8000, kRead));
    EXPECT_EQ(asked, 1);
    EXPECT_TRUE(fit(pages.address(1), 8192, kRead));
    EXPECT_EQ(asked, 2);
    EXPECT_FALSE(cache.known_fit(pages.address(0), 8192, kWrite)) << "nobody has asked for that";
    EXPECT_TRUE(fit(pages.address(0), 8192, kRead | kWrite));
    EXPECT_EQ(asked, 3);
    for (const std::uint32_t access : {kRead, kWrite}) {
        EXPECT_TRUE(fit(pages.address(0), 8192, access));
    }
    EXPECT_EQ(asked, 3) << "both are more than one";
    pages.unmap(1, 1);
    EXPECT_FALSE(cache.known_fit(pages.address(0), 8192, kRead));
    EXPECT_FALSE(cache.note_fit(pages.address(0), 8192, kRead, [] { return false; }));
    EXPECT_FALSE(cache.known_fit(pages.address(0), 8192, kRead));
    EXPECT_EQ(cache.counts().bytes, 0U) << "nothing is pinned";
}

TEST_F(RegistrationCacheTest, WhoTakesRightsAwaySaysSo) {
    EXPECT_TRUE(cache.note_fit(pages.address(0), 8192, kWrite, [] { return true; }));
    ASSERT_EQ(::mprotect(pages.at(0), MappedPages::size(), PROT_READ), 0);
    EXPECT_TRUE(cache.invalidate(pages.address(0), MappedPages::size()));
    EXPECT_FALSE(cache.known_fit(pages.address(0), 8192, kWrite));
}

TEST_F(RegistrationCacheTest, OffItKeepsNothing) {
    cache.stop();
    EXPECT_FALSE(cache.on());
    EXPECT_EQ(cache.find(device, pages.address(0), 1, kRead).handle, 0U);
    EXPECT_EQ(cache.begin(device, pages.address(0), 1, kRead), 0U);
    EXPECT_TRUE(cache.invalidate(0, ~0ULL));
    EXPECT_FALSE(cache.shrink(1));
    cache.forget(device);
    start({});
    EXPECT_TRUE(cache.on());
    const std::uintptr_t first = use_pages(0, 1);
    EXPECT_EQ(use_pages(0, 1), first);
}

// As in a container whose profile does not allow it.
TEST(RegistrationCacheWithoutWatch, ItStaysOffAndSaysWhatIsMissing) {
    sock_filter no_userfaultfd[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_userfaultfd, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const auto outcome = tests::under_lesser_kernel(no_userfaultfd, [] {
        RegistrationCache cache;
        const std::string error = cache.start({});
        const bool told = error.find("userfaultfd") != std::string::npos &&
                          error.find("seccomp") != std::string::npos;
        Device device;
        return told && !cache.on() && cache.begin(device, 4096, 4096, kRead) == 0;
    });
    if (outcome == tests::LesserKernel::kHere) {
        GTEST_SKIP() << "no seccomp filter can be set here";
    }
    EXPECT_EQ(outcome, tests::LesserKernel::kTrue);
}

// Every page has a life, which ends when its mapping changes. Whatever is found must have been registered in the
// present lives of all its pages.
TEST_F(RegistrationCacheTest, NothingStaleIsEverFound) {
    constexpr std::size_t kPages = 64;
    // One thread: what it discards is gone when it goes on.
    start({40 * MappedPages::size(), 24, 0});
    const std::uint64_t sequences = tests::scaled(1000);
    std::vector<std::uint64_t> lives(kPages);
    std::map<void*, std::vector<std::uint64_t>> registered;  // the lives of all pages then
    std::mt19937_64 random(17);
    std::uint64_t hits = 0;
    std::vector<Handle> held;
    for (std::uint64_t sequence = 0; sequence < sequences; ++sequence) {
        for (int step = 0; step < 12; ++step) {
            // The lower half lives, pages of the upper one are moved there.
            const std::size_t first = random() % (kPages / 2 - 4);
            const std::size_t count = 1 + random() % 3;
            const std::uint64_t end = first + count;
            const auto access = static_cast<std::uint32_t>(1 + random() % 3);
            const std::uint64_t what = random() % 100;
            if (what < 88) {
                auto found =
                    cache.find(device, pages.address(first), count * MappedPages::size(), access);
                if (found.handle != 0) {
                    ++hits;
                    const auto& then = registered.at(found.registration);
                    for (std::size_t page = first; page < end; ++page) {
                        ASSERT_EQ(then[page], lives[page]) << "page " << page;
                    }
                } else {
                    found.handle = cache.begin(device, pages.address(first),
                                               count * MappedPages::size(), access);
                    if (found.handle != 0) {
                        registered[numbered(++last)] = lives;
                        cache.complete(found.handle, numbered(last));
                    }
                }
                if (found.handle != 0) {
                    held.push_back(found.handle);
                }
                while (held.size() > random() % 8) {
                    const std::size_t victim = random() % held.size();
                    cache.release(held[victim]);
                    held.erase(held.begin() + static_cast<std::ptrdiff_t>(victim));
                }
                continue;
            }
            if (what < 91) {
                pages.unmap(first, count);
                pages.place(first, count);
            } else if (what < 94) {
                pages.place(first, count);
            } else if (what < 97) {
                pages.discard(first, count);
            } else if (what < 99) {
                pages.place(first + kPages / 2, count);
                pages.move(first + kPages / 2, first, count);
            } else {
                (void)cache.invalidate(pages.address(first), count * MappedPages::size());
            }
            for (std::size_t page = first; page < end; ++page) {
                ++lives[page];
            }
        }
    }
    for (const Handle handle : held) {
        cache.release(handle);
    }
    EXPECT_GT(hits, sequences) << "or nothing was tried";
}

// Threads that register, and change their own memory meanwhile, each in a domain of its own; all in one cache.
TEST_F(RegistrationCacheTest, ThreadsDoNotDisturbEachOther) {
    start({1 << 30, 32});
    const std::uint64_t rounds = tests::scaled(3000);
    std::vector<std::thread> threads;
    std::atomic<std::uint64_t> wrong{0};
    std::atomic<std::uint64_t> hits{0};
    for (std::uint64_t t = 0; t < 3; ++t) {
        threads.emplace_back([&, t] {
            MappedPages mine{16};
            Device domain;
            std::vector<std::uint64_t> lives(16);
            std::map<void*, std::vector<std::uint64_t>> registered;
            std::mt19937_64 random(t);
            std::uintptr_t number = 0;
            // On until something was found: nothing is while the thread that hears of changes has no processor.
            for (std::uint64_t round = 0;
                 round < rounds || (hits.load() == 0 && round < 1000 * rounds); ++round) {
                const std::size_t page = random() % 16;
                if (random() % 4 == 0) {
                    mine.place(page, 1);
                    ++lives[page];
                    continue;
                }
                auto found = cache.find(domain, mine.address(page), 4096, kRead);
                if (found.handle != 0) {
                    hits.fetch_add(1);
                    wrong.fetch_add(registered.at(found.registration)[page] != lives[page]);
                } else {
                    found.handle = cache.begin(domain, mine.address(page), 4096, kRead);
                    if (found.handle != 0) {
                        registered[numbered(++number)] = lives;
                        cache.complete(found.handle, numbered(number));
                    }
                }
                if (found.handle != 0) {
                    cache.release(found.handle);
                }
                if (random() % 100 == 0) {
                    (void)cache.invalidate(mine.address(random() % 16), 8192);
                }
            }
            cache.forget(domain);
            std::set<void*> all(domain.dropped.begin(), domain.dropped.end());
            wrong.fetch_add(domain.dropped.size() != number);  // each once
            wrong.fetch_add(all.size() != number);
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    EXPECT_EQ(wrong.load(), 0U);
    EXPECT_GT(hits.load(), 0U);
    EXPECT_EQ(cache.counts().entries, 0U);
}

}  // namespace
}  // namespace sanpoll::engine::memory
