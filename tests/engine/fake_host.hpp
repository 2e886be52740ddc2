// A host that says of its limits what a test wants.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "engine/host_limits.hpp"

namespace sanpoll::tests {

class FakeHost final : public engine::LimitSource {
public:
    std::map<std::string, std::string> files;
    std::map<int, engine::ResourceLimit> resources;  // the others are unlimited

    [[nodiscard]] std::optional<std::string> file(const std::string& path) const override {
        const auto found = files.find(path);
        return found == files.end() ? std::nullopt : std::optional(found->second);
    }
    [[nodiscard]] std::vector<std::string> folder(const std::string& path) const override {
        std::set<std::string> names;
        for (const auto& [name, text] : files) {
            if (name.starts_with(path + "/")) {
                const std::string rest = name.substr(path.size() + 1);
                names.insert(rest.substr(0, rest.find('/')));
            }
        }
        return {names.begin(), names.end()};
    }
    [[nodiscard]] engine::ResourceLimit resource(int resource) const override {
        const auto found = resources.find(resource);
        return found == resources.end() ? engine::ResourceLimit{} : found->second;
    }
};

}  // namespace sanpoll::tests
