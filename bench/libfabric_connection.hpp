// libfabric's `shm` provider as a Connection: tagged messages of a reliable datagram endpoint (FI_EP_RDM).
//
// Configuration: all receives are posted ahead; what the provider allows to inject is injected, which needs no
// completion; one thread, progress by spinning on the queue of completions, which is read in batches; long messages
// by one copy between the processes (cma), as the provider does by default.
#pragma once

#include <rdma/fabric.h>
#include <rdma/fi_domain.h>
#include <rdma/fi_endpoint.h>
#include <rdma/fi_tagged.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "bench/connection.hpp"
#include "bench/message_slots.hpp"
#include "bench/spin.hpp"
#include "bench/tcp_connection.hpp"

namespace sanpoll::bench {

// Why the provider cannot be used here; empty: it can.
std::string libfabric_missing();

class LibfabricConnection {
public:
    LibfabricConnection(const Descriptor& meeting, const ConnectionShape& shape,
                        const SpinRule& rule);
    LibfabricConnection(const LibfabricConnection&) = delete;
    LibfabricConnection& operator=(const LibfabricConnection&) = delete;

    void send(std::uint32_t size, std::uint64_t stamp);
    std::uint64_t receive(std::uint32_t size);
    void recycle() { post(used_); }
    void drain();

private:
    // What the provider knows an operation by; it may use `context` itself.
    struct Operation {
        fi_context2 context{};
        std::size_t length = 0;
        bool done = true;
    };
    struct Close {
        template <class Object>
        void operator()(Object* object) const noexcept {
            fi_close(&object->fid);
        }
    };
    struct FreeInfo {
        void operator()(fi_info* info) const noexcept { fi_freeinfo(info); }
    };
    template <class Object>
    using Owned = std::unique_ptr<Object, Close>;

    void open(std::size_t sends, std::size_t receives);
    void meet(const Descriptor& meeting);
    void post(std::size_t slot);
    void progress(fid_cq* queue);

    SpinRule rule_;
    MessageReader reader_;
    bool fresh_;
    std::size_t slot_bytes_;
    MessageSlots send_buffers_;
    MessageSlots receive_buffers_;
    std::vector<Operation> sends_;
    std::vector<Operation> receives_;
    std::size_t next_send_ = 0;
    std::size_t oldest_ = 0;
    std::size_t used_ = 0;

    // In the order in which they are made.
    std::unique_ptr<fi_info, FreeInfo> info_;
    Owned<fid_fabric> fabric_;
    Owned<fid_domain> domain_;
    Owned<fid_av> addresses_;
    Owned<fid_cq> sent_;
    Owned<fid_cq> received_;
    Owned<fid_ep> endpoint_;
    fi_addr_t other_ = FI_ADDR_UNSPEC;
};

}  // namespace sanpoll::bench
