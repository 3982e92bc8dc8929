// Which file a kernel records into, or replays, where the environment says so.
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <stdexcept>
#include <string>

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "options.hpp"
#include "recording.hpp"

namespace trapline::recording {

namespace {

/// Which process has loaded this. Another one was forked by it.
const pid_t loaded_by = ::getpid();

/// Which files the kernels of a process have that the environment told to record or to replay.
/// Like threads, variables of the environment belong to the process.
struct Files {
    std::mutex mutex;
    pid_t process = 0;
    unsigned kernels = 0; ///< made so far
    bool apart = false;   ///< theirs are FILE-PID, FILE-PID.2 and so on
    bool live = false;    ///< the recording is another one's: they replay nothing
    int kept = -1;        ///< FILE, open to the end of the process: its children look for that
};

constinit Files files;

/// Whether another kernel records there.
bool is_locked(int fd) noexcept {
    if (::flock(fd, LOCK_EX | LOCK_NB) != 0)
        return errno == EWOULDBLOCK;
    ::flock(fd, LOCK_UN);
    return false;
}

bool has_open(const std::string& process, FileIdentity file) {
    const std::string folder = process + "/fd";
    DIR* listing = ::opendir(folder.c_str());
    if (!listing)
        return false; // another user's
    bool found = false;
    while (const dirent* at = found ? nullptr : ::readdir(listing)) {
        struct ::stat status{};
        found = at->d_name[0] != '.' && ::fstatat(::dirfd(listing), at->d_name, &status, 0) == 0 &&
                identity_of(status) == file;
    }
    ::closedir(listing);
    return found;
}

/// 0 if there is none, or it cannot be seen.
pid_t parent_of(const std::string& process) {
    std::FILE* status = std::fopen((process + "/status").c_str(), "re");
    if (!status)
        return 0;
    int parent = 0;
    char line[256];
    while (std::fgets(line, sizeof line, status)) {
        if (std::sscanf(line, "PPid: %d", &parent) == 1)
            break;
    }
    std::fclose(status);
    return parent;
}

/// Whether a process that has started this one, directly or not, records there or replays it.
bool is_an_ancestors(int fd) {
    struct ::stat status{};
    if (::fstat(fd, &status) != 0 || !S_ISREG(status.st_mode))
        return false;
    for (pid_t parent = ::getppid(); parent > 1;) {
        const std::string process = "/proc/" + std::to_string(parent);
        if (has_open(process, identity_of(status)))
            return true;
        parent = parent_of(process);
    }
    return false;
}

/// At a process's first kernel.
void settle(Files& all, const std::string& file, bool records) {
    const bool forked = all.process != 0; // by one that had kernels before
    if (all.kept >= 0)
        ::close(all.kept);
    all.kept = -1;
    all.process = ::getpid();
    all.kernels = 0;
    all.apart = records && all.process != loaded_by;
    all.live = !records && forked;
    if (all.apart || all.live)
        return;
    const int flags = records ? O_WRONLY | O_CREAT | O_NONBLOCK : O_PATH;
    const int fd = ::open(file.c_str(), flags | O_CLOEXEC, 0600);
    if (fd < 0)
        return; // a name that the writer or reader will complain of
    const bool an_ancestors = is_an_ancestors(fd);
    all.apart = records && (an_ancestors || is_locked(fd));
    all.live = !records && an_ancestors;
    if (all.apart || all.live)
        ::close(fd);
    else
        all.kept = moved_away(fd);
}

/// What `file`, which the environment names, is to the kernel that is being made; empty: nothing.
std::string file_of_next(const std::string& file, bool records, unsigned& number,
                         const std::function<void(std::string_view)>& log) {
    Files& all = files;
    const std::scoped_lock lock{all.mutex};
    const bool first = all.process != ::getpid();
    if (first)
        settle(all, file, records);
    number = ++all.kernels;
    if (all.live) {
        if (first)
            say(log, "not replayed: " + file +
                         " is for the program that this one was started or forked by");
        return {};
    }
    const std::string base = all.apart ? file + "-" + std::to_string(all.process) : file;
    if (first && all.apart)
        say(log, "records into " + base + ": " + file +
                     " is for the program that this one was started or forked by, or is in use");
    return base + (number > 1 ? "." + std::to_string(number) : "");
}

/// A program with more rights than its user opens no files for him.
std::string variable(const char* name) {
    const char* value = ::secure_getenv(name);
    return value ? value : "";
}

std::uint64_t until_variable() {
    const std::string text = variable("TRAPLINE_REPLAY_UNTIL");
    std::uint64_t trap = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), trap);
    if (!text.empty() && (error != std::errc{} || end != text.data() + text.size() || trap == 0))
        throw std::invalid_argument("TRAPLINE_REPLAY_UNTIL=" + text +
                                    " is not the number of a trap, from 1");
    return trap;
}

} // namespace

void choose(KernelOptions& options) {
    if (options.record.empty() && options.replay.empty()) {
        options.record = variable("TRAPLINE_RECORD");
        options.replay = variable("TRAPLINE_REPLAY");
        const bool records = !options.record.empty();
        if (records != !options.replay.empty()) {
            std::string& chosen = records ? options.record : options.replay;
            unsigned number = 0;
            chosen = file_of_next(chosen, records, number, options.log);
            if (!options.replay.empty() && options.replay_until == 0 && number == 1)
                options.replay_until = until_variable();
        }
    }
    if (!options.record.empty() && !options.replay.empty())
        throw std::invalid_argument("a kernel cannot both record and replay");
}

} // namespace trapline::recording
