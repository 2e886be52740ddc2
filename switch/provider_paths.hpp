// Which library a loaded provider came from, for WPUGetProviderPath.
#pragma once

#include <ws2san.h>

#include <optional>
#include <string>

namespace sanpoll_switch::detail {

// UTF-8 to UTF-16. What is no UTF-8 (the name of a file may be anything) becomes U+FFFD, byte by
// byte.
std::u16string to_utf16(const std::string& text);

// Any thread; a lock is taken. An identity may be added several times: the latest counts, each
// removal takes one away. The identity of zeros is nobody's.
void add_provider_path(const GUID& provider_id, const std::string& path);
void remove_provider_path(const GUID& provider_id);
std::optional<std::u16string> provider_path(const GUID& provider_id);

}  // namespace sanpoll_switch::detail
