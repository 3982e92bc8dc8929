// File: what is opened by a path; and whole files as strings.
//
//     File log = co_await File::open(path, O_WRONLY | O_CREAT | O_APPEND);
//     co_await log.write_all("started\n");
//     co_await log.sync();
//     co_await log.close();
//
//     std::string text = co_await read_file(path, 1 << 20);
//     co_await write_file(path, text + "ended\n");
//
// Operations throw std::system_error, whose text names the operation and the path, as in "open of
// /etc/shadow: Permission denied"; interrupts throw `Cancelled` and its kin. What a disk has begun
// cannot be stopped: an interrupt waits for its end, and a result that came first wins. Buffers
// stay the caller's and must live until the answer. At the file's own position one task may read
// while another writes, a second one on the same side gets device_or_resource_busy; at offsets any
// number may. The object must outlive what it does, and not move meanwhile.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../traps/calls.hpp"
#include "../traps/coro.hpp"
#include "close.hpp"
#include "descriptor.hpp"
#include "errors.hpp"
#include "file_status.hpp"

namespace trapline {

struct FileOptions {
    int flags = O_RDONLY;      ///< as of open(2); O_CLOEXEC is added
    mode_t mode = 0666;        ///< of a file that is made, less the process's umask
    bool regular_only = false; ///< refuse all but regular files, without waiting for a FIFO's peer
    bool no_symlinks = false;  ///< refuse a path with a symbolic link anywhere in it
};

class File {
public:
    File() noexcept = default;

    /// Takes over a descriptor; `path` is for messages.
    File(Descriptor file, std::string path) noexcept
        : file_(std::move(file)), path_(std::move(path)) {}

    /// Opens `path`, relative to the working directory. Flags and mode are those of open(2).
    /// Throws std::system_error, also for a path with a NUL in it. Blocks. Cancelled: nothing is
    /// left open, but a file may have been made.
    static Coro<File> open(std::string path, int flags = O_RDONLY, mode_t mode = 0666);
    static Coro<File> open(std::string path, FileOptions options);

    /// The same for paths that come from strangers: relative to the descriptor `directory`, which
    /// stays the caller's, and never out of it, whether by "..", by symbolic links, by an absolute
    /// path or by a rename at the same time (EXDEV). The links of /proc are refused, too (ELOOP).
    static Coro<File> open_beneath(int directory, std::string path, FileOptions options = {});

    class Read;
    class Write;
    class Stat;
    class Size;
    class Sync;

    /// Reads at the file's own position, which moves on. Answers the bytes read, at most
    /// 0x7ffff000; 0 at the end (and for an empty buffer). Blocks.
    Read read(std::span<std::byte> buffer) noexcept;

    /// The same at `offset`, in bytes from the start. The file's own position stays.
    Read read_at(std::span<std::byte> buffer, std::uint64_t offset) noexcept;

    /// Writes some of the data at the file's own position (at the end with O_APPEND), which moves
    /// on. Answers the bytes written, at most 0x7ffff000. Blocks.
    Write write(std::span<const std::byte> data) noexcept;
    Write write(std::string_view text) noexcept;

    /// The same at `offset`. With O_APPEND Linux writes to the end all the same.
    Write write_at(std::span<const std::byte> data, std::uint64_t offset) noexcept;
    Write write_at(std::string_view text, std::uint64_t offset) noexcept;

    /// Fills the buffer from `offset` on. Answers its size, or 0 if the file ends before the first
    /// byte; throws EndOfStream if it ends in between, TransferError on failure. Blocks. Cancelled
    /// half way, the exception's progress() bytes are in the buffer.
    Coro<std::size_t> read_exactly_at(std::span<std::byte> buffer, std::uint64_t offset);

    /// Writes all of the data. Throws TransferError on failure. Blocks. Cancelled half way, the
    /// exception's progress() bytes are written.
    Coro<void> write_all(std::span<const std::byte> data);
    Coro<void> write_all(std::string_view text);
    Coro<void> write_all_at(std::span<const std::byte> data, std::uint64_t offset);
    Coro<void> write_all_at(std::string_view text, std::uint64_t offset);

    /// What Linux knows of the file. Blocks.
    Stat stat() noexcept;

    /// Its size in bytes, from the same source. Blocks.
    Size size() noexcept;

    /// Waits until all that was written is on the disk; with `data_only` without what reading the
    /// file does not need, as its times. Blocks. Not interruptible.
    Sync sync(bool data_only = false) noexcept;

    /// Cuts the file off, or fills it up with zeros, to `size` bytes. A thread of run_in_thread
    /// does it: the file must not be closed meanwhile. Blocks. Not interruptible.
    Coro<void> truncate(std::uint64_t size);

    /// Moves the file's own position by lseek(2), and answers it, in bytes from the start. Throws
    /// std::system_error. Never blocks.
    std::uint64_t seek(std::int64_t offset, int whence = SEEK_SET);

    /// Ends what other tasks do with the file (what a disk has begun ends by itself), then closes
    /// it. Blocks. Not interruptible. Harmless twice.
    detail::CloseAwaiter close() noexcept { return {file_, "close of ", path_}; }

    /// As it was given to open(). Stays after close().
    const std::string& path() const noexcept { return path_; }

    /// False when it was closed or moved from.
    explicit operator bool() const noexcept { return static_cast<bool>(file_); }

    /// The descriptor, still owned; -1 when closed.
    int fd() const noexcept { return file_.get(); }

private:
    [[noreturn]] void raise(int error, const char* operation) const;
    std::string about(const char* operation) const;

    /// The file's own position before a transfer there, -1 where there is none to keep.
    std::int64_t position_before(std::int64_t offset) const noexcept {
        return offset == -1 ? ::lseek(fd(), 0, SEEK_CUR) : -1;
    }
    void move_on(std::int64_t before, std::size_t bytes) const noexcept;

    Coro<void> write_from(std::span<const std::byte> data, std::optional<std::uint64_t> offset);

    Descriptor file_;
    std::string path_;
};

// --- whole files ---------------------------------------------------------------------------

/// The contents of the regular file `path`. Throws std::system_error, file_too_large for one of
/// more than `bytes_max` bytes. Blocks. Interruptible.
Coro<std::string> read_file(std::string path, std::size_t bytes_max);

/// Puts `data` in the place of what `path` holds, or makes the file: whoever opens it, also after
/// a crash, finds the old contents or the new. A file that was there is replaced by a new one with
/// its permissions, but not with its owner or its other names; so is a symbolic link. A new one
/// gets `mode`, less the process's umask. Throws std::system_error; then, and when it is
/// interrupted, the old contents are still there and nothing else is left, unless the failure is
/// the last step, "sync of the directory of ...". What a crash of the process leaves is a file
/// beside it, named .trapline-*.tmp. Blocks. Interruptible until the new contents are on the disk.
Coro<void> write_file(std::string path, std::string data, mode_t mode = 0666);

// --- awaiters ------------------------------------------------------------------------------

namespace detail {

/// An offset as traps take it. Linux refuses what is too large, and negative ones but for -1.
constexpr std::int64_t trap_offset(std::uint64_t offset) noexcept {
    return offset <= INT64_MAX ? static_cast<std::int64_t>(offset) : INT64_MIN;
}

} // namespace detail

class [[nodiscard]] File::Read : public ReplyAwaiter {
public:
    Read(const File& file, std::span<std::byte> buffer, std::int64_t offset) noexcept
        : file_(&file), buffer_(buffer), offset_(offset) {}

    bool await_ready() noexcept { return ready(buffer_.empty()); }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> self) noexcept {
        before_ = file_->position_before(offset_);
        yield<traps::Io>(self, traps::Read{file_->fd(), buffer_.data(), buffer_.size(), offset_});
    }
    std::size_t await_resume() const {
        if (!asked()) [[unlikely]]
            return 0;
        if (reply().failed()) [[unlikely]]
            file_->raise(reply().error(), "read of ");
        const auto bytes = static_cast<std::size_t>(reply().value);
        if (before_ >= 0 && bytes < buffer_.size())
            file_->move_on(before_, bytes);
        return bytes;
    }

private:
    const File* file_;
    std::span<std::byte> buffer_;
    std::int64_t offset_;
    std::int64_t before_ = -1;
};

class [[nodiscard]] File::Write : public ReplyAwaiter {
public:
    Write(const File& file, std::span<const std::byte> data, std::int64_t offset) noexcept
        : file_(&file), data_(data), offset_(offset) {}

    bool await_ready() noexcept { return ready(data_.empty()); }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> self) noexcept {
        before_ = file_->position_before(offset_);
        yield<traps::Io>(self, traps::Write{file_->fd(), data_.data(), data_.size(), offset_});
    }
    std::size_t await_resume() const {
        if (!asked()) [[unlikely]]
            return 0;
        if (reply().failed()) [[unlikely]]
            file_->raise(reply().error(), "write to ");
        const auto bytes = static_cast<std::size_t>(reply().value);
        if (before_ >= 0 && bytes < data_.size())
            file_->move_on(before_, bytes);
        return bytes;
    }

private:
    const File* file_;
    std::span<const std::byte> data_;
    std::int64_t offset_;
    std::int64_t before_ = -1;
};

class [[nodiscard]] File::Stat : public ReplyAwaiter {
public:
    explicit Stat(const File& file) noexcept : file_(&file) {}

    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> self) noexcept {
        // Only now: the awaiter has its final place.
        yield<traps::Io>(
            self, traps::Statx{file_->fd(), "", AT_EMPTY_PATH, detail::file_status_mask, &status_});
    }
    FileStatus await_resume() const;

protected:
    const struct ::statx& answer() const {
        if (reply().failed()) [[unlikely]]
            file_->raise(reply().error(), "stat of ");
        return status_;
    }

private:
    const File* file_;
    struct ::statx status_; ///< Linux fills it in
};

class [[nodiscard]] File::Size : public File::Stat {
public:
    using Stat::Stat;
    std::uint64_t await_resume() const { return answer().stx_size; }
};

class [[nodiscard]] File::Sync : public ReplyAwaiter {
public:
    Sync(const File& file, bool data_only) noexcept : file_(&file), data_only_(data_only) {}

    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> self) noexcept {
        yield<traps::Io>(self, traps::Fsync{file_->fd(), data_only_});
    }
    void await_resume() const {
        if (reply().failed()) [[unlikely]]
            file_->raise(reply().error(), "sync of ");
    }

private:
    const File* file_;
    bool data_only_;
};

inline File::Read File::read(std::span<std::byte> buffer) noexcept { return {*this, buffer, -1}; }
inline File::Read File::read_at(std::span<std::byte> buffer, std::uint64_t offset) noexcept {
    return {*this, buffer, detail::trap_offset(offset)};
}
inline File::Write File::write(std::span<const std::byte> data) noexcept {
    return {*this, data, -1};
}
inline File::Write File::write(std::string_view text) noexcept {
    return write(std::as_bytes(std::span(text)));
}
inline File::Write File::write_at(std::span<const std::byte> data, std::uint64_t offset) noexcept {
    return {*this, data, detail::trap_offset(offset)};
}
inline File::Write File::write_at(std::string_view text, std::uint64_t offset) noexcept {
    return write_at(std::as_bytes(std::span(text)), offset);
}
inline Coro<void> File::write_all(std::string_view text) {
    return write_all(std::as_bytes(std::span(text)));
}
inline Coro<void> File::write_all_at(std::string_view text, std::uint64_t offset) {
    return write_all_at(std::as_bytes(std::span(text)), offset);
}
inline File::Stat File::stat() noexcept { return Stat{*this}; }
inline File::Size File::size() noexcept { return Size{*this}; }
inline File::Sync File::sync(bool data_only) noexcept { return {*this, data_only}; }

} // namespace trapline
