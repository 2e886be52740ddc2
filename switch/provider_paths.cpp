#include "switch/provider_paths.hpp"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <list>
#include <mutex>

namespace sanpoll_switch::detail {
namespace {

struct ProviderPath {
    GUID id;
    std::u16string path;
};

struct ProviderPaths {
    std::mutex mutex;
    std::list<ProviderPath> entries;  // the latest first
};

ProviderPaths& provider_paths() {
    static ProviderPaths& paths = *new ProviderPaths;
    return paths;
}

bool same(const GUID& left, const GUID& right) {
    return std::memcmp(&left, &right, sizeof(GUID)) == 0;
}

auto find(ProviderPaths& paths, const GUID& id) {
    return std::find_if(paths.entries.begin(), paths.entries.end(),
                        [&](const ProviderPath& entry) { return same(entry.id, id); });
}

// Bytes that follow the first one of a character; -1: no first byte.
int bytes_to_follow(unsigned char lead) {
    if (lead < 0x80) return 0;
    if (lead >= 0xC2 && lead < 0xE0) return 1;
    if (lead >= 0xE0 && lead < 0xF0) return 2;
    if (lead >= 0xF0 && lead < 0xF5) return 3;
    return -1;
}

struct Character {
    char32_t code = 0xFFFD;
    std::size_t length = 1;
};

Character character_at(const std::string& text, std::size_t start) {
    const auto lead = static_cast<unsigned char>(text[start]);
    const int more = bytes_to_follow(lead);
    if (more == 0) return {lead, 1};
    if (more < 0) return {};
    const std::size_t length = static_cast<std::size_t>(more) + 1;
    if (text.size() - start < length) return {};
    char32_t code = lead & (0x3Fu >> more);
    for (std::size_t i = 1; i < length; ++i) {
        const auto byte = static_cast<unsigned char>(text[start + i]);
        if ((byte & 0xC0) != 0x80) return {};
        code = (code << 6) | (byte & 0x3Fu);
    }
    const bool overlong = (more == 2 && code < 0x800) || (more == 3 && code < 0x10000);
    const bool surrogate = code >= 0xD800 && code < 0xE000;
    if (overlong || surrogate || code > 0x10FFFF) return {};
    return {code, length};
}

}  // namespace

std::u16string to_utf16(const std::string& text) {
    std::u16string result;
    for (std::size_t i = 0; i < text.size();) {
        const auto [code, length] = character_at(text, i);
        i += length;
        if (code < 0x10000) {
            result.push_back(static_cast<char16_t>(code));
        } else {
            result.push_back(static_cast<char16_t>(0xD800 + ((code - 0x10000) >> 10)));
            result.push_back(static_cast<char16_t>(0xDC00 + (code & 0x3FF)));
        }
    }
    return result;
}

void add_provider_path(const GUID& provider_id, const std::string& path) {
    if (same(provider_id, GUID{})) return;
    ProviderPaths& paths = provider_paths();
    const std::lock_guard lock(paths.mutex);
    paths.entries.push_front({provider_id, to_utf16(path)});
}

void remove_provider_path(const GUID& provider_id) {
    ProviderPaths& paths = provider_paths();
    const std::lock_guard lock(paths.mutex);
    const auto found = find(paths, provider_id);
    if (found != paths.entries.end()) paths.entries.erase(found);
}

std::optional<std::u16string> provider_path(const GUID& provider_id) {
    ProviderPaths& paths = provider_paths();
    const std::lock_guard lock(paths.mutex);
    const auto found = find(paths, provider_id);
    if (found == paths.entries.end()) return std::nullopt;
    return found->path;
}

}  // namespace sanpoll_switch::detail
