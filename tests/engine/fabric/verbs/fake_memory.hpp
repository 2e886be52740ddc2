// A device that knows memory and nothing else.
#pragma once

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "engine/fabric/verbs/device.hpp"

namespace sanpoll::engine::verbs {

/// One at a time. Checks what the verbs library does not: that a domain goes after its registrations, and
/// that everything is given back once.
class FakeMemory {
public:
    struct Registered {
        ibv_mr mr{};  // first: the library's pointer is ours
        std::uint64_t known_as = 0;
        int access = 0;
    };

    explicit FakeMemory(ibv_transport_type transport = IBV_TRANSPORT_IB) {
        current() = this;
        device_.transport_type = transport;
        device_.node_type = transport == IBV_TRANSPORT_IWARP ? IBV_NODE_RNIC : IBV_NODE_CA;
        std::snprintf(device_.name, sizeof(device_.name), "fake0");
        context_.device = &device_;
        api_.verbs.get_device_name = [](ibv_device* device) -> const char* { return device->name; };
        api_.verbs.query_device = [](ibv_context*, ibv_device_attr* attributes) {
            *attributes = {};
            attributes->max_qp = attributes->max_qp_wr = attributes->max_cqe = 1000;
            attributes->max_cq = attributes->max_mr = attributes->max_pd = 1000;
            attributes->max_sge = attributes->max_sge_rd = 8;
            attributes->max_qp_rd_atom = attributes->max_qp_init_rd_atom = 4;
            attributes->phys_port_cnt = 1;
            return 0;
        };
        api_.verbs.query_port = [](ibv_context*, std::uint8_t, ibv_port_attr* attributes) {
            attributes->max_msg_sz = 1U << 30;
            return 0;
        };
        api_.verbs.alloc_pd = [](ibv_context* context) -> ibv_pd* {
            if (current()->fail_with != 0) {
                errno = current()->fail_with;
                return nullptr;
            }
            ++current()->domains;
            return new ibv_pd{context, 0};
        };
        api_.verbs.dealloc_pd = [](ibv_pd* pd) {
            if (current()->count_in(pd) != 0) {
                return EBUSY;
            }
            --current()->domains;
            delete pd;
            return 0;
        };
        api_.verbs.reg_mr = [](ibv_pd* pd, void* address, std::size_t length, int access) {
            return current()->add(pd, address, length, reinterpret_cast<std::uint64_t>(address),
                                  access);
        };
        api_.verbs.reg_mr_iova2 = [](ibv_pd* pd, void* address, std::size_t length,
                                     std::uint64_t known_as, unsigned int access) {
            return current()->add(pd, address, length, known_as, static_cast<int>(access));
        };
        api_.verbs.dereg_mr = [](ibv_mr* mr) { return current()->remove(mr); };
    }
    FakeMemory(const FakeMemory&) = delete;
    FakeMemory& operator=(const FakeMemory&) = delete;

    [[nodiscard]] std::unique_ptr<Device> open() {
        std::string error;
        return Device::make(api_, &context_, error);
    }
    [[nodiscard]] std::size_t count_in(const ibv_pd* pd) const {
        return static_cast<std::size_t>(
            std::count_if(registered.begin(), registered.end(),
                          [pd](const auto& one) { return one->mr.pd == pd; }));
    }

    int fail_with = 0;               // errno of the next registrations
    std::size_t longest = SIZE_MAX;  // that is registered; ENOMEM beyond
    std::size_t most = SIZE_MAX;     // registrations at a time
    std::size_t refused = 0;         // for one of these two
    int keep_with = 0;               // and of the next deregistrations
    std::size_t domains = 0;         // that there are
    std::vector<std::unique_ptr<Registered>> registered;

    /// What is registered, while the cache may drop something on a thread of its own.
    [[nodiscard]] std::size_t count() const {
        const std::lock_guard lock(mutex_);
        return registered.size();
    }
    [[nodiscard]] Registered newest() const {
        const std::lock_guard lock(mutex_);
        return *registered.back();
    }

private:
    static FakeMemory*& current() {
        static FakeMemory* one = nullptr;
        return one;
    }
    ibv_mr* add(ibv_pd* pd, void* address, std::size_t length, std::uint64_t known_as, int access) {
        if (fail_with != 0) {
            errno = fail_with;
            return nullptr;
        }
        const std::lock_guard lock(mutex_);
        if (length > longest || registered.size() >= most) {
            ++refused;
            errno = ENOMEM;
            return nullptr;
        }
        auto made = std::make_unique<Registered>();
        made->mr.context = pd->context;
        made->mr.pd = pd;
        made->mr.addr = address;
        made->mr.length = length;
        made->mr.lkey = ++next_key_;
        made->mr.rkey = ++next_key_;
        made->known_as = known_as;
        made->access = access;
        registered.push_back(std::move(made));
        return &registered.back()->mr;
    }
    int remove(ibv_mr* mr) {
        if (keep_with != 0) {
            return keep_with;
        }
        const std::lock_guard lock(mutex_);  // the cache drops on a thread of its own
        const auto found = std::find_if(registered.begin(), registered.end(),
                                        [mr](const auto& one) { return &one->mr == mr; });
        if (found == registered.end()) {
            return EINVAL;
        }
        registered.erase(found);
        return 0;
    }

    mutable std::mutex mutex_;
    Api api_{};
    ibv_device device_{};
    ibv_context context_{};
    std::uint32_t next_key_ = 100;
};

}  // namespace sanpoll::engine::verbs
