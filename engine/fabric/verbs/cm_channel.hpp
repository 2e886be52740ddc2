// RDMA CM's event channel on the control thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>

#include "engine/control_thread.hpp"
#include "engine/fabric/verbs/api.hpp"

namespace sanpoll::engine::verbs {

/// A copy of an rdma_cm_event, which has been acknowledged already: its identifier may be destroyed.
struct CmEvent {
    rdma_cm_event_type type = RDMA_CM_EVENT_ADDR_RESOLVED;
    int status = 0;
    rdma_cm_id* id = nullptr;  // RDMA_CM_EVENT_CONNECT_REQUEST: a new one, the handler's to destroy
    std::uint8_t responder_resources = 0;
    std::uint8_t initiator_depth = 0;
    std::uint8_t length = 0;
    std::array<std::byte, 255> bytes{};

    [[nodiscard]] std::span<const std::byte> private_data() const noexcept {
        return {bytes.data(), length};
    }
};

/// Makes and destroys identifiers and brings each event to its identifier's handler. All on the control
/// thread, but for the constructor and abandon_in_child().
class CmChannel {
public:
    using Handler = std::function<void(const CmEvent&)>;

    CmChannel(const Api& api, ControlThread& control) : api_(api), control_(control) {}
    ~CmChannel();
    CmChannel(const CmChannel&) = delete;
    CmChannel& operator=(const CmChannel&) = delete;

    /// Returns an empty string, or why there can be no RDMA connections, with the remedy.
    [[nodiscard]] std::string open();
    /// Every identifier has been destroyed before.
    void close();

    /// nullptr and errno.
    [[nodiscard]] rdma_cm_id* create(Handler handler);
    /// Gives another handler to an identifier, or the first to one that a request has brought.
    void handle(rdma_cm_id* id, Handler handler);
    /// No event of it is brought any more. Its queue pair has been destroyed before. The handler may call
    /// this for its own identifier.
    void destroy(rdma_cm_id* id);
    /// Brings what has come by now, without waiting until the control thread looks. May be called from a
    /// handler.
    void take_events();

    [[nodiscard]] std::size_t identifiers() const noexcept { return handlers_.size(); }

private:
    void dispatch(const CmEvent& event, rdma_cm_id* listener);

    const Api& api_;
    ControlThread& control_;
    rdma_event_channel* channel_ = nullptr;
    std::unordered_map<rdma_cm_id*, std::shared_ptr<Handler>> handlers_;
};

}  // namespace sanpoll::engine::verbs
