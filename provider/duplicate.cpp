// WSPDuplicateSocket, and WSPSocket with the token that it gave (spec, section 13).
#include <signal.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <new>

#include "engine/log.hpp"
#include "provider/provider.hpp"

namespace sanpoll::provider {
namespace {

// ---- what goes along besides the connection: written and read here and nowhere else -------------------

struct ExportedSocket {
    std::uint32_t size = sizeof(ExportedSocket);
    std::uint32_t local_ip = 0;
    std::uint32_t local_port = 0;
    std::int32_t backlog = 0;
    SocketOptions options;
};

// With the socket's mutex held.
std::vector<std::byte> write_socket(const Socket& socket) {
    ExportedSocket exported;
    exported.local_ip = socket.local.ip;
    exported.local_port = socket.local.port;
    exported.backlog = socket.backlog;
    exported.options = socket.options;
    std::vector<std::byte> bytes(sizeof(exported));
    std::memcpy(bytes.data(), &exported, sizeof(exported));
    return bytes;
}

// With the socket's mutex held. False: these are not the words of write_socket().
bool read_socket(const std::vector<std::byte>& bytes, Socket& socket) {
    ExportedSocket exported;
    if (bytes.size() != sizeof(exported)) {
        return false;
    }
    std::memcpy(&exported, bytes.data(), sizeof(exported));
    if (exported.size != sizeof(exported) || exported.local_port > 0xFFFF) {
        return false;
    }
    socket.local = {exported.local_ip, static_cast<std::uint16_t>(exported.local_port)};
    socket.backlog = std::clamp(exported.backlog, 1, kMaxBacklog);
    socket.options = exported.options;
    return true;
}

// ---- WSPDuplicateSocket -------------------------------------------------------------------------------

// The provider's catalogue entry with the token in it.
WSAPROTOCOL_INFOW protocol_info(std::uint32_t token, DWORD catalog_entry) {
    WSAPROTOCOL_INFOW info{};
    info.dwServiceFlags1 =
        XP1_GUARANTEED_DELIVERY | XP1_GUARANTEED_ORDER | XP1_MESSAGE_ORIENTED | XP1_GRACEFUL_CLOSE;
    info.dwProviderFlags = PFL_HIDDEN;
    info.ProviderId = {
        0x8C1B64D7, 0x2F0E, 0x4B7A, {0x9E, 0x53, 0x61, 0xD4, 0x0B, 0xA8, 0x37, 0xF2}};
    info.dwCatalogEntryId = catalog_entry;
    info.ProtocolChain.ChainLen = 1;
    info.iVersion = 2;
    info.iAddressFamily = AF_INET;
    info.iMaxSockAddr = sizeof(struct sockaddr_in);
    info.iMinSockAddr = sizeof(struct sockaddr_in);
    info.iSocketType = SOCK_STREAM;
    info.iProtocol = IPPROTO_TCP;
    info.dwMessageSize = common().max_message;
    info.dwProviderReserved = token;
    static constexpr char16_t name[] = u"sanpoll";
    static_assert(sizeof(name) <= sizeof(info.szProtocol));
    std::memcpy(info.szProtocol, name, sizeof(name));
    return info;
}

// Whether a process of ours could be meant: one that exists and that we may signal, as we must be of one
// user.
bool may_take(DWORD process_id) noexcept {
    return process_id != 0 && process_id <= INT_MAX &&
           ::kill(static_cast<pid_t>(process_id), 0) == 0;
}

int duplicate_error(engine::Status status) noexcept {
    switch (status) {
        case engine::Status::kOk:
        case engine::Status::kPending:
        case engine::Status::kNoMemory:
        case engine::Status::kNoDescriptors:
        case engine::Status::kNotOpen:  // it ended while it was to be given away: WSAENOTCONN
            return wsa_error(status);
        case engine::Status::kUnreachable:
            return WSAEINVAL;  // the process has ended meanwhile
        default:
            return WSAENETDOWN;
    }
}

// Other calls find the socket in state kSwappedOut or, if it is a listener, as it was.
int export_connection(Socket& socket, std::uint32_t generation, std::uint32_t sequence,
                      DWORD process_id, std::vector<std::byte> exported, std::uint32_t& token,
                      std::optional<EngineUse>& use) {
    engine::Fabric& fabric = Provider::instance().engine().fabric();
    const engine::Status status =
        fabric.export_connection(*socket.endpoint.load(std::memory_order_acquire), sequence,
                                 static_cast<int>(process_id), std::move(exported), token);
    const bool out = status == engine::Status::kOk;
    if (out) {
        // The receives' last upcalls are made before the caller goes on.
        wait_until_gone(socket, true);
        socket.regions.reset();
    }
    engine::PostGate::View closed{};
    {
        const std::lock_guard lock(socket.mutex);
        socket.swapping = false;
        if (socket.gate.generation() == generation) {
            if (!out) {
                socket.state = State::kConnected;
            }
            return duplicate_error(status);
        }
        closed = socket.closed_while_swapping;
    }
    // It was closed meanwhile, which was left to us.
    if (!out && closed.state == engine::PostGate::State::kShut) {
        closed.state = engine::PostGate::State::kOpen;  // there is an endpoint behind the shut gate
    }
    dismantle(socket, closed, use);
    return out ? 0 : WSAENOTSOCK;
}

int export_listening(Socket& socket, std::uint32_t generation, engine::Listening& listening,
                     DWORD process_id, std::vector<std::byte> exported, std::uint32_t& token,
                     std::optional<EngineUse>& use) {
    engine::Status status = engine::Status::kNoMemory;
    try {
        status = Provider::instance().engine().fabric().export_listening(
            listening, static_cast<int>(process_id), std::move(exported), token);
    } catch (const std::bad_alloc&) {
        status = engine::Status::kNoMemory;  // nothing was begun
    }
    const bool out = status == engine::Status::kOk;
    RequestList requests;
    std::unique_ptr<engine::Listening> ended;
    engine::PostGate::View closed{};
    bool alive = false;
    {
        const std::lock_guard lock(socket.mutex);
        socket.swapping = false;
        alive = socket.gate.generation() == generation;
        closed = socket.closed_while_swapping;
        if (out) {
            requests.swap(socket.requests);
            ended.swap(socket.listening);
            if (alive) {
                socket.state = State::kSwappedOut;
                ++socket.event_version;
                socket.event = nullptr;
                socket.event_mask = 0;
                socket.recorded = 0;
            }
        }
    }
    ended.reset();
    // Their originators dial again, and are heard by the next process.
    for (const auto& request : requests) {
        request->reject(engine::Status::kMoved);
    }
    requests.clear();
    if (!alive) {
        dismantle(socket, closed, use);
        return out ? 0 : WSAENOTSOCK;
    }
    use.reset();
    wait_for_signals(socket);
    return duplicate_error(status);
}

int duplicate(SOCKET s, DWORD process_id, WSAPROTOCOL_INFOW& info) {
    SocketTable::Found found;
    if (const int error = find_socket(s, found); error != 0) {
        return error;
    }
    if (!may_take(process_id)) {
        return WSAEINVAL;
    }
    const Closing closing;  // it may be closed meanwhile, which is left to us then
    std::optional<EngineUse> use(std::in_place);
    if (!use->up()) {
        return WSANOTINITIALISED;  // since we looked for the socket
    }
    if (Provider::instance().engine().notifier().is_this_thread()) {
        engine::log(
            engine::LogLevel::kError,
            "WSPDuplicateSocket was called inside an upcall, but has to make upcalls itself "
            "before it returns; call it from another thread");
        return WSAENETDOWN;
    }
    Socket& socket = *found.socket;
    const std::uint32_t generation = found.view.generation;
    std::optional<std::uint32_t> sequence;
    std::vector<std::byte> exported;
    engine::Listening* listening = nullptr;
    DWORD catalog_entry = 0;
    {
        const std::lock_guard lock(socket.mutex);
        if (socket.gate.generation() != generation) {
            return WSAENOTSOCK;
        }
        if (socket.swapping) {
            return WSAEINVAL;
        }
        exported = write_socket(socket);
        catalog_entry = socket.catalog_entry;
        if (socket.state == State::kListening) {
            listening = socket.listening.get();
            if (listening == nullptr) {
                return WSAEINVAL;  // WSPListen is under way in another thread
            }
        } else if (socket.state == State::kConnected) {
            // From here on posts find it not connected; those that were admitted before come first.
            sequence = socket.gate.suspend(generation);
            if (!sequence) {
                return WSAENOTCONN;  // broken
            }
            socket.state = State::kSwappedOut;
        } else {
            return WSAEINVAL;
        }
        socket.swapping = true;
    }
    std::uint32_t token = 0;
    const int error = sequence ? export_connection(socket, generation, *sequence, process_id,
                                                   std::move(exported), token, use)
                               : export_listening(socket, generation, *listening, process_id,
                                                  std::move(exported), token, use);
    if (error == 0) {
        info = protocol_info(token, catalog_entry);
    }
    return error;
}

// ---- WSPSocket with a token -----------------------------------------------------------------------------

int import_error(engine::Status status) noexcept {
    switch (status) {
        case engine::Status::kOk:
        case engine::Status::kUnknownToken:
        case engine::Status::kNoMemory:
        case engine::Status::kNoDescriptors:
            return wsa_error(status);
        default:
            return WSAENETDOWN;
    }
}

// Fills a socket that is in the making.
engine::Status take_over(Socket& socket, engine::Import& import) {
    const std::uint32_t generation = socket.gate.generation();
    {
        const std::lock_guard lock(socket.mutex);
        if (!read_socket(import.passenger(), socket)) {
            return engine::Status::kUnknownToken;
        }
    }
    if (!import.listening()) {
        {
            const std::lock_guard lock(socket.mutex);
            socket.state = State::kConnected;
            socket.why = engine::Why::kHandedOver;
        }
        return import.resume(socket.owner(generation));
    }
    engine::Address local;
    {
        const std::lock_guard lock(socket.mutex);
        socket.state = State::kListening;  // requests may come at once
        local = socket.local;
    }
    std::unique_ptr<engine::Listening> listening;
    const engine::Status status = import.listen(
        local,
        [&socket, generation](std::shared_ptr<engine::IncomingConnection> request) {
            return take_request(socket, generation, std::move(request));
        },
        listening);
    const std::lock_guard lock(socket.mutex);
    socket.listening = std::move(listening);
    return status;
}

}  // namespace

int import_socket(std::uint32_t token, DWORD catalog_entry, SOCKET& descriptor) {
    // Its place first: without one the token has to be good for another try.
    Socket* const socket = make_record(descriptor, catalog_entry);
    if (socket == nullptr) {
        return WSAEMFILE;
    }
    std::unique_ptr<engine::Import> import;
    engine::Status status = engine::Status::kNoMemory;
    try {
        status = Provider::instance().engine().fabric().import_socket(token, import);
        if (status == engine::Status::kOk && !give_handle(*socket)) {
            status = engine::Status::kNoMemory;
        }
        if (status == engine::Status::kOk) {
            status = take_over(*socket, *import);
        }
    } catch (const std::bad_alloc&) {
        status = engine::Status::kNoMemory;
    }
    if (status == engine::Status::kOk) {
        finish_making(*socket);
    } else {
        abandon_making(*socket);
    }
    return import_error(status);
}

int WSPAPI wsp_duplicate_socket(SOCKET s, DWORD process_id, LPWSAPROTOCOL_INFOW info,
                                LPINT error_number) {
    return result(error_number, guarded([&]() -> int {
                      if (info != nullptr) {
                          return duplicate(s, process_id, *info);
                      }
                      SocketTable::Found found;
                      const int error = find_socket(s, found);
                      return error != 0 ? error : WSAEINVAL;
                  }));
}

}  // namespace sanpoll::provider
