// WSPStartupEx and WSPCleanup.
#include <elf.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "tests/provider/child_process.hpp"
#include "tests/provider/provider_fixture.hpp"

namespace sanpoll::test {
namespace {

// Starts by hand, with every argument of its own.
class StartupTest : public testing::Test {
protected:
    void SetUp() override {
        RecordingSwitch::instance().reset();
        upcalls = RecordingSwitch::instance().table();
        // What the provider must overwrite.
        std::memset(&table, 0x5A, sizeof(table));
        std::memset(&data, 0x5A, sizeof(data));
    }
    void TearDown() override {
        for (; started > 0; --started) {
            INT error = 0;
            EXPECT_EQ(table.lpWSPCleanup(&error), 0);
        }
        EXPECT_EQ(RecordingSwitch::instance().open_handles(), 0U);
        EXPECT_EQ(RecordingSwitch::instance().violations(), std::vector<std::string>{});
    }

    int start(WORD version = MAKEWORD(2, 2)) {
        WSAPROTOCOL_INFOW info{};
        const int error = Calls::startup()(version, &data, &info, &upcalls, &table);
        started += error == 0 ? 1 : 0;
        return error;
    }
    int cleanup() {
        INT error = 0;
        const int result = table.lpWSPCleanup(&error);
        started -= result == 0 ? 1 : 0;
        return result == 0 ? 0 : error;
    }

    WSPUPCALLTABLEEX upcalls{};
    WSPPROC_TABLE table{};
    WSPDATA data{};
    int started = 0;
};

TEST_F(StartupTest, VersionBelow22IsNotSupported) {
    for (const WORD version : {0, MAKEWORD(1, 0), MAKEWORD(1, 1), MAKEWORD(1, 9), MAKEWORD(2, 0),
                               MAKEWORD(2, 1), MAKEWORD(0, 255)}) {
        EXPECT_EQ(start(version), WSAVERNOTSUPPORTED) << version;
    }
}

TEST_F(StartupTest, RefusedVersionIsNoStart) {
    ASSERT_EQ(start(), 0);
    ASSERT_EQ(start(MAKEWORD(1, 1)), WSAVERNOTSUPPORTED);
    EXPECT_EQ(cleanup(), 0);
    EXPECT_EQ(cleanup(), WSANOTINITIALISED);
}

TEST_F(StartupTest, Version22IsAnsweredWith22) {
    ASSERT_EQ(start(MAKEWORD(2, 2)), 0);
    EXPECT_EQ(data.wVersion, MAKEWORD(2, 2));
    EXPECT_EQ(data.wHighVersion, MAKEWORD(2, 2));
}

TEST_F(StartupTest, HigherVersionIsAnsweredWith22) {
    for (const WORD version :
         {MAKEWORD(2, 3), MAKEWORD(3, 0), MAKEWORD(3, 1), MAKEWORD(255, 255)}) {
        ASSERT_EQ(start(version), 0) << version;
        EXPECT_EQ(data.wVersion, MAKEWORD(2, 2));
        EXPECT_EQ(data.wHighVersion, MAKEWORD(2, 2));
    }
}

TEST_F(StartupTest, DescriptionIsTerminatedText) {
    ASSERT_EQ(start(), 0);
    const auto* end =
        std::find(std::begin(data.szDescription), std::end(data.szDescription), u'\0');
    EXPECT_NE(end, std::end(data.szDescription));
    EXPECT_NE(end, std::begin(data.szDescription));
}

TEST_F(StartupTest, NullDataIsAFault) {
    WSAPROTOCOL_INFOW info{};
    EXPECT_EQ(Calls::startup()(MAKEWORD(2, 2), nullptr, &info, &upcalls, &table), WSAEFAULT);
}

TEST_F(StartupTest, NullProcTableIsAFault) {
    WSAPROTOCOL_INFOW info{};
    EXPECT_EQ(Calls::startup()(MAKEWORD(2, 2), &data, &info, &upcalls, nullptr), WSAEFAULT);
}

TEST_F(StartupTest, NullUpcallTableIsAFault) {  // project decision
    WSAPROTOCOL_INFOW info{};
    EXPECT_EQ(Calls::startup()(MAKEWORD(2, 2), &data, &info, nullptr, &table), WSAEFAULT);
}

TEST_F(StartupTest, TableHas17FunctionsInTheirSlotsAndNullElsewhere) {
    ASSERT_EQ(start(), 0);
    void* slots[30];
    static_assert(sizeof(slots) == sizeof(table));
    std::memcpy(slots, &table, sizeof(slots));
    const std::vector<int> required{1, 4, 6, 7, 8, 9, 10, 11, 12, 15, 16, 17, 19, 20, 24, 27, 29};
    ASSERT_EQ(required.size(), 17U);
    for (int slot = 1; slot <= 30; ++slot) {
        const bool needed = std::find(required.begin(), required.end(), slot) != required.end();
        EXPECT_EQ(slots[slot - 1] != nullptr, needed) << "slot " << slot;
    }
    std::vector<void*> functions(std::begin(slots), std::end(slots));
    std::erase(functions, nullptr);
    std::sort(functions.begin(), functions.end());
    EXPECT_EQ(std::unique(functions.begin(), functions.end()), functions.end());
}

TEST_F(StartupTest, FunctionsOfTheTableAreWhatTheirSlotsSay) {
    ASSERT_EQ(start(), 0);
    // Slots 15 and 16 break the alphabet's order; their return values tell them apart.
    INT error = 0;
    EXPECT_EQ(table.lpWSPGetSockOpt(INVALID_SOCKET, 0, 0, nullptr, nullptr, &error), SOCKET_ERROR);
    EXPECT_EQ(error, WSAENOTSOCK);
    error = 0;
    EXPECT_EQ(table.lpWSPGetQOSByName(INVALID_SOCKET, nullptr, nullptr, &error), 0);
    EXPECT_EQ(error, WSAENOTSOCK);
}

TEST_F(StartupTest, OnlyTheCleanupThatBalancesTheLastStartEndsIt) {
    ASSERT_EQ(start(), 0);
    ASSERT_EQ(start(), 0);
    ASSERT_EQ(start(), 0);
    EXPECT_EQ(cleanup(), 0);
    EXPECT_EQ(cleanup(), 0);
    INT error = 0;
    const SOCKET s = table.lpWSPSocket(AF_INET, SOCK_STREAM, IPPROTO_TCP, nullptr, 0,
                                       WSA_FLAG_OVERLAPPED, &error);
    EXPECT_NE(s, INVALID_SOCKET);
    EXPECT_EQ(cleanup(), 0);
    EXPECT_EQ(table.lpWSPCloseSocket(s, &error), SOCKET_ERROR);
    EXPECT_EQ(error, WSANOTINITIALISED);
}

TEST_F(StartupTest, CleanupWithoutStartIsNotInitialised) {
    ASSERT_EQ(start(), 0);
    ASSERT_EQ(cleanup(), 0);
    EXPECT_EQ(cleanup(), WSANOTINITIALISED);
}

TEST_F(StartupTest, CallsOutsideStartAndCleanupAreNotInitialised) {  // project decision
    ASSERT_EQ(start(), 0);
    ASSERT_EQ(cleanup(), 0);
    Calls san;
    san.table = table;
    int error = 0;
    (void)san.socket(&error);
    EXPECT_EQ(error, WSANOTINITIALISED);
    (void)san.accept(1, &error);
    EXPECT_EQ(error, WSANOTINITIALISED);
    Polled operation;
    char byte = 0;
    INT length = 4;
    WSANETWORKEVENTS events{};
    WSAPROTOCOL_INFOW info{};
    DWORD returned = 0;
    EXPECT_EQ(san.bind(1, fresh_address()), WSANOTINITIALISED);
    EXPECT_EQ(san.listen(1, 1), WSANOTINITIALISED);
    EXPECT_EQ(san.connect(1, fresh_address()), WSANOTINITIALISED);
    EXPECT_EQ(san.event_select(1, nullptr, 0), WSANOTINITIALISED);
    EXPECT_EQ(san.enum_events(1, nullptr, &events), WSANOTINITIALISED);
    EXPECT_EQ(san.close(1), WSANOTINITIALISED);
    EXPECT_EQ(san.send(1, &byte, 1, &operation), WSANOTINITIALISED);
    EXPECT_EQ(san.recv(1, &byte, 1, &operation), WSANOTINITIALISED);
    EXPECT_EQ(san.overlapped_result(1, &operation, 0).error, WSANOTINITIALISED);
    EXPECT_EQ(san.ioctl(1, SIO_ADDRESS_LIST_QUERY, nullptr, 0, nullptr, 0, &returned),
              WSANOTINITIALISED);
    EXPECT_EQ(san.get_option(1, WSP_SOL_SOCKET, SO_MAX_MSG_SIZE, &byte, &length),
              WSANOTINITIALISED);
    EXPECT_EQ(san.set_option(1, WSP_SOL_SOCKET, WSP_SO_DEBUG, &byte, 4), WSANOTINITIALISED);
    EXPECT_EQ(san.duplicate(1, 1, &info), WSANOTINITIALISED);
    EXPECT_EQ(san.qos_by_name(1, nullptr, nullptr), WSANOTINITIALISED);
}

TEST_F(StartupTest, ItCanBeStartedAgainAfterTheLastCleanup) {
    for (int round = 0; round < 10; ++round) {
        ASSERT_EQ(start(), 0);
        INT error = 0;
        const SOCKET s = table.lpWSPSocket(AF_INET, SOCK_STREAM, IPPROTO_TCP, nullptr, 0,
                                           WSA_FLAG_OVERLAPPED, &error);
        EXPECT_NE(s, INVALID_SOCKET);
        EXPECT_EQ(table.lpWSPCloseSocket(s, &error), 0);
        ASSERT_EQ(cleanup(), 0);
    }
}

SOCKET second_table_handle = INVALID_SOCKET;

TEST_F(StartupTest, TheLatestUpcallTableIsUsed) {
    ASSERT_EQ(start(), 0);
    second_table_handle = INVALID_SOCKET;
    static LPWPUCREATESOCKETHANDLE first = nullptr;
    first = upcalls.lpWPUCreateSocketHandle;
    upcalls.lpWPUCreateSocketHandle = [](DWORD entry, DWORD_PTR context, LPINT error) {
        return second_table_handle = first(entry, context, error);
    };
    ASSERT_EQ(start(), 0);
    INT error = 0;
    EXPECT_NE(table.lpWSPSocket(AF_INET, SOCK_STREAM, IPPROTO_TCP, nullptr, 0, WSA_FLAG_OVERLAPPED,
                                &error),
              INVALID_SOCKET);
    EXPECT_NE(second_table_handle, INVALID_SOCKET);
}

TEST_F(StartupTest, TheUpcallTableIsCopied) {
    ASSERT_EQ(start(), 0);
    upcalls = {};
    INT error = 0;
    EXPECT_NE(table.lpWSPSocket(AF_INET, SOCK_STREAM, IPPROTO_TCP, nullptr, 0, WSA_FLAG_OVERLAPPED,
                                &error),
              INVALID_SOCKET);
}

TEST_F(StartupTest, CleanupClosesTheSocketsThatAreLeft) {
    ASSERT_EQ(start(), 0);
    INT error = 0;
    for (int i = 0; i < 3; ++i) {
        EXPECT_NE(table.lpWSPSocket(AF_INET, SOCK_STREAM, IPPROTO_TCP, nullptr, 0,
                                    WSA_FLAG_OVERLAPPED, &error),
                  INVALID_SOCKET);
    }
    EXPECT_EQ(cleanup(), 0);
    EXPECT_EQ(RecordingSwitch::instance().count(UpcallKind::kCloseSocketHandle), 3U);
}

// ---- the library --------------------------------------------------------------------------------------

// Names of the defined symbols in an ELF library's dynamic symbol table.
std::vector<std::string> exported_symbols(const std::string& path) {
    // In one piece: byte by byte it takes seconds under a sanitizer.
    std::string image(std::filesystem::file_size(path), '\0');
    std::ifstream(path, std::ios::binary)
        .read(image.data(), static_cast<std::streamsize>(image.size()));
    std::vector<std::string> names;
    Elf64_Ehdr header;
    std::memcpy(&header, image.data(), sizeof(header));
    const auto section = [&](std::size_t index) {
        Elf64_Shdr result;
        std::memcpy(&result, image.data() + header.e_shoff + index * header.e_shentsize,
                    sizeof(result));
        return result;
    };
    for (std::size_t i = 0; i < header.e_shnum; ++i) {
        const Elf64_Shdr symbols = section(i);
        if (symbols.sh_type != SHT_DYNSYM) {
            continue;
        }
        const Elf64_Shdr strings = section(symbols.sh_link);
        for (std::size_t at = 0; at < symbols.sh_size; at += sizeof(Elf64_Sym)) {
            Elf64_Sym symbol;
            std::memcpy(&symbol, image.data() + symbols.sh_offset + at, sizeof(symbol));
            if (symbol.st_shndx != SHN_UNDEF) {
                names.emplace_back(image.data() + strings.sh_offset + symbol.st_name);
            }
        }
    }
    return names;
}

TEST(LibraryTest, ItExportsOneSymbol) {
    EXPECT_EQ(exported_symbols(Calls::library_path()), std::vector<std::string>{"WSPStartupEx"});
}

std::vector<std::string> thread_names() {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/task")) {
        std::string name;
        std::getline(std::ifstream(entry.path() / "comm"), name);
        names.push_back(name);
    }
    return names;
}

bool eal_runs() {
    const std::vector<std::string> names = thread_names();
    return std::any_of(names.begin(), names.end(), [](const std::string& name) {
        return name.starts_with("eal-") || name.starts_with("rte_") || name.starts_with("dpdk-");
    });
}

std::string maps() {
    std::ifstream file("/proc/self/maps");
    return {(std::istreambuf_iterator<char>(file)), {}};
}

const Role start_in_inline_mode("inline", [](const std::vector<std::string>&) {
    Calls san;
    (void)Calls::startup();
    const auto before = std::chrono::steady_clock::now();
    if (san.start() != 0) {
        return 1;
    }
    const std::chrono::duration<double, std::milli> taken =
        std::chrono::steady_clock::now() - before;
    say(std::to_string(taken.count()) + " ms");
    if (eal_runs()) {
        return 2;
    }
    if (maps().find("librte_") != std::string::npos) {
        return 3;
    }
    return san.cleanup() == 0 ? 0 : 4;
});

TEST(LibraryTest, AStartInInlineModeTakesNoEal) {
    Child child("inline", {}, {{"mode", "inline"}});
    std::printf("first start: %s\n", child.hear().c_str());
    EXPECT_EQ(child.wait(), 0) << child.errors();
}

const Role start_in_dedicated_mode("dedicated", [](const std::vector<std::string>&) {
    Calls san;
    if (san.start() != 0) {
        return 1;
    }
    if (!eal_runs()) {
        return 2;  // the inline mode's test would see nothing either
    }
    if (maps().find("librte_") != std::string::npos) {
        return 3;
    }
    return san.cleanup() == 0 ? 0 : 4;
});

TEST(LibraryTest, AStartInDedicatedModeRunsTheEmbeddedEal) {
    Child child("dedicated", {}, {{"mode", "dedicated"}});
    EXPECT_EQ(child.wait(), 0) << child.errors();
}

// ---- settings -----------------------------------------------------------------------------------------

const Role start_and_tell("start", [](const std::vector<std::string>&) {
    Calls san;
    say(std::to_string(san.start()));
    return 0;
});

void expect_refused(const std::string& knob, const std::string& value,
                    const std::string& variable) {
    Child child("start", {}, {{knob, value}});
    EXPECT_EQ(child.hear(), std::to_string(WSAEPROVIDERFAILEDINIT)) << variable << "=" << value;
    EXPECT_EQ(child.wait(), 0);
    EXPECT_NE(child.errors().find(variable), std::string::npos)
        << variable << "=" << value << " is refused with: " << child.errors();
}

TEST(SettingsTest, AWrongValueIsRefusedAndNamed) {
    expect_refused("mode", "turbo", "SANPOLL_MODE");
    expect_refused("profile", "", "SANPOLL_PROFILE");
    expect_refused("queue_depth", "63", "SANPOLL_QUEUE_DEPTH");
    expect_refused("lane_slots", "100", "SANPOLL_LANE_SLOTS");
    expect_refused("max_message", "64k", "SANPOLL_MAX_MESSAGE");
    expect_refused("connect_timeout_ms", "-1", "SANPOLL_CONNECT_TIMEOUT_MS");
    expect_refused("cores", "1,1", "SANPOLL_CORES");
    expect_refused("log_level", "loud", "SANPOLL_LOG_LEVEL");
}

TEST(SettingsTest, AConfigurationFileThatIsNotThereIsRefusedAndNamed) {
    expect_refused("config", "/nonexistent/sanpoll.toml", "/nonexistent/sanpoll.toml");
}

TEST(SettingsTest, ADedicatedCoreThatIsNotThereIsRefusedAndNamed) {
    Child child("start", {}, {{"mode", "dedicated"}, {"cores", "4095"}});
    EXPECT_EQ(child.hear(), std::to_string(WSAEPROVIDERFAILEDINIT));
    EXPECT_EQ(child.wait(), 0);
    EXPECT_NE(child.errors().find("SANPOLL_CORES"), std::string::npos) << child.errors();
}

const Role start_wrong_then_right("mend", [](const std::vector<std::string>&) {
    Calls san;
    set_knobs({{"mode", "turbo"}});
    if (san.start() != WSAEPROVIDERFAILEDINIT) {
        return 1;
    }
    unset_knobs({{"mode", ""}});
    if (san.start() != 0) {
        return 2;
    }
    return san.cleanup() == 0 ? 0 : 3;
});

TEST(SettingsTest, AFailedStartCanBeRepeated) {
    Child child("mend", {});
    EXPECT_EQ(child.wait(), 0) << child.errors();
}

}  // namespace
}  // namespace sanpoll::test
