#include "file.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <system_error>

#include <linux/openat2.h>

#include "../traps/cancel.hpp"
#include "../traps/resource.hpp"
#include "../traps/thread.hpp"
#include "../traps/thread_pool.hpp"
#include "need.hpp"

namespace trapline {

namespace {

/// Linux would take what stands before a NUL for the path.
void refuse_nul(const std::string& path) {
    std::string shown = path;
    std::size_t at = shown.find('\0');
    if (at == std::string::npos)
        return;
    for (; at != std::string::npos; at = shown.find('\0', at))
        shown.replace(at, 1, "\\0");
    detail::raise_error(EINVAL, "open of " + shown + ", a path with a NUL in it");
}

/// Runs `function` on another thread, and answers the errno that it answers, or 0: by a trap, so
/// that a replay, where other files stand for these, knows it.
template <class F>
Coro<int> errno_on_thread(F function) {
    ThreadCompletion outcome;
    outcome.changes_files = true;
    co_await disable_cancellation(
        run_in_thread([&] { outcome.complete(function()); }).changing_files());
    if (!outcome.completed())
        co_return 0; // a policy answered for it
    const std::expected<std::int64_t, std::error_code> answer =
        co_await traps::AwaitThread{&outcome};
    co_return answer ? static_cast<int>(*answer) : answer.error().value();
}

/// Opened by O_NONBLOCK, so that a FIFO without a peer does not keep us; a regular file has no use
/// for it later.
void check_regular(const FileStatus& status, int fd, int flags, const std::string& what) {
    if (status.kind != FileKind::regular)
        detail::raise_error(status.kind == FileKind::directory ? EISDIR : EINVAL,
                            what + ", " + name_of(status.kind) + " and no regular file");
    if ((flags & O_NONBLOCK) == 0) {
        const int now = ::fcntl(fd, F_GETFL);
        if (now < 0 || ::fcntl(fd, F_SETFL, now & ~O_NONBLOCK) < 0)
            detail::raise_error(errno, what);
    }
}

/// `resolve` as of openat2(2); 0 takes openat(2).
Coro<File> open_from(int directory, std::string path, FileOptions options, std::uint64_t resolve) {
    refuse_nul(path);
    std::string what = "open of " + (path.empty() ? "an empty path" : path);
    const int flags = options.flags | (options.regular_only ? O_NONBLOCK : 0);
    if (options.no_symlinks)
        resolve |= RESOLVE_NO_SYMLINKS;
    std::expected<int, std::error_code> opened;
    if (resolve == 0) {
        opened = co_await traps::open_at(directory, path.c_str(), flags, options.mode);
    } else {
        constexpr int unnamed = O_TMPFILE & ~O_DIRECTORY;
        const bool makes = (flags & (O_CREAT | unnamed)) != 0; // else a mode is an error
        open_how how{.flags = static_cast<unsigned>(flags),
                     .mode = makes ? options.mode & 07777 : 0,
                     .resolve = resolve};
        opened = co_await traps::open_at2(directory, path.c_str(), how);
        if (!opened && opened.error() == std::errc::cross_device_link)
            what += ", which leads out of its directory";
    }
    File file{Descriptor{detail::need(opened, what)}, std::move(path)};
    if (options.regular_only) {
        const FileStatus status = co_await file.stat();
        check_regular(status, file.fd(), options.flags, what);
    }
    co_return file;
}

} // namespace

// --- File ----------------------------------------------------------------------------------

Coro<File> File::open(std::string path, int flags, mode_t mode) {
    return open_from(AT_FDCWD, std::move(path), {.flags = flags, .mode = mode}, 0);
}

Coro<File> File::open(std::string path, FileOptions options) {
    return open_from(AT_FDCWD, std::move(path), options, 0);
}

Coro<File> File::open_beneath(int directory, std::string path, FileOptions options) {
    return open_from(directory, std::move(path), options, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS);
}

std::string File::about(const char* operation) const {
    return operation + path_ + (file_ ? "" : ", a file that was closed here");
}

void File::raise(int error, const char* operation) const {
    detail::raise_error(error, about(operation));
}

/// After a short transfer at the file's own position. When Linux (6.18) has moved the first bytes
/// of a request, and an error or a cancellation stops the rest in a worker, it answers the short
/// count and leaves the position where it was: the same bytes would be read, or written over,
/// again.
void File::move_on(std::int64_t before, std::size_t bytes) const noexcept {
    if (bytes == 0 || ::lseek(fd(), 0, SEEK_CUR) != before)
        return;
    struct ::stat status;
    if (::fstat(fd(), &status) != 0 || !(S_ISREG(status.st_mode) || S_ISBLK(status.st_mode)))
        return; // it has no position of that kind
    const bool appends = (::fcntl(fd(), F_GETFL) & O_APPEND) != 0;
    ::lseek(fd(), appends ? 0 : before + static_cast<std::int64_t>(bytes),
            appends ? SEEK_END : SEEK_SET);
}

FileStatus File::Stat::await_resume() const { return detail::status_of(answer()); }

Coro<std::size_t> File::read_exactly_at(std::span<std::byte> buffer, std::uint64_t offset) {
    std::size_t done = 0;
    while (done < buffer.size()) {
        std::size_t got = 0;
        try {
            got = co_await read_at(buffer.subspan(done), offset + done);
        } catch (const std::system_error& failure) {
            throw TransferError(failure.code(), about("read of "), done);
        } catch (Cancelled& interrupt) {
            interrupt.set_progress(done);
            throw;
        }
        if (got == 0)
            break;
        done += got;
    }
    if (done > 0 && done < buffer.size())
        throw EndOfStream(about("read of ") + ": the file ended after " + std::to_string(done) +
                              " of " + std::to_string(buffer.size()) + " bytes",
                          done);
    co_return done;
}

Coro<void> File::write_from(std::span<const std::byte> data, std::optional<std::uint64_t> offset) {
    std::size_t done = 0;
    while (done < data.size()) {
        const std::int64_t at = offset ? detail::trap_offset(*offset + done) : -1;
        std::size_t written = 0;
        try {
            written = co_await Write{*this, data.subspan(done), at};
        } catch (const std::system_error& failure) {
            throw TransferError(failure.code(), about("write to "), done);
        } catch (Cancelled& interrupt) {
            interrupt.set_progress(done);
            throw;
        }
        if (written == 0) // no reason given: no use in trying for ever
            throw TransferError({EIO, std::system_category()}, about("write to "), done);
        done += written;
    }
}

Coro<void> File::write_all(std::span<const std::byte> data) { return write_from(data, {}); }

Coro<void> File::write_all_at(std::span<const std::byte> data, std::uint64_t offset) {
    return write_from(data, offset);
}

Coro<void> File::truncate(std::uint64_t size) {
    // io_uring has it from Linux 6.9 on.
    const auto bytes = static_cast<off_t>(detail::trap_offset(size));
    const int error = co_await errno_on_thread(
        [fd = fd(), bytes] { return ::ftruncate(fd, bytes) == 0 ? 0 : errno; });
    if (error != 0)
        raise(error, "truncate of ");
}

std::uint64_t File::seek(std::int64_t offset, int whence) {
    const off_t position = ::lseek(fd(), offset, whence);
    if (position < 0)
        raise(errno, "seek in ");
    return static_cast<std::uint64_t>(position);
}

// --- whole files ---------------------------------------------------------------------------

Coro<std::string> read_file(std::string path, std::size_t bytes_max) {
    constexpr std::size_t first_read = 4096; // the files of /proc do not know their size
    constexpr FileOptions options{.regular_only = true};
    File file = co_await File::open(std::move(path), options);
    const std::uint64_t size = co_await file.size();
    std::string text;
    bytes_max = std::min(bytes_max, text.max_size() - 1);
    const auto too_large = [&] {
        detail::raise_error(EFBIG, "read of " + file.path() + ", a file of more than " +
                                       std::to_string(bytes_max) + " bytes");
    };
    if (size > bytes_max)
        too_large();
    // One byte more: only a read of 0 bytes tells that this was all.
    const std::size_t limit = bytes_max + 1;
    std::size_t done = 0;
    text.resize(std::min(std::max<std::size_t>(size + 1, first_read), limit));
    while (const std::size_t got =
               co_await file.read(std::as_writable_bytes(std::span(text).subspan(done)))) {
        done += got;
        if (done > bytes_max)
            too_large();
        if (done == text.size())
            text.resize(done < limit / 2 ? done * 2 : limit);
    }
    text.resize(done);
    co_return text;
}

namespace {

/// A new file that is to take the place of the one at `path`, beside it.
struct Replacement {
    std::string path;
    Descriptor directory;
    bool directory_can_sync = true;
    std::string name;      ///< in the directory
    std::string temporary; ///< in the directory
    std::optional<mode_t> permissions;
    File file;
    bool in_place = false;
};

/// "/a/b" as {"/a", "b"}.
std::pair<std::string, std::string> split(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    if (slash == std::string::npos)
        return {".", path};
    return {path.substr(0, std::max<std::size_t>(slash, 1)), path.substr(slash + 1)};
}

/// Named after the time, which a replay knows, too. A name that is taken is not used again: the
/// clock of a kernel may stand still.
std::string temporary_name(TimePoint now, unsigned attempt) {
    std::array<char, 64> name;
    std::snprintf(name.data(), name.size(), ".trapline-%llx-%x.tmp",
                  static_cast<unsigned long long>(now.time_since_epoch().count()), attempt);
    return name.data();
}

Coro<Replacement> begin_replacement(std::string path, mode_t mode) {
    refuse_nul(path);
    Replacement made;
    made.path = std::move(path);
    const std::string what = "open of " + made.path;
    const auto [folder, name] = split(made.path);
    made.name = name;
    if (made.name.empty())
        detail::raise_error(made.path.empty() ? ENOENT : EISDIR,
                            made.path.empty() ? "open of an empty path" : what);
    auto directory = co_await traps::open_at(AT_FDCWD, folder.c_str(), O_RDONLY | O_DIRECTORY);
    if (!directory && directory.error() == std::errc::permission_denied) {
        // Whoever may not list it may still write into it.
        made.directory_can_sync = false;
        directory = co_await traps::open_at(AT_FDCWD, folder.c_str(), O_PATH | O_DIRECTORY);
    }
    made.directory = Descriptor{detail::need(directory, what)};

    struct ::statx old;
    const auto there = co_await traps::stat_at(made.directory.get(), made.name.c_str(),
                                               AT_SYMLINK_NOFOLLOW, STATX_TYPE | STATX_MODE, old);
    if (!there && there.error() != std::errc::no_such_file_or_directory)
        throw std::system_error(there.error(), what);
    if (there && detail::kind_of(old.stx_mode) == FileKind::directory)
        detail::raise_error(EISDIR, what);
    if (there && detail::kind_of(old.stx_mode) == FileKind::regular)
        made.permissions = old.stx_mode & static_cast<mode_t>(07777);

    // What was kept from strangers is kept from them meanwhile, too.
    const mode_t first_mode = made.permissions ? static_cast<mode_t>(0600) : mode;
    std::expected<int, std::error_code> file;
    unsigned attempt = 0;
    do {
        made.temporary = temporary_name(co_await now(), attempt++);
        file = co_await traps::open_at(made.directory.get(), made.temporary.c_str(),
                                       O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, first_mode);
    } while (!file && file.error() == std::errc::file_exists);
    made.file = File{Descriptor{detail::need(file, what)}, made.path};
    co_return made;
}

Coro<void> put_in_place(Replacement& made) {
    const int error = co_await errno_on_thread([&made] {
        const int directory = made.directory.get();
        return ::renameat(directory, made.temporary.c_str(), directory, made.name.c_str()) == 0
                   ? 0
                   : errno;
    });
    if (error != 0)
        detail::raise_error(error, "rename to " + made.path);
    made.in_place = true;
    if (!made.directory_can_sync)
        co_return;
    const auto synced = co_await traps::fsync(made.directory.get());
    if (!synced && synced.error() != std::errc::invalid_argument) // not every file system can
        throw std::system_error(synced.error(), "sync of the directory of " + made.path);
}

Coro<void> fill_and_replace(Replacement& made, const std::string& data) {
    co_await made.file.write_all(data);
    if (made.permissions) {
        const int error = co_await errno_on_thread(
            [&made] { return ::fchmod(made.file.fd(), *made.permissions) == 0 ? 0 : errno; });
        if (error != 0)
            detail::raise_error(error, "permissions of " + made.path);
    }
    co_await made.file.sync();
    co_await disable_cancellation(put_in_place(made));
}

Coro<void> tidy_up(Replacement& made) {
    if (!made.in_place)
        co_await run_in_thread(
            [](int directory, const char* name) { ::unlinkat(directory, name, 0); },
            made.directory.get(), made.temporary.c_str())
            .changing_files();
}

} // namespace

Coro<void> write_file(std::string path, std::string data, mode_t mode) {
    // Held back: no file may be made that nobody knows of.
    co_await with_resource(
        disable_cancellation(begin_replacement(std::move(path), mode)),
        [&data](Replacement& made) { return fill_and_replace(made, data); },
        [](Replacement& made) { return tidy_up(made); });
}

} // namespace trapline
