#include "engine/fabric/copy.hpp"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace sanpoll::engine {

bool finds_strings_best() noexcept {
#if defined(__x86_64__)
    unsigned eax = 0;
    unsigned ebx = 0;
    unsigned ecx = 0;
    unsigned edx = 0;
    if (__get_cpuid(0, &eax, &ebx, &ecx, &edx) == 0 || ebx != signature_INTEL_ebx ||
        ecx != signature_INTEL_ecx || edx != signature_INTEL_edx) {
        return false;
    }
    constexpr unsigned kEnhanced = 1U << 9;  // leaf 7, ERMS
    return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && (ebx & kEnhanced) != 0;
#else
    return false;
#endif
}

}  // namespace sanpoll::engine
