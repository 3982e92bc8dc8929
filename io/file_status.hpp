// FileStatus: what Linux knows of a file, as File::stat() answers it.
//
//     const FileStatus status = co_await file.stat();
//     const bool old = status.modified < std::chrono::system_clock::now() - 24h;
//     const bool secret = (status.permissions & 077) == 0;
//     if (status.kind != FileKind::regular)
//         throw std::runtime_error(file.path() + " is " + name_of(status.kind));
//
// A value: it tells of the moment at which it was asked for.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>

#include <sys/stat.h>
#include <sys/types.h>

namespace trapline {

enum class FileKind : std::uint8_t {
    regular,
    directory,
    symlink,
    fifo,
    socket,
    character_device,
    block_device,
    unknown, ///< none of those that POSIX names
};

/// "a directory", for messages.
const char* name_of(FileKind kind) noexcept;

/// What Linux knows of a file.
struct FileStatus {
    using Time = std::chrono::sys_time<std::chrono::nanoseconds>;

    FileKind kind = FileKind::unknown;
    mode_t permissions = 0; ///< rwx for three, set-user-ID, set-group-ID and sticky: 12 bits
    std::uint64_t size = 0; ///< bytes
    std::uint64_t bytes_allocated = 0;
    std::uint64_t links = 0;
    uid_t user = 0;
    gid_t group = 0;
    dev_t device = 0;
    std::uint64_t inode = 0;
    Time accessed;
    Time modified;            ///< the contents
    Time changed;             ///< the contents, or what stands here
    std::optional<Time> born; ///< where the file system keeps it
};

namespace detail {

/// What is asked of statx(2) for a FileStatus.
inline constexpr unsigned file_status_mask = STATX_BASIC_STATS | STATX_BTIME;

FileKind kind_of(mode_t mode) noexcept;
FileStatus status_of(const struct ::statx& answer) noexcept;

} // namespace detail

} // namespace trapline
