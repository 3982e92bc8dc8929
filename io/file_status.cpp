#include "file_status.hpp"

#include <sys/sysmacros.h>

namespace trapline {

namespace {

FileStatus::Time time_of(const statx_timestamp& time) noexcept {
    return FileStatus::Time{std::chrono::seconds{time.tv_sec} +
                            std::chrono::nanoseconds{time.tv_nsec}};
}

} // namespace

const char* name_of(FileKind kind) noexcept {
    switch (kind) {
    case FileKind::regular: return "a regular file";
    case FileKind::directory: return "a directory";
    case FileKind::symlink: return "a symbolic link";
    case FileKind::fifo: return "a FIFO";
    case FileKind::socket: return "a socket";
    case FileKind::character_device: return "a character device";
    case FileKind::block_device: return "a block device";
    case FileKind::unknown: break;
    }
    return "something unknown";
}

FileKind detail::kind_of(mode_t mode) noexcept {
    switch (mode & S_IFMT) {
    case S_IFREG: return FileKind::regular;
    case S_IFDIR: return FileKind::directory;
    case S_IFLNK: return FileKind::symlink;
    case S_IFIFO: return FileKind::fifo;
    case S_IFSOCK: return FileKind::socket;
    case S_IFCHR: return FileKind::character_device;
    case S_IFBLK: return FileKind::block_device;
    default: return FileKind::unknown;
    }
}

FileStatus detail::status_of(const struct ::statx& from) noexcept {
    FileStatus status{
        .kind = kind_of(from.stx_mode),
        .permissions = from.stx_mode & static_cast<mode_t>(07777),
        .size = from.stx_size,
        .bytes_allocated = from.stx_blocks * 512,
        .links = from.stx_nlink,
        .user = from.stx_uid,
        .group = from.stx_gid,
        .device = makedev(from.stx_dev_major, from.stx_dev_minor),
        .inode = from.stx_ino,
        .accessed = time_of(from.stx_atime),
        .modified = time_of(from.stx_mtime),
        .changed = time_of(from.stx_ctime),
        .born = std::nullopt,
    };
    if (from.stx_mask & STATX_BTIME)
        status.born = time_of(from.stx_btime);
    return status;
}

} // namespace trapline
