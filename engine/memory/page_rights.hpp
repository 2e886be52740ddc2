// What this process may do with the pages of a range of memory.
#pragma once

#include <cstdint>
#include <string>

namespace sanpoll::engine::memory {

enum class Lack : std::uint8_t {
    kNothing,
    kMapping,  // a page is not mapped
    kAccess,   // a page may not be read either (PROT_NONE)
    kWriting,  // a page may only be read
    kPage,  // there is none to be had: behind the end of its file, a guard page, the file system is full
    kSoundness,  // a page is broken (the hardware says so)
    kMemory,     // the pages would take more memory than there is
};

/// `at`: the first page that lacks it; 0 if that is not known.
struct PageRights {
    Lack lack = Lack::kNothing;
    std::uint64_t at = 0;
};

/// Whether [address, address + length) may be read (kRead), written (kWrite), or both; length > 0, no wrap. Any
/// thread, off the data path: calls the kernel. As of now: what becomes of the mapping afterwards is whose it is.
///
/// A range of up to 128 KiB is populated (MADV_POPULATE_*, Linux 5.14): that is exact to the page and, so short, takes
/// no longer than asking. What is to be written is then the process's own: copies on write are made, blocks of files
/// taken. Longer ranges are not touched, for they may be more than their owner means to use: the kernel is asked about
/// their mappings (PROCMAP_QUERY, Linux 6.11). Where it cannot be, they are populated up to 64 MiB, and for what is
/// left /proc/self/maps is read. The mapping also decides of memory that cannot be populated, a device's for example.
/// Without /proc, a kernel that does not populate tells only whether the range is mapped; that is taken to do.
///
/// So of a longer range two things are known: what its mappings allow, and that the files reach to its end, of which the
/// last page of each mapping of a file tells. Not known are guard pages inside a mapping that allows more
/// (MADV_GUARD_INSTALL), broken pages, and whether there will be memory: to see those, each page has to be touched.
/// Who meets one has the fault that it would have had without us, at its own access; a copy of ours out of the range or into it
/// is an access of its owner's process too.
///
/// Measured: 0.17 us for a page that is there, 0.4 us if nobody has used it lately, 0.6 us for 64 KiB, 1.1 us for a
/// mapping, however long, 0.2 us more for one of a file, 8 us and more for the text.
[[nodiscard]] PageRights page_rights(std::uint64_t address, std::uint64_t length,
                                     std::uint32_t access) noexcept;

/// A sentence that says what is wrong with the range, and how to mend it.
[[nodiscard]] std::string to_words(const PageRights& rights, std::uint64_t address,
                                   std::uint64_t length);

}  // namespace sanpoll::engine::memory
