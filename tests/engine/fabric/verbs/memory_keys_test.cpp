#include "engine/fabric/verbs/memory_keys.hpp"

#include <gtest/gtest.h>

#include <set>
#include <thread>

#include "engine/memory/arena.hpp"
#include "tests/engine/fabric/verbs/fake_memory.hpp"
#include "tests/engine/memory/mapped_pages.hpp"

namespace sanpoll::engine::verbs {
namespace {

constexpr std::uint32_t kBoth = kRead | kWrite;
constexpr std::uint64_t kBase = 0x7F0012345678;

class MemoryKeysTest : public testing::Test {
protected:
    void SetUp() override { open(IBV_TRANSPORT_IB); }
    void TearDown() override {
        keys.reset();
        EXPECT_EQ(memory->count(), 0U);
        EXPECT_EQ(memory->domains, domains_before);
    }
    void open(ibv_transport_type transport) {
        keys.reset();
        device.reset();
        memory = std::make_unique<FakeMemory>(transport);
        device = memory->open();
        ASSERT_NE(device, nullptr);
        domains_before = memory->domains;
        keys = make();
        ASSERT_NE(keys, nullptr);
    }
    std::unique_ptr<MemoryKeys> make() {
        std::string error;
        return MemoryKeys::make(*device, error);
    }
    /// As RegionTable gives them out.
    static RegionRef ref_of(std::uint32_t index, std::uint32_t generation = 1) {
        return generation << 18 | (index + 1);
    }
    FakeMemory::Registered last() { return memory->newest(); }
    std::uint64_t exposed_as(std::uint32_t ref, std::uint32_t access = kBoth) {
        DeviceKey key;
        EXPECT_EQ(keys->expose(ref, kBase, 1000, access, key), Status::kOk);
        EXPECT_EQ(key.key, last().mr.rkey);
        EXPECT_EQ(key.address, last().known_as);
        return key.address;
    }

    std::unique_ptr<FakeMemory> memory;
    std::unique_ptr<Device> device;
    std::unique_ptr<MemoryKeys> keys;
    std::size_t domains_before = 0;
};

TEST_F(MemoryKeysTest, ARegionIsFoundByItsReference) {
    ASSERT_EQ(keys->add_local(ref_of(5), kBase, 1000, kBoth), Status::kOk);
    EXPECT_EQ(last().mr.addr, reinterpret_cast<void*>(kBase));
    EXPECT_EQ(last().mr.length, 1000U);
    EXPECT_EQ(last().mr.pd, keys->pd());
    EXPECT_EQ(last().known_as, kBase) << "the device counts as the process does";
    EXPECT_EQ(keys->lkey(ref_of(5)), last().mr.lkey);
    EXPECT_EQ(keys->rkey(ref_of(5)), last().mr.rkey);
    for (const std::uint32_t other : {0U, 4U, 6U, 7U, 8U, 100U, 200000U}) {
        EXPECT_EQ(keys->lkey(ref_of(other)), 0U) << other;
        EXPECT_EQ(keys->rkey(ref_of(other)), 0U) << other;
    }
    EXPECT_EQ(keys->lkey(0), 0U);
    EXPECT_EQ(keys->lkey(0xFFFFFFFF), 0U);
}

TEST_F(MemoryKeysTest, EveryPlaceOfATableHasItsOwnKey) {
    std::set<std::uint32_t> seen;
    for (const std::uint32_t index :
         {0U, 1U, 7U, 8U, 23U, 24U, 55U, 56U, 1000U, 131063U, 131064U, 200000U, (1U << 18) - 3}) {
        ASSERT_EQ(keys->add_local(ref_of(index), kBase, 1, kRead), Status::kOk) << index;
        EXPECT_EQ(keys->lkey(ref_of(index)), last().mr.lkey) << index;
        EXPECT_TRUE(seen.insert(keys->lkey(ref_of(index))).second) << index;
    }
    EXPECT_EQ(keys->local_count(), 13U);
}

TEST_F(MemoryKeysTest, RightsBecomeTheDevices) {
    ASSERT_EQ(keys->add_local(ref_of(0), kBase, 1, kRead), Status::kOk);
    EXPECT_EQ(last().access, IBV_ACCESS_REMOTE_READ);
    ASSERT_EQ(keys->add_local(ref_of(1), kBase, 1, kWrite), Status::kOk);
    EXPECT_EQ(last().access, IBV_ACCESS_LOCAL_WRITE);
    EXPECT_EQ(keys->rkey(ref_of(1)), 0U) << "the peer may not read it";
    EXPECT_NE(keys->lkey(ref_of(1)), 0U);
    ASSERT_EQ(keys->add_local(ref_of(2), kBase, 1, kBoth), Status::kOk);
    EXPECT_EQ(last().access, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ);

    (void)exposed_as(1, kRead);
    EXPECT_EQ(last().access, IBV_ACCESS_REMOTE_READ);
    (void)exposed_as(2, kWrite);
    EXPECT_EQ(last().access, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
    (void)exposed_as(3, kBoth);
    EXPECT_EQ(last().access,
              IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ);
}

TEST_F(MemoryKeysTest, OnIwarpMemoryThatIsReadIntoMayBeWrittenFromAfar) {
    open(IBV_TRANSPORT_IWARP);
    ASSERT_EQ(keys->add_local(ref_of(1), kBase, 1, kWrite), Status::kOk);
    EXPECT_EQ(last().access, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
    ASSERT_EQ(keys->add_local(ref_of(2), kBase, 1, kRead), Status::kOk);
    EXPECT_EQ(last().access, IBV_ACCESS_REMOTE_READ);
    EXPECT_EQ(exposed_as(1, kWrite), kBase);
    EXPECT_EQ(last().access,
              IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ);
}

TEST_F(MemoryKeysTest, OnIwarpThereIsASinkForAnswers) {
    open(IBV_TRANSPORT_IWARP);
    ASSERT_EQ(memory->count(), 1U);
    EXPECT_EQ(last().access, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
    const ibv_sge sink = keys->sink();
    EXPECT_EQ(sink.addr, reinterpret_cast<std::uint64_t>(last().mr.addr));
    EXPECT_EQ(sink.length, last().mr.length);
    EXPECT_EQ(sink.lkey, last().mr.lkey);
    keys->end();
    EXPECT_EQ(memory->count(), 0U);
}

TEST_F(MemoryKeysTest, ExposedMemoryHasAnotherAddressEachTime) {
    std::set<std::uint64_t> seen;
    for (std::uint32_t ref = 1; ref <= 50; ++ref) {
        const std::uint64_t address = exposed_as(ref);
        EXPECT_TRUE(seen.insert(address).second);
        EXPECT_NE(address >> 30, kBase >> 30);
        EXPECT_EQ(address & 0x3FFFFFFF, kBase & 0x3FFFFFFF) << "page by page as it lies";
        EXPECT_GT(address + 0xFFFFFFFF, address) << "the longest range fits";
    }
    EXPECT_EQ(keys->exposed_count(), 50U);
}

TEST_F(MemoryKeysTest, WhatIsRemovedIsDeregisteredOnce) {
    ASSERT_EQ(keys->add_local(ref_of(3), kBase, 1, kRead), Status::kOk);
    ASSERT_EQ(keys->add_local(ref_of(4), kBase, 1, kRead), Status::kOk);
    keys->remove_local(ref_of(3));
    EXPECT_EQ(memory->count(), 1U);
    EXPECT_EQ(keys->lkey(ref_of(3)), 0U);
    EXPECT_EQ(keys->lkey(ref_of(4)), last().mr.lkey);
    keys->remove_local(ref_of(3));
    keys->remove_local(ref_of(99999));
    EXPECT_EQ(keys->local_count(), 1U);
    ASSERT_EQ(keys->add_local(ref_of(3, 2), kBase, 1, kRead), Status::kOk);
    EXPECT_EQ(keys->lkey(ref_of(3, 2)), last().mr.lkey);
}

TEST_F(MemoryKeysTest, ConcealingEndsOneExposure) {
    (void)exposed_as(10);
    (void)exposed_as(11);
    const std::uint32_t left = last().mr.rkey;
    EXPECT_EQ(keys->conceal(10), Status::kOk);
    ASSERT_EQ(memory->count(), 1U);
    EXPECT_EQ(last().mr.rkey, left);
    EXPECT_EQ(keys->conceal(10), Status::kBadRegion);
    EXPECT_EQ(keys->conceal(12), Status::kBadRegion);
    DeviceKey key;
    EXPECT_EQ(keys->expose(11, kBase, 1, kRead, key), Status::kBadRegion);
}

TEST_F(MemoryKeysTest, ItIsKnownWhetherAnythingIsExposed) {
    ASSERT_EQ(keys->add_local(ref_of(0), kBase, 1, kRead), Status::kOk);
    EXPECT_FALSE(keys->exposes());
    (void)exposed_as(10);
    (void)exposed_as(11);
    EXPECT_TRUE(keys->exposes());
    memory->keep_with = EBUSY;
    EXPECT_EQ(keys->conceal(10), Status::kFull);
    memory->keep_with = 0;
    EXPECT_EQ(keys->conceal(10), Status::kOk);
    EXPECT_TRUE(keys->exposes());
    EXPECT_EQ(keys->conceal(11), Status::kOk);
    EXPECT_FALSE(keys->exposes());
    memory->fail_with = ENOMEM;
    DeviceKey key;
    EXPECT_EQ(keys->expose(12, kBase, 1, kRead, key), Status::kNoMemory);
    EXPECT_FALSE(keys->exposes());
}

TEST_F(MemoryKeysTest, WhatTheDeviceKeepsIsStillThere) {
    (void)exposed_as(10);
    ASSERT_EQ(keys->add_local(ref_of(3), kBase, 1, kRead), Status::kOk);
    memory->keep_with = EBUSY;
    EXPECT_EQ(keys->conceal(10), Status::kFull);
    keys->remove_local(ref_of(3));
    EXPECT_EQ(keys->local_count(), 1U);
    EXPECT_EQ(keys->add_local(ref_of(3, 2), kBase, 1, kRead), Status::kNoMemory);
    memory->keep_with = 0;
    EXPECT_EQ(keys->conceal(10), Status::kOk);
    EXPECT_EQ(keys->add_local(ref_of(3, 3), kBase, 1, kRead), Status::kOk);
    EXPECT_EQ(keys->local_count(), 1U);
    EXPECT_EQ(memory->count(), 1U);
}

TEST_F(MemoryKeysTest, ARefusalLeavesNothing) {
    const std::pair<int, Status> errors[] = {
        {ENOMEM, Status::kNoMemory},  {EPERM, Status::kNoMemory},   {EAGAIN, Status::kNoMemory},
        {EFAULT, Status::kBadRegion}, {EINVAL, Status::kBadRegion}, {ENODEV, Status::kNotOpen},
    };
    for (const auto& [error, status] : errors) {
        memory->fail_with = error;
        EXPECT_EQ(keys->add_local(ref_of(0), kBase, 1, kRead), status) << error;
        DeviceKey key;
        EXPECT_EQ(keys->expose(1, kBase, 1, kRead, key), status) << error;
        EXPECT_EQ(keys->local_count(), 0U);
        EXPECT_EQ(keys->exposed_count(), 0U);
        EXPECT_EQ(keys->lkey(ref_of(0)), 0U);
    }
    std::string error;
    EXPECT_EQ(MemoryKeys::make(*device, error), nullptr);
    EXPECT_NE(error.find("fake0"), std::string::npos);
    EXPECT_NE(error.find("max_pd"), std::string::npos);
    memory->fail_with = 0;
    EXPECT_EQ(keys->add_local(ref_of(0), kBase, 1, kRead), Status::kOk);
    (void)exposed_as(1);
}

TEST_F(MemoryKeysTest, TheEndTakesEverythingAlong) {
    std::unique_ptr<MemoryKeys> other = make();
    ASSERT_NE(other->pd(), keys->pd()) << "no key of the one is good for the other";
    for (std::uint32_t i = 0; i < 100; ++i) {
        ASSERT_EQ(keys->add_local(ref_of(i), kBase, 1, kRead), Status::kOk);
        (void)exposed_as(i);
    }
    ASSERT_EQ(other->add_local(ref_of(0), kBase, 1, kRead), Status::kOk);
    keys->end();
    EXPECT_EQ(memory->count(), 1U);
    EXPECT_EQ(keys->local_count() + keys->exposed_count(), 0U);
    EXPECT_EQ(keys->pd(), nullptr);
    EXPECT_EQ(keys->add_local(ref_of(0), kBase, 1, kRead), Status::kNotOpen);
    DeviceKey key;
    EXPECT_EQ(keys->expose(5, kBase, 1, kRead, key), Status::kNotOpen);
    EXPECT_EQ(keys->conceal(5), Status::kBadRegion);
    keys->remove_local(ref_of(1));
    keys->end();
    EXPECT_EQ(memory->count(), 1U);
    other.reset();
}

TEST_F(MemoryKeysTest, ALostDeviceTakesNoMemoryAndLetsGoOfAll) {
    ASSERT_EQ(keys->add_local(ref_of(0), kBase, 1, kRead), Status::kOk);
    (void)exposed_as(1);
    device->mark_lost();
    EXPECT_EQ(keys->add_local(ref_of(1), kBase, 1, kRead), Status::kNotOpen);
    DeviceKey key;
    EXPECT_EQ(keys->expose(2, kBase, 1, kRead, key), Status::kNotOpen);
    memory->keep_with = EIO;
    EXPECT_EQ(keys->conceal(1), Status::kOk);
    keys->remove_local(ref_of(0));
    EXPECT_EQ(keys->local_count() + keys->exposed_count(), 0U);
    memory->registered.clear();  // as the kernel does
}

// ---- registrations that are shared --------------------------------------------------------------------

using memory::Arena;
using memory::Arenas;
using memory::RegistrationCache;

class MemoryKeysArenaTest : public MemoryKeysTest {
protected:
    static const Arena& arena(bool shareable) {
        Arenas& arenas = Arenas::of_process();
        if (arenas.count() == 0) {
            memory::ArenaRules rules;
            rules.arena_bytes = memory::kArenaAlignment;
            rules.limit_bytes = 2 * memory::kArenaAlignment;
            rules.hugepages = Hugepages::kOff;
            arenas.set_rules(rules);
            memory::Refusal refusal;
            (void)arenas.make(true, 1, refusal);
            (void)arenas.make(false, 1, refusal);
        }
        return arenas.arena(shareable ? 0 : 1);
    }
};

TEST_F(MemoryKeysArenaTest, AnArenaIsRegisteredOnceAndServesWhatIsReceivedInto) {
    for (const bool shareable : {true, false}) {
        const Arena& one = arena(shareable);
        const std::size_t before = memory->count();
        ASSERT_EQ(keys->add_local(ref_of(0), one.base + 100, 1000, kWrite), Status::kOk);
        ASSERT_EQ(memory->count(), before + 1);
        EXPECT_EQ(last().mr.addr, reinterpret_cast<void*>(one.base));
        EXPECT_EQ(last().mr.length, one.size);
        EXPECT_EQ(last().access, IBV_ACCESS_LOCAL_WRITE) << "nothing for the peer";
        ASSERT_EQ(keys->add_local(ref_of(1), one.base + 5000, 1000, kWrite), Status::kOk);
        EXPECT_EQ(memory->count(), before + 1);
        EXPECT_EQ(keys->lkey(ref_of(1)), last().mr.lkey);
        EXPECT_EQ(keys->rkey(ref_of(1)), 0U);
        EXPECT_EQ(keys->local_count(), 2U);
        keys->remove_local(ref_of(0));
        keys->remove_local(ref_of(1));
        EXPECT_EQ(keys->local_count(), 0U);
        EXPECT_EQ(memory->count(), before + 1) << "it stays for the next ones";
        EXPECT_EQ(keys->lkey(ref_of(1)), 0U);
    }
}

TEST_F(MemoryKeysArenaTest, NoArenaIsEverReadableAsAWhole) {
    std::uint32_t index = 0;
    for (const bool shareable : {true, false}) {
        for (const std::uint32_t access : {std::uint32_t{kRead}, kBoth}) {
            ASSERT_EQ(keys->add_local(ref_of(index), arena(shareable).base, 1000, access),
                      Status::kOk);
            EXPECT_EQ(last().mr.length, 1000U) << "what the peer may read is registered by itself";
            EXPECT_EQ(last().access & IBV_ACCESS_REMOTE_READ, IBV_ACCESS_REMOTE_READ);
            EXPECT_EQ(keys->rkey(ref_of(index)), last().mr.rkey);
            ++index;
        }
    }
    EXPECT_EQ(memory->count(), 4U);
    while (index != 0) {
        keys->remove_local(ref_of(--index));
    }
    EXPECT_EQ(memory->count(), 0U);
}

TEST_F(MemoryKeysArenaTest, OnIwarpEveryBufferIsRegisteredByItself) {
    open(IBV_TRANSPORT_IWARP);
    const std::size_t before = memory->count();
    ASSERT_EQ(keys->add_local(ref_of(0), arena(true).base, 1000, kRead), Status::kOk);
    EXPECT_EQ(last().mr.length, 1000U);
    ASSERT_EQ(keys->add_local(ref_of(1), arena(true).base, 1000, kWrite), Status::kOk);
    EXPECT_EQ(last().mr.length, 1000U);
    EXPECT_EQ(last().access, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
    EXPECT_EQ(memory->count(), before + 2);
}

TEST_F(MemoryKeysArenaTest, WhereAnArenaCannotBePinnedItsBuffersAre) {
    const Arena& shared = arena(true);
    memory->longest = 1 << 20;
    for (std::uint32_t i = 0; i < 3; ++i) {
        ASSERT_EQ(keys->add_local(ref_of(i), shared.base + i * 4096, 1000, kWrite), Status::kOk);
        EXPECT_EQ(last().mr.length, 1000U);
    }
    EXPECT_EQ(memory->refused, 1U) << "it is not tried again and again";
    keys->remove_local(ref_of(0));
    EXPECT_EQ(memory->count(), 2U);
}

TEST_F(MemoryKeysArenaTest, WhatIsExposedHasAKeyOfItsOwn) {
    const Arena& shared = arena(true);
    ASSERT_EQ(keys->add_local(ref_of(0), shared.base, 1000, kWrite), Status::kOk);
    DeviceKey key;
    ASSERT_EQ(keys->expose(9, shared.base, 1000, kRead, key), Status::kOk);
    EXPECT_EQ(last().mr.length, 1000U);
    EXPECT_NE(key.key, memory->registered.front()->mr.rkey);
    EXPECT_EQ(keys->conceal(9), Status::kOk);
    EXPECT_EQ(memory->count(), 1U);
}

class MemoryKeysCacheTest : public MemoryKeysTest {
protected:
    void SetUp() override { start({}); }
    void TearDown() override {
        MemoryKeysTest::TearDown();
        RegistrationCache::of_process().stop();
    }
    void start(const RegistrationCache::Limits& limits) {
        keys.reset();
        RegistrationCache::of_process().stop();
        const std::string error = RegistrationCache::of_process().start(limits);
        if (!error.empty()) {
            memory.reset();
            MemoryKeysTest::SetUp();
            GTEST_SKIP() << error;
        }
        MemoryKeysTest::SetUp();
    }
    void register_once(std::size_t page, std::uint32_t access = kBoth, std::uint32_t count = 1) {
        ASSERT_EQ(keys->add_local(ref_of(0, ++generation), pages.address(page),
                                  count * tests::MappedPages::size(), access),
                  Status::kOk);
        keys->remove_local(ref_of(0, generation));
    }

    tests::MappedPages pages{16};
    std::uint32_t generation = 0;
};

TEST_F(MemoryKeysCacheTest, ARegistrationIsKeptAndFoundAgain) {
    register_once(2, kBoth, 4);
    ASSERT_EQ(memory->count(), 1U);
    const std::uint32_t key = last().mr.lkey;
    EXPECT_EQ(keys->local_count(), 0U);
    ASSERT_EQ(keys->add_local(ref_of(7), pages.address(3), 100, kWrite), Status::kOk);
    EXPECT_EQ(keys->lkey(ref_of(7)), key);
    EXPECT_EQ(keys->rkey(ref_of(7)), 0U) << "only what is to be read is announced";
    ASSERT_EQ(keys->add_local(ref_of(8), pages.address(2), 100, kRead), Status::kOk);
    EXPECT_EQ(keys->rkey(ref_of(8)), last().mr.rkey);
    EXPECT_EQ(memory->count(), 1U);
    keys->remove_local(ref_of(7));
    keys->remove_local(ref_of(8));
    EXPECT_EQ(memory->count(), 1U);
    EXPECT_EQ(keys->lkey(ref_of(7)), 0U);
}

TEST_F(MemoryKeysCacheTest, OnIwarpMoreRightsThanWantedAreNotTaken) {
    open(IBV_TRANSPORT_IWARP);
    register_once(2, kBoth);
    const std::size_t before = memory->count();
    register_once(2, kRead);
    EXPECT_EQ(memory->count(), before + 1);
    EXPECT_EQ(last().access, IBV_ACCESS_REMOTE_READ);
    register_once(2, kRead);
    EXPECT_EQ(memory->count(), before + 1);
}

TEST_F(MemoryKeysCacheTest, NewPagesAreRegisteredAnew) {
    register_once(2);
    const std::uint32_t key = last().mr.lkey;
    pages.place(2, 1);
    ASSERT_EQ(keys->add_local(ref_of(7), pages.address(2), 100, kRead), Status::kOk);
    EXPECT_NE(keys->lkey(ref_of(7)), key);
    keys->remove_local(ref_of(7));
}

TEST_F(MemoryKeysCacheTest, TheDomainsKeptRegistrationsGoBeforeIt) {
    std::unique_ptr<MemoryKeys> other = make();
    for (std::size_t i = 0; i < 8; ++i) {
        register_once(i);
    }
    ASSERT_EQ(other->add_local(ref_of(0), pages.address(0), 100, kRead), Status::kOk);
    other->remove_local(ref_of(0));
    EXPECT_EQ(memory->count(), 9U) << "none of another connection's is used";
    ASSERT_EQ(keys->add_local(ref_of(1), pages.address(0), 100, kRead), Status::kOk);
    keys->end();
    EXPECT_EQ(memory->count(), 1U);
    other->end();
    EXPECT_EQ(memory->count(), 0U);
}

TEST_F(MemoryKeysCacheTest, ExposedMemoryIsNeverKept) {
    register_once(2);
    DeviceKey key;
    ASSERT_EQ(keys->expose(9, pages.address(2), 100, kRead, key), Status::kOk);
    EXPECT_EQ(memory->count(), 2U);
    EXPECT_EQ(keys->conceal(9), Status::kOk);
    EXPECT_EQ(memory->count(), 1U);
    EXPECT_NE(last().mr.rkey, key.key);
}

TEST_F(MemoryKeysCacheTest, WhoCanPinNoMoreGivesUpWhatIsKept) {
    for (std::size_t i = 0; i < 4; ++i) {
        register_once(i);
    }
    memory->most = 4;
    register_once(9);
    EXPECT_EQ(memory->count(), 4U);
    memory->most = 0;
    EXPECT_EQ(keys->add_local(ref_of(3), pages.address(10), 100, kRead), Status::kNoMemory);
    EXPECT_EQ(memory->count(), 0U);
    EXPECT_EQ(keys->local_count(), 0U);
    memory->most = 100;
}

TEST_F(MemoryKeysCacheTest, WhatTheDeviceDoesNotLetGoIsTriedAgainAtTheEnd) {
    register_once(2);
    memory->keep_with = EBUSY;
    EXPECT_FALSE(RegistrationCache::of_process().invalidate(pages.address(2), 1));
    EXPECT_EQ(memory->count(), 1U);
    memory->keep_with = 0;
    EXPECT_EQ(RegistrationCache::of_process().counts().entries, 0U);
    keys->end();
    EXPECT_EQ(memory->count(), 0U);
}

// Keys are looked up while others are made.
TEST_F(MemoryKeysTest, LookingUpNeedsNoLock) {
    ASSERT_EQ(keys->add_local(ref_of(2), kBase, 1, kRead), Status::kOk);
    const std::uint32_t key = last().mr.lkey;
    std::atomic<bool> stop{false};
    std::atomic<std::uint32_t> looks{0};
    std::thread core([&] {
        while (!stop.load() || looks.load() < 100) {
            EXPECT_EQ(keys->lkey(ref_of(2)), key);
            (void)keys->rkey(ref_of(60));
            looks.fetch_add(1);
        }
    });
    for (std::uint32_t i = 3; i < 300; ++i) {
        EXPECT_EQ(keys->add_local(ref_of(i), kBase, 1, kRead), Status::kOk);
        if (i % 2 == 0) {
            keys->remove_local(ref_of(i));
        }
    }
    stop = true;
    core.join();
}

}  // namespace
}  // namespace sanpoll::engine::verbs
