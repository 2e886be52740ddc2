#include "engine/fabric/verbs/private_buffers.hpp"

#include <sys/mman.h>

namespace sanpoll::engine::verbs {

bool PrivateBuffers::make(const Device& device, ibv_pd* pd, std::string& error) {
    // A mapping of its own: no page of it is shared with memory that a fork or another user may touch.
    void* memory = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (memory == MAP_FAILED) {
        error =
            "there is no memory for a connection's private buffers; close connections or add "
            "memory";
        return false;
    }
    base_ = static_cast<std::byte*>(memory);
    registration_ = device.register_memory(pd, base_, kBytes, IBV_ACCESS_LOCAL_WRITE, error);
    return static_cast<bool>(registration_);
}

PrivateBuffers::~PrivateBuffers() {
    registration_.reset();
    if (base_ != nullptr) {
        ::munmap(base_, kBytes);
    }
}

}  // namespace sanpoll::engine::verbs
