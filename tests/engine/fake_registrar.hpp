// A device that is a list of what it was told.
#pragma once

#include <cstdint>
#include <functional>
#include <map>

#include "engine/memory_registrar.hpp"

namespace sanpoll::engine {

/// One thread at a time, as under a socket's lock.
class FakeRegistrar final : public MemoryRegistrar {
public:
    struct Range {
        std::uint64_t address;
        std::uint64_t length;
        std::uint32_t access;
    };
    Status answer = Status::kOk;          // to the next registrations
    Status conceal_answer = Status::kOk;  // to the next conceal() of something known
    DeviceKey next_key{0x5A0000001000, 0xABCD01};
    std::function<void()> before_local = [] {};
    std::map<RegionRef, Range> local;
    std::map<std::uint32_t, Range> exposed;

    Status add_local(RegionRef ref, std::uint64_t address, std::uint64_t length,
                     std::uint32_t access) override {
        before_local();
        if (answer == Status::kOk) {
            local[ref] = {address, length, access};
        }
        return answer;
    }
    void remove_local(RegionRef ref) noexcept override { local.erase(ref); }
    Status expose(std::uint32_t ref, std::uint64_t address, std::uint64_t length,
                  std::uint32_t access, DeviceKey& key) override {
        if (answer == Status::kOk) {
            exposed[ref] = {address, length, access};
            key = next_key;
        }
        return answer;
    }
    Status conceal(std::uint32_t ref) noexcept override {
        if (exposed.count(ref) == 0) {
            return Status::kBadRegion;
        }
        if (conceal_answer == Status::kOk) {
            exposed.erase(ref);
        }
        return conceal_answer;
    }
};

}  // namespace sanpoll::engine
