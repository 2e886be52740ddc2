// The functions of libibverbs and librdmacm, found when they are wanted and not before.
#pragma once

#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>

#include <string>

namespace sanpoll::engine::verbs {

/// The libraries are opened at run time, so that sanpoll starts on a host that has neither them nor an
/// RDMA device. What the headers define inline over a device's table of operations (ibv_post_send,
/// ibv_post_recv, ibv_poll_cq, ibv_req_notify_cq, ibv_start_poll and the like) needs no entry here. Some
/// macros and inline functions of the headers call exported functions, though (ibv_reg_mr, ibv_query_port,
/// ibv_get_device_list, ibv_query_device_ex): these are to be avoided, or the program does not link.
///
/// The members are named as the functions are, without the prefix; they mean and answer what the
/// libraries' manual pages say. Tests fill a table of their own.
struct VerbsCalls {
    decltype(&::ibv_get_device_list) get_device_list;
    decltype(&::ibv_free_device_list) free_device_list;
    decltype(&::ibv_get_device_name) get_device_name;
    decltype(&::ibv_open_device) open_device;
    decltype(&::ibv_close_device) close_device;
    decltype(&::ibv_query_device) query_device;
    // The exported function fills what ibv_port_attr began with, and leaves what was added later as it is;
    // pass a zeroed ibv_port_attr.
    int (*query_port)(ibv_context* context, std::uint8_t port, ibv_port_attr* attributes);
    decltype(&::ibv_query_gid) query_gid;
    decltype(&::ibv_get_async_event) get_async_event;
    decltype(&::ibv_ack_async_event) ack_async_event;
    decltype(&::ibv_event_type_str) event_type_str;
    decltype(&::ibv_alloc_pd) alloc_pd;
    decltype(&::ibv_dealloc_pd) dealloc_pd;
    // Flags with IBV_ACCESS_OPTIONAL_RANGE in them want reg_mr_iova2.
    ibv_mr* (*reg_mr)(ibv_pd* pd, void* address, std::size_t length, int access);
    decltype(&::ibv_reg_mr_iova2) reg_mr_iova2;
    decltype(&::ibv_dereg_mr) dereg_mr;
    decltype(&::ibv_create_comp_channel) create_comp_channel;
    decltype(&::ibv_destroy_comp_channel) destroy_comp_channel;
    decltype(&::ibv_create_cq) create_cq;
    decltype(&::ibv_destroy_cq) destroy_cq;
    decltype(&::ibv_get_cq_event) get_cq_event;
    decltype(&::ibv_ack_cq_events) ack_cq_events;
    decltype(&::ibv_query_qp) query_qp;
    decltype(&::ibv_modify_qp) modify_qp;
    decltype(&::ibv_wc_status_str) wc_status_str;
    decltype(&::ibv_fork_init) fork_init;
    // nullptr where the library is too old to have it.
    decltype(&::ibv_is_fork_initialized) is_fork_initialized;
};

struct CmCalls {
    decltype(&::rdma_create_event_channel) create_event_channel;
    decltype(&::rdma_destroy_event_channel) destroy_event_channel;
    decltype(&::rdma_create_id) create_id;
    decltype(&::rdma_destroy_id) destroy_id;
    decltype(&::rdma_bind_addr) bind_addr;
    decltype(&::rdma_resolve_addr) resolve_addr;
    decltype(&::rdma_resolve_route) resolve_route;
    decltype(&::rdma_create_qp) create_qp;
    decltype(&::rdma_destroy_qp) destroy_qp;
    decltype(&::rdma_connect) connect;
    decltype(&::rdma_accept) accept;
    decltype(&::rdma_reject) reject;
    decltype(&::rdma_listen) listen;
    decltype(&::rdma_disconnect) disconnect;
    decltype(&::rdma_notify) notify;
    decltype(&::rdma_get_cm_event) get_cm_event;
    decltype(&::rdma_ack_cm_event) ack_cm_event;
    decltype(&::rdma_event_str) event_str;
    decltype(&::rdma_migrate_id) migrate_id;
    decltype(&::rdma_set_option) set_option;
    decltype(&::rdma_get_src_port) get_src_port;
    decltype(&::rdma_get_dst_port) get_dst_port;
    decltype(&::rdma_get_devices) get_devices;
    decltype(&::rdma_free_devices) free_devices;
    decltype(&::rdma_establish) establish;  // nullptr where the library is too old to have it
};

struct Api {
    VerbsCalls verbs;
    CmCalls cm;

    /// Opens both libraries, once in the life of the process; they stay. nullptr: `error` says what is
    /// missing and how to get it. Any thread but a polling core's; blocks on the file system.
    [[nodiscard]] static const Api* load(std::string& error);
};

namespace detail {
/// As Api::load, from libraries of other names, and anew with each call.
[[nodiscard]] bool load_api(const char* verbs_library, const char* cm_library, Api& api,
                            std::string& error);
}  // namespace detail

}  // namespace sanpoll::engine::verbs
