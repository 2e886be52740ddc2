// WSPStartupEx and WSPCleanup.
#include <cstring>

#include "provider/provider.hpp"

namespace sanpoll::provider {
namespace {

constexpr WORD kVersion = 0x0202;  // the only one with the WSD extensions

[[nodiscard]] WORD by_major(WORD version) noexcept {
    // The low byte is the major number: swapped, versions compare as numbers.
    return static_cast<WORD>((version << 8) | (version >> 8));
}

void fill_table(WSPPROC_TABLE& table) noexcept {
    table = {};  // what a SAN provider does not have stays NULL
    table.lpWSPAccept = wsp_accept;
    table.lpWSPBind = wsp_bind;
    table.lpWSPCleanup = wsp_cleanup;
    table.lpWSPCloseSocket = wsp_close_socket;
    table.lpWSPConnect = wsp_connect;
    table.lpWSPDuplicateSocket = wsp_duplicate_socket;
    table.lpWSPEnumNetworkEvents = wsp_enum_network_events;
    table.lpWSPEventSelect = wsp_event_select;
    table.lpWSPGetOverlappedResult = wsp_get_overlapped_result;
    table.lpWSPGetSockOpt = wsp_get_sock_opt;
    table.lpWSPGetQOSByName = wsp_get_qos_by_name;
    table.lpWSPIoctl = wsp_ioctl;
    table.lpWSPListen = wsp_listen;
    table.lpWSPRecv = wsp_recv;
    table.lpWSPSend = wsp_send;
    table.lpWSPSetSockOpt = wsp_set_sock_opt;
    table.lpWSPSocket = wsp_socket;
}

}  // namespace

int WSPAPI wsp_cleanup(LPINT error_number) {
    return result(error_number, guarded([] { return Provider::instance().cleanup(); }));
}

}  // namespace sanpoll::provider

extern "C" int WSPAPI WSPStartupEx(WORD wVersionRequested, LPWSPDATA lpWSPData,
                                   LPWSAPROTOCOL_INFOW lpProtocolInfo,
                                   LPWSPUPCALLTABLEEX lpUpcallTable, LPWSPPROC_TABLE lpProcTable) {
    using namespace sanpoll::provider;
    (void)lpProtocolInfo;  // says that the switch is above; there is nobody else here
    if (lpWSPData == nullptr || lpProcTable == nullptr || lpUpcallTable == nullptr) {
        return WSAEFAULT;
    }
    if (by_major(wVersionRequested) < by_major(kVersion)) {
        return WSAVERNOTSUPPORTED;
    }
    const int error = guarded([&] { return Provider::instance().start(*lpUpcallTable); });
    if (error != 0) {
        return error == WSAENOBUFS ? WSAEPROVIDERFAILEDINIT : error;
    }
    *lpWSPData = {};
    lpWSPData->wVersion = kVersion;
    lpWSPData->wHighVersion = kVersion;
    static constexpr char16_t description[] = u"sanpoll: polled-mode SAN service provider";
    static_assert(sizeof(description) <= sizeof(lpWSPData->szDescription));
    std::memcpy(lpWSPData->szDescription, description, sizeof(description));
    fill_table(*lpProcTable);
    return 0;
}
