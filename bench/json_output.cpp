#include "bench/json_output.hpp"

#include <cerrno>
#include <cstring>
#include <iostream>
#include <nlohmann/json.hpp>
#include <stdexcept>

namespace sanpoll::bench {

JsonOutput::JsonOutput(std::string path) : path_(std::move(path)) {
    if (path_.empty() || path_ == "-") return;
    file_.open(path_);
    if (!file_) {
        throw std::runtime_error("--json: cannot write " + path_ + ": " + std::strerror(errno));
    }
}

void JsonOutput::write(const nlohmann::json& value) {
    if (path_.empty()) return;
    std::ostream& out = path_ == "-" ? std::cout : file_;
    out << value.dump(1) << '\n' << std::flush;
    if (!out) throw std::runtime_error("--json: the results could not be written to " + path_);
}

}  // namespace sanpoll::bench
