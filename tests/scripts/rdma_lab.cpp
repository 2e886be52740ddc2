#include "tests/scripts/rdma_lab.hpp"

#include <fstream>
#include <iterator>
#include <stdexcept>
#include <thread>

namespace sanpoll::scripts::test {
namespace fs = std::filesystem;

std::string script(const std::string& name) { return SANPOLL_SOURCE_DIR "/scripts/" + name; }

std::string content_of(const fs::path& file) {
    std::ifstream in(file);
    return {std::istreambuf_iterator<char>(in), {}};
}

std::vector<std::string> names_in(const fs::path& folder) {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder))
        names.push_back(entry.path().filename());
    return names;
}

bool eventually(const std::function<bool()>& condition) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(5);
    while (!condition()) {
        if (std::chrono::steady_clock::now() > deadline) return false;
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    return true;
}

TemporaryFolder::TemporaryFolder() {
    std::string name = fs::temp_directory_path() / "sanpoll-lab-test.XXXXXX";
    if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("cannot make " + name);
    path_ = name;
}

TemporaryFolder::~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
}

RunningProgram Lab::start(const Arguments& arguments, Environment environment) const {
    environment.emplace_back("TMPDIR", temporary());
    return RunningProgram(script("rdma-lab"), arguments, environment);
}

ProgramResult Lab::run(const Arguments& arguments, const Environment& environment) const {
    return start(arguments, environment).wait(std::chrono::seconds(1000));
}

std::vector<std::string> Lab::remains() const {
    std::vector<std::string> found = names_in(temporary());
    for (const auto& process : fs::directory_iterator("/proc")) {
        // Of processes that end meanwhile or are not ours there is nothing to read.
        std::error_code ignored;
        const std::string cwd = fs::read_symlink(process.path() / "cwd", ignored);
        if (cwd.starts_with(temporary().string())) {
            found.push_back("process " + content_of(process.path() / "cmdline"));
        }
    }
    return found;
}

}  // namespace sanpoll::scripts::test
