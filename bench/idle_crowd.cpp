#include "bench/idle_crowd.hpp"

#include "bench/san_socket.hpp"

namespace sanpoll::bench {

void IdleCrowd::add(const sanpoll_switch::ProviderSocket& socket) {
    descriptors_.push_back(socket.descriptor);
    if (receives_ == 0) return;
    int error = 0;
    if (provider_.extensions().register_memory(socket.descriptor, memory_.data(),
                                               static_cast<DWORD>(memory_.size()), MEM_READWRITE,
                                               &error) == nullptr) {
        throw san_fault("WSPRegisterMemory", error);
    }
    for (std::size_t i = 0; i < receives_; ++i) {
        WSABUF buffer{static_cast<ULONG>(memory_.size()), memory_.data()};
        WSAOVERLAPPED& overlapped = operations_.emplace_back();
        overlapped.hEvent = reinterpret_cast<WSAEVENT>(std::uintptr_t{1});
        DWORD bytes = 0;
        DWORD flags = 0;
        provider_.table().lpWSPRecv(socket.descriptor, &buffer, 1, &bytes, &flags, &overlapped,
                                    nullptr, nullptr, &error);
        if (error != WSA_IO_PENDING) throw san_fault("WSPRecv", error);
    }
}

void IdleCrowd::close_all() {
    for (const SOCKET descriptor : descriptors_)
        provider_.close(descriptor);
    descriptors_.clear();
    operations_.clear();
}

}  // namespace sanpoll::bench
