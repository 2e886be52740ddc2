#include "engine/memory/page_rights.hpp"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>

#include "engine/log.hpp"
#include "engine/memory_region.hpp"

// Linux 5.14.
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

namespace sanpoll::engine::memory {
namespace {

// Where populating pages that are there takes as long as a look at the mapping.
constexpr std::uint64_t kAsQuick = 128U << 10;
// More is not touched by anybody who only registers it.
constexpr std::uint64_t kPopulated = 64U << 20;

std::uint64_t page_size() noexcept { return static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)); }

/// Whole pages.
struct Range {
    std::uint64_t first;
    std::uint64_t end;
    std::uint32_t access;
};

// ---- by populating -----------------------------------------------------------------------------------------

enum class Populated : std::uint8_t {
    kUntried,
    kAll,
    kUnreachable,
    kBroken,
    kHoleOrNoMemory,
    kUnsaid,  // no right, memory that cannot be populated, or a kernel that does not populate
};

Populated populate(const Range& range) noexcept {
    const int advice = (range.access & kWrite) != 0 ? MADV_POPULATE_WRITE : MADV_POPULATE_READ;
    if (::madvise(reinterpret_cast<void*>(range.first), range.end - range.first, advice) == 0) {
        return Populated::kAll;
    }
    switch (errno) {
        case EFAULT:
            return Populated::kUnreachable;
        case EHWPOISON:
            return Populated::kBroken;
        case ENOMEM:
            return Populated::kHoleOrNoMemory;
        default:
            return Populated::kUnsaid;
    }
}

// A kernel that does not know the advice says so even of nothing.
bool kernel_populates() noexcept { return ::madvise(nullptr, 0, MADV_POPULATE_READ) == 0; }

// ---- by the mappings ---------------------------------------------------------------------------------------

struct Mapping {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    bool readable = false;
    bool writable = false;
    bool of_file = false;
};

Lack lack_of(const Mapping& mapping, std::uint32_t access) noexcept {
    if (!mapping.readable && !mapping.writable) {
        return Lack::kAccess;
    }
    // Processors have no pages that can be written and not read.
    return (access & kWrite) != 0 && !mapping.writable ? Lack::kWriting : Lack::kNothing;
}

// Files end where they end, and not in the middle: if its last page is there, so are all before it. One that a device has
// need not be, as it cannot be populated.
Lack lack_at_end(std::uint64_t last_page) noexcept {
    switch (populate({last_page, last_page + page_size(), kRead})) {
        case Populated::kUnreachable:
            return Lack::kPage;
        case Populated::kBroken:
            return Lack::kSoundness;
        default:
            return Lack::kNothing;
    }
}

// Goes through the range mapping by mapping. `next(at, mapping)` finds the one that contains `at`, or the first one
// behind it; false: there is none.
template <typename Next>
PageRights walk(const Range& range, Next next) {
    for (std::uint64_t at = range.first; at < range.end;) {
        Mapping mapping;
        if (!next(at, mapping) || mapping.begin > at || mapping.end <= at) {
            return {Lack::kMapping, at};
        }
        if (const Lack lack = lack_of(mapping, range.access); lack != Lack::kNothing) {
            return {lack, at};
        }
        at = mapping.end;
        if (mapping.of_file) {
            const std::uint64_t last_page = std::min(at, range.end) - page_size();
            if (const Lack lack = lack_at_end(last_page); lack != Lack::kNothing) {
                return {lack, last_page};
            }
        }
    }
    return {};
}

/// /proc/self/maps, open.
class MapsFile {
public:
    MapsFile() noexcept : fd_(::open("/proc/self/maps", O_RDONLY | O_CLOEXEC)) {}
    ~MapsFile() {
        if (fd_ >= 0) {
            ::close(fd_);
        }
    }
    MapsFile(const MapsFile&) = delete;
    MapsFile& operator=(const MapsFile&) = delete;
    [[nodiscard]] int fd() const noexcept { return fd_; }

private:
    const int fd_;
};

// The kernel's argument of PROCMAP_QUERY, of which headers before Linux 6.11 know nothing.
struct MapQuery {
    std::uint64_t size;
    std::uint64_t flags;  // 0: the mapping that contains the address
    std::uint64_t address;
    std::uint64_t begin;
    std::uint64_t end;
    std::uint64_t rights;  // bit 0: may be read, bit 1: may be written
    std::uint64_t page_size;
    std::uint64_t offset;
    std::uint64_t inode;
    std::uint32_t device_major;
    std::uint32_t device_minor;
    std::uint32_t name_size;  // 0: not wanted
    std::uint32_t build_id_size;
    std::uint64_t name;
    std::uint64_t build_id;
};
static_assert(sizeof(MapQuery) == 104);
constexpr unsigned long kMapQuery = _IOWR('f', 17, MapQuery);

// Nothing if the kernel cannot be asked.
std::optional<PageRights> by_query(const MapsFile& maps, const Range& range) noexcept {
    bool asked = maps.fd() >= 0;
    if (!asked) {
        return std::nullopt;
    }
    const PageRights rights = walk(range, [&](std::uint64_t at, Mapping& mapping) {
        MapQuery query{};
        query.size = sizeof(query);
        query.address = at;
        if (::ioctl(maps.fd(), kMapQuery, &query) != 0) {
            asked = errno == ENOENT;  // else the file does not know the question
            return false;
        }
        mapping = {query.begin, query.end, (query.rights & 1U) != 0, (query.rights & 2U) != 0,
                   query.inode != 0};
        return true;
    });
    return asked ? std::optional(rights) : std::nullopt;
}

/// The mappings in order of addresses, out of lines that begin with "7f0012340000-7f0012350000 rw-p 00000000 fd:01 1234 ",
/// where the last number is the file's. Takes no memory, which may be short.
class MapsText {
public:
    explicit MapsText(const MapsFile& maps) noexcept : fd_(maps.fd()) {}

    bool next(Mapping& mapping) noexcept {
        if (!number('-', mapping.begin) || !number(' ', mapping.end)) {
            return false;
        }
        mapping.readable = get() == 'r';
        mapping.writable = get() == 'w';
        int letter = get();
        for (int spaces = 0; spaces < 3 && letter != '\n' && letter != kNone; letter = get()) {
            spaces += letter == ' ' ? 1 : 0;
        }
        mapping.of_file = letter != '0';
        while (letter != '\n' && letter != kNone) {
            letter = get();
        }
        return true;
    }
    /// Whether next() has come to the last one, and not to what cannot be read.
    [[nodiscard]] bool ended() const noexcept { return ended_; }

private:
    static constexpr int kNone = -1;

    int get() noexcept {
        if (at_ == end_) {
            const ssize_t got = ::read(fd_, buffer_, sizeof(buffer_));
            at_ = 0;
            end_ = static_cast<std::size_t>(std::max<ssize_t>(got, 0));
            ended_ = got == 0;
            if (end_ == 0) {
                return kNone;
            }
        }
        return buffer_[at_++];
    }
    // Hexadecimal, as far as `stop`.
    bool number(char stop, std::uint64_t& value) noexcept {
        value = 0;
        for (int letter = get(); letter != stop; letter = get()) {
            const bool digit = letter >= '0' && letter <= '9';
            if (!digit && (letter < 'a' || letter > 'f')) {
                return false;
            }
            value = value * 16 + static_cast<std::uint64_t>(letter - (digit ? '0' : 'a' - 10));
        }
        return true;
    }

    const int fd_;
    bool ended_ = false;
    std::size_t at_ = 0;
    std::size_t end_ = 0;
    char buffer_[4096];  // as much as the kernel gives at once
};

// Nothing if it cannot be read.
std::optional<PageRights> by_text(const MapsFile& maps, const Range& range) noexcept {
    if (maps.fd() < 0) {
        return std::nullopt;
    }
    MapsText text(maps);
    bool read = true;
    const PageRights rights = walk(range, [&](std::uint64_t at, Mapping& mapping) {
        do {
            if (!text.next(mapping)) {
                read = text.ended();
                return false;
            }
        } while (mapping.end <= at);
        return true;
    });
    return read ? std::optional(rights) : std::nullopt;
}

// ---- what every kernel tells ---------------------------------------------------------------------------------

PageRights by_presence(const Range& range, Populated said) noexcept {
    constexpr std::uint64_t kPagesAtOnce = 1024;
    unsigned char residence[kPagesAtOnce];
    const std::uint64_t page = page_size();
    for (std::uint64_t at = range.first; at < range.end;) {
        const std::uint64_t step = std::min(range.end - at, kPagesAtOnce * page);
        if (::mincore(reinterpret_cast<void*>(at), step, residence) != 0 && errno != EAGAIN) {
            return {Lack::kMapping, 0};
        }
        at += step;
    }
    if (said == Populated::kUnsaid && kernel_populates()) {
        return {(range.access & kWrite) != 0 ? Lack::kWriting : Lack::kAccess, 0};
    }
    return {};
}

// Of memory whose mappings allow what is wanted.
Lack lack_of(Populated said) noexcept {
    switch (said) {
        case Populated::kUnreachable:
            return Lack::kPage;
        case Populated::kBroken:
            return Lack::kSoundness;
        case Populated::kHoleOrNoMemory:
            return Lack::kMemory;
        case Populated::kUntried:
        case Populated::kAll:
        case Populated::kUnsaid:
            break;
    }
    return Lack::kNothing;
}

}  // namespace

PageRights page_rights(std::uint64_t address, std::uint64_t length, std::uint32_t access) noexcept {
    const std::uint64_t mask = page_size() - 1;
    const std::uint64_t last = (address + length - 1) | mask;
    if (last == ~0ULL) {
        return {Lack::kMapping, last & ~mask};  // the kernel's; its end is no number
    }
    const Range range{address & ~mask, last + 1, access};
    const std::uint64_t bytes = range.end - range.first;
    Populated said = Populated::kUntried;
    if (bytes <= kAsQuick) {
        said = populate(range);
        if (said == Populated::kAll) {
            return {};
        }
    }
    const MapsFile maps;
    std::optional<PageRights> rights = by_query(maps, range);
    if (!rights && said == Populated::kUntried && bytes <= kPopulated) {
        said = populate(range);
        if (said == Populated::kAll) {
            return {};
        }
    }
    if (!rights) {
        rights = by_text(maps, range);
    }
    if (!rights) {
        rights = by_presence(range, said);
    }
    return rights->lack == Lack::kNothing ? PageRights{lack_of(said), 0} : *rights;
}

std::string to_words(const PageRights& rights, std::uint64_t address, std::uint64_t length) {
    const std::string range = formatted("[{:#x}, {:#x})", address, address + length);
    const std::string page = rights.at == 0
                                 ? "a page of " + range
                                 : formatted("the page at {:#x}, of {},", rights.at, range);
    switch (rights.lack) {
        case Lack::kMapping:
            return page + " is not mapped; register memory that is, and as long as it is";
        case Lack::kAccess:
            return page +
                   " may not be read (PROT_NONE); give it the right (mprotect) before it is "
                   "registered";
        case Lack::kWriting:
            return page +
                   " may only be read; register it without MEM_WRITE, or map it writable "
                   "(PROT_READ | PROT_WRITE) before";
        case Lack::kPage:
            return page +
                   " is not to be had: it lies behind the end of its file, is a guard page, or "
                   "the file system or the hugepages are used up; register what is there";
        case Lack::kSoundness:
            return page + " is broken memory, says the hardware (see dmesg); map other memory";
        case Lack::kMemory:
            return formatted(
                "there is no memory for the {} bytes of {}; free some, or raise the "
                "control group's limit",
                length, range);
        case Lack::kNothing:
            break;
    }
    return range + " is as it should be";
}

}  // namespace sanpoll::engine::memory
