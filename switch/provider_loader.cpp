#include <dlfcn.h>

#include <cstdlib>
#include <filesystem>
#include <sanpoll/switch.hpp>
#include <string>
#include <system_error>
#include <utility>

#include "switch/provider_paths.hpp"
#include "switch/socket_handle.hpp"

namespace sanpoll_switch {
namespace {

constexpr const char* kLibraryName = "libsanpoll.so";
constexpr WORD kVersion = MAKEWORD(2, 2);

LoadError error_at(LoadStep step, int wsa_error, std::string message) {
    return {.step = step, .wsa_error = wsa_error, .message = std::move(message)};
}

std::string loader_message() {
    const char* text = ::dlerror();
    return text == nullptr ? "unknown reason" : text;
}

// The name of the first required function that is missing, or null.
const char* missing_function(const WSPPROC_TABLE& table) {
    const std::pair<const char*, bool> required[] = {
        {"WSPAccept", table.lpWSPAccept != nullptr},
        {"WSPBind", table.lpWSPBind != nullptr},
        {"WSPCleanup", table.lpWSPCleanup != nullptr},
        {"WSPCloseSocket", table.lpWSPCloseSocket != nullptr},
        {"WSPConnect", table.lpWSPConnect != nullptr},
        {"WSPDuplicateSocket", table.lpWSPDuplicateSocket != nullptr},
        {"WSPEnumNetworkEvents", table.lpWSPEnumNetworkEvents != nullptr},
        {"WSPEventSelect", table.lpWSPEventSelect != nullptr},
        {"WSPGetOverlappedResult", table.lpWSPGetOverlappedResult != nullptr},
        {"WSPGetQOSByName", table.lpWSPGetQOSByName != nullptr},
        {"WSPGetSockOpt", table.lpWSPGetSockOpt != nullptr},
        {"WSPIoctl", table.lpWSPIoctl != nullptr},
        {"WSPListen", table.lpWSPListen != nullptr},
        {"WSPRecv", table.lpWSPRecv != nullptr},
        {"WSPSend", table.lpWSPSend != nullptr},
        {"WSPSetSockOpt", table.lpWSPSetSockOpt != nullptr},
        {"WSPSocket", table.lpWSPSocket != nullptr},
    };
    for (const auto& [name, present] : required) {
        if (!present) return name;
    }
    return nullptr;
}

// 0 and the pointer, null for WSAEOPNOTSUPP; else the provider's error.
template <class Function>
int fetch_extension(const WSPPROC_TABLE& table, GUID id, Function& function) {
    static_assert(sizeof(Function) == sizeof(void*));
    Function fetched = nullptr;
    DWORD returned = 0;
    int error = 0;
    // Any socket is right for this code, also one that does not exist.
    const int result =
        table.lpWSPIoctl(INVALID_SOCKET, SIO_GET_EXTENSION_FUNCTION_POINTER, &id, sizeof id,
                         &fetched, sizeof fetched, &returned, nullptr, nullptr, nullptr, &error);
    if (result != 0) return error == WSAEOPNOTSUPP ? 0 : (error != 0 ? error : WSAEINVALIDPROVIDER);
    if (fetched == nullptr) return WSAEINVALIDPROVIDER;
    function = fetched;
    return 0;
}

struct ExtensionFailure {
    const char* name = nullptr;
    int error = 0;
};

ExtensionFailure fetch_extensions(const WSPPROC_TABLE& table, ExtensionFunctions& functions) {
    ExtensionFailure failure;
    const auto fetch = [&](const char* name, const GUID& id, auto& function) {
        if (failure.error != 0) return;
        failure = {name, fetch_extension(table, id, function)};
    };
    fetch("WSPRegisterMemory", WSAID_REGISTERMEMORY, functions.register_memory);
    fetch("WSPDeregisterMemory", WSAID_DEREGISTERMEMORY, functions.deregister_memory);
    fetch("WSPRegisterRdmaMemory", WSAID_REGISTERRDMAMEMORY, functions.register_rdma_memory);
    fetch("WSPDeregisterRdmaMemory", WSAID_DEREGISTERRDMAMEMORY, functions.deregister_rdma_memory);
    fetch("WSPRdmaWrite", WSAID_RDMAWRITE, functions.rdma_write);
    fetch("WSPRdmaRead", WSAID_RDMAREAD, functions.rdma_read);
    fetch("WSPMemoryRegistrationCacheCallback", WSAID_MEMORYREGISTRATIONCACHECALLBACK,
          functions.memory_registration_cache_callback);
    return failure;
}

}  // namespace

std::string default_library() {
    if (const char* named = std::getenv("SANPOLL_LIBRARY"); named != nullptr && *named != '\0')
        return named;
    std::error_code ignored;
    const auto program = std::filesystem::read_symlink("/proc/self/exe", ignored);
    if (!ignored) {
        const auto beside = program.parent_path().parent_path() / "lib" / kLibraryName;
        if (std::filesystem::exists(beside, ignored)) return beside.string();
    }
    return kLibraryName;
}

WSAPROTOCOL_INFOW tcpip_protocol_info() {
    WSAPROTOCOL_INFOW info{};
    info.dwServiceFlags1 = XP1_GUARANTEED_DELIVERY | XP1_GUARANTEED_ORDER | XP1_GRACEFUL_CLOSE |
                           XP1_EXPEDITED_DATA | XP1_IFS_HANDLES;
    info.dwProviderFlags = PFL_MULTIPLE_PROTO_ENTRIES | PFL_MATCHES_PROTOCOL_ZERO;
    info.ProviderId = {
        0xE70F1AA0u, 0xAB8B, 0x11CF, {0x8C, 0xA3, 0x00, 0x80, 0x5F, 0x48, 0xA1, 0x92}};
    info.dwCatalogEntryId = 1001;
    info.ProtocolChain.ChainLen = BASE_PROTOCOL;
    info.iVersion = 2;
    info.iAddressFamily = AF_INET;
    info.iMaxSockAddr = sizeof(sockaddr_in);
    info.iMinSockAddr = sizeof(sockaddr_in);
    info.iSocketType = SOCK_STREAM;
    info.iProtocol = IPPROTO_TCP;
    info.iNetworkByteOrder = BIGENDIAN;
    info.iSecurityScheme = SECURITY_PROTOCOL_NONE;
    constexpr char16_t kName[] = u"TCP/IP";
    std::char_traits<char16_t>::copy(info.szProtocol, kName, std::size(kName));
    return info;
}

LoadResult Provider::load(const LoadOptions& options) {
    // Each early return drops `provider`, whose destructor undoes the steps made so far.
    std::unique_ptr<Provider> provider(new Provider);
    const std::string path = options.library.empty() ? default_library() : options.library;
    const std::string remedy = "; set SANPOLL_LIBRARY to the path of the provider's library";

    std::error_code ignored;
    if (path.find('/') != std::string::npos && !std::filesystem::exists(path, ignored)) {
        return {nullptr,
                error_at(LoadStep::kFindLibrary, 0, "no provider library at " + path + remedy)};
    }
    provider->unload_ = options.unload;
    provider->library_ = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (provider->library_ == nullptr) {
        return {nullptr, error_at(LoadStep::kOpenLibrary, 0,
                                  "cannot load the provider: " + loader_message() + remedy)};
    }
    const auto startup =
        reinterpret_cast<LPWSPSTARTUPEX>(::dlsym(provider->library_, "WSPStartupEx"));
    if (startup == nullptr) {
        return {nullptr,
                error_at(LoadStep::kFindEntryPoint, 0,
                         path + " is no SAN service provider: it does not export WSPStartupEx" +
                             remedy)};
    }

    WSAPROTOCOL_INFOW info = tcpip_protocol_info();
    WSPUPCALLTABLEEX upcalls = upcall_table();
    if (const int error = startup(kVersion, &provider->data_, &info, &upcalls, &provider->table_);
        error != 0) {
        return {nullptr,
                error_at(LoadStep::kStartup, error,
                         "WSPStartupEx of " + path + " failed with " + wsa_error_name(error) +
                             "; the provider's own messages, if any, tell more")};
    }
    provider->started_ = true;
    if (provider->data_.wVersion != kVersion) {
        return {
            nullptr,
            error_at(LoadStep::kStartup, WSAVERNOTSUPPORTED,
                     path + " speaks version " + std::to_string(LOBYTE(provider->data_.wVersion)) +
                         "." + std::to_string(HIBYTE(provider->data_.wVersion)) +
                         " of the interface, version 2.2 is needed (WSAVERNOTSUPPORTED)")};
    }
    if (const char* missing = missing_function(provider->table_); missing != nullptr) {
        return {nullptr, error_at(LoadStep::kProcTable, WSAEINVALIDPROCTABLE,
                                  path + " lacks the required function " + missing +
                                      " (WSAEINVALIDPROCTABLE); use a complete provider")};
    }
    if (const auto failure = fetch_extensions(provider->table_, provider->extensions_);
        failure.error != 0) {
        return {nullptr, error_at(LoadStep::kExtensionFunction, failure.error,
                                  "asking " + path + " for the extension function " + failure.name +
                                      " failed with " + wsa_error_name(failure.error) +
                                      "; use a complete provider")};
    }

    provider->path_ = path;
    provider->provider_id_ = options.provider_id;
    detail::add_provider_path(options.provider_id, path);
    return {std::move(provider), {}};
}

Provider::~Provider() {
    // Only a provider that says that it is done may be unmapped: its threads run in that memory.
    bool idle = true;
    if (started_) {
        int error = 0;
        idle = table_.lpWSPCleanup != nullptr && table_.lpWSPCleanup(&error) == 0;
    }
    if (!path_.empty()) detail::remove_provider_path(provider_id_);
    if (library_ != nullptr && idle && unload_) ::dlclose(library_);
}

ProviderSocket Provider::socket(LPWSAPROTOCOL_INFOW info) const {
    const detail::HandleCapture capture;
    ProviderSocket made;
    made.descriptor = table_.lpWSPSocket(AF_INET, SOCK_STREAM, IPPROTO_TCP, info, 0,
                                         WSA_FLAG_OVERLAPPED, &made.error);
    if (made.descriptor == INVALID_SOCKET) return made;
    made.switch_handle = capture.handle();
    made.error = 0;
    return made;
}

ProviderSocket Provider::accept(SOCKET listener, sockaddr_in* peer, LPCONDITIONPROC condition,
                                DWORD_PTR callback_data) const {
    const detail::HandleCapture capture;
    ProviderSocket made;
    INT length = sizeof(sockaddr_in);
    made.descriptor = table_.lpWSPAccept(listener, reinterpret_cast<sockaddr*>(peer),
                                         peer == nullptr ? nullptr : &length, condition,
                                         callback_data, &made.error);
    if (made.descriptor == INVALID_SOCKET) return made;
    made.switch_handle = capture.handle();
    made.error = 0;
    return made;
}

int Provider::close(SOCKET descriptor) const {
    int error = 0;
    return table_.lpWSPCloseSocket(descriptor, &error) == 0 ? 0 : error;
}

}  // namespace sanpoll_switch
