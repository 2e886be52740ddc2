// WSPGetQOSByName. A provider without quality of service must have it all the same and say so; the
// switch then asks TCP/IP (spec, section 16). WSPConnect and the QoS codes of WSPIoctl say the same.
#include "provider/provider.hpp"

namespace sanpoll::provider {

BOOL WSPAPI wsp_get_qos_by_name(SOCKET s, LPWSABUF name, LPQOS qos, LPINT error_number) {
    (void)name;  // no template can be named, so neither is looked at
    (void)qos;
    SocketTable::Found found;
    const int error = find_socket(s, found);
    set_error(error_number, error != 0 ? error : WSAEOPNOTSUPP);
    return FALSE;
}

}  // namespace sanpoll::provider
