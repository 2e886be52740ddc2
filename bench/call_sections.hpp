// The calls of the SPI, one by one and as they make up a message, each in windows of a meter.
//
// Both ends of each connection are in this process and driven by the calling thread (inline mode), so a section does the
// same from run to run: nobody else has a part in it but the control thread, in connecting and closing.
#pragma once

#include <cstdint>
#include <sanpoll/switch.hpp>
#include <string>
#include <vector>

#include "bench/call_meter.hpp"

namespace sanpoll::bench {

struct Section {
    std::string name;      // unique
    std::string function;  // WSP..., or several with a plus between them
    std::string what;      // in which circumstances
    std::uint32_t size;    // bytes of the message or region; 0 where there is none
    std::uint64_t windows;
    std::uint64_t calls;  // for a message: messages
    double ns;            // of one, without callgrind
};

/// The name of the section in which nothing lies between begin() and end().
inline constexpr const char* kEmptySection = "empty";

/// Runs all sections, `rounds` windows each (a tenth of that for the calls of the control plane). Under callgrind
/// each has its dump, named as the section is. Throws ConnectionFault.
[[nodiscard]] std::vector<Section> run_sections(const sanpoll_switch::Provider& provider,
                                                CallMeter& meter, std::uint32_t rounds);

}  // namespace sanpoll::bench
