// WSPGetSockOpt and WSPSetSockOpt (spec, section 14).
#include "provider/options.hpp"

#include <cstring>

#include "provider/provider.hpp"

namespace sanpoll::provider {
namespace {

// Every option here is a 32-bit number.
constexpr INT kOptionBytes = 4;
static_assert(sizeof(BOOL) == kOptionBytes && sizeof(GROUP) == kOptionBytes &&
              sizeof(INT) == kOptionBytes && sizeof(DWORD) == kOptionBytes);

// WSAEINVAL is for a level that does not exist. TCP's does, but its one option, TCP_NODELAY, is the
// TCP/IP provider's affair.
int level_error(int level) noexcept {
    switch (level) {
        case WSP_SOL_SOCKET:
            return 0;
        case IPPROTO_TCP:
            return WSAENOPROTOOPT;
        default:
            return WSAEINVAL;
    }
}

// The value of an option of a socket with these settings; false if there is no such option.
bool read_option(int name, const SocketOptions& options, DWORD& value) {
    const engine::Config& config = Provider::instance().config();
    switch (name) {
        case WSP_SO_DEBUG:
            value = static_cast<DWORD>(options.debug);
            return true;
        case SO_MAX_MSG_SIZE:
            value = config.max_message;
            return true;
        case SO_MAX_RDMA_SIZE:
            value = config.max_rdma;
            return true;
        case SO_RDMA_THRESHOLD_SIZE:
            value = config.rdma_threshold;
            return true;
        case SO_GROUP_ID:
            value = 0;  // WSPSocket and WSPAccept refuse groups, so no socket is in one
            return true;
        case SO_GROUP_PRIORITY:
            value = static_cast<DWORD>(options.group_priority);
            return true;
        default:
            return false;
    }
}

}  // namespace

int WSPAPI wsp_get_sock_opt(SOCKET s, int level, int name, CHAR* value, LPINT length,
                            LPINT error_number) {
    return result(error_number, guarded([&]() -> int {
                      SocketTable::Found found;
                      if (const int error = find_socket(s, found); error != 0) {
                          return error;
                      }
                      if (const int error = level_error(level); error != 0) {
                          return error;
                      }
                      SocketOptions options;
                      {
                          const std::lock_guard lock(found.socket->mutex);
                          if (found.socket->gate.generation() != found.view.generation) {
                              return WSAENOTSOCK;
                          }
                          options = found.socket->options;
                      }
                      const EngineUse use;  // the configuration is of its start
                      if (!use.up()) {
                          return WSANOTINITIALISED;  // since we looked for the socket
                      }
                      DWORD number = 0;
                      if (!read_option(name, options, number)) {
                          return WSAENOPROTOOPT;
                      }
                      if (length == nullptr) {
                          return WSAEFAULT;
                      }
                      const INT room = *length;
                      if (room < kOptionBytes) {
                          *length = kOptionBytes;  // what it takes
                          return WSAEFAULT;
                      }
                      if (value == nullptr) {
                          return WSAEFAULT;
                      }
                      std::memcpy(value, &number, sizeof(number));
                      *length = kOptionBytes;
                      return 0;
                  }));
}

int WSPAPI wsp_set_sock_opt(SOCKET s, int level, int name, const CHAR* value, int length,
                            LPINT error_number) {
    return result(error_number, guarded([&]() -> int {
                      SocketTable::Found found;
                      if (const int error = find_socket(s, found); error != 0) {
                          return error;
                      }
                      if (const int error = level_error(level); error != 0) {
                          return error;
                      }
                      if (name != WSP_SO_DEBUG && name != SO_GROUP_PRIORITY) {
                          return WSAENOPROTOOPT;  // unknown, or only to be read
                      }
                      if (value == nullptr || length < kOptionBytes) {
                          return WSAEFAULT;
                      }
                      INT number = 0;
                      std::memcpy(&number, value, sizeof(number));
                      const std::lock_guard lock(found.socket->mutex);
                      if (found.socket->gate.generation() != found.view.generation) {
                          return WSAENOTSOCK;
                      }
                      SocketOptions& options = found.socket->options;
                      if (name == WSP_SO_DEBUG) {
                          options.debug = number != 0 ? TRUE : FALSE;
                      } else {
                          options.group_priority = number;
                      }
                      return 0;
                  }));
}

}  // namespace sanpoll::provider
