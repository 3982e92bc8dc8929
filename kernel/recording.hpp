// Internal. The file of a recording, as kernel/RECORDING.md describes it: written in blocks with a
// checksum each, read back event by event.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sys/stat.h>
#include <sys/types.h>

#include "../traps/reply.hpp"
#include "trap_note.hpp"

namespace trapline {

struct KernelOptions;

namespace recording {

inline constexpr std::array<char, 8> magic{'T', 'R', 'A', 'P', 'R', 'E', 'C', '\n'};
inline constexpr std::uint32_t version = 1;
inline constexpr std::size_t header_bytes = 64;
inline constexpr std::size_t block_header_bytes = 8;
inline constexpr std::size_t block_bytes_max = 64 * 1024; ///< of events, without the header

enum class Event : std::uint8_t {
    begun = 1,   ///< which descriptors were open
    turn,        ///< how much time has passed since the last one
    created,     ///< a task
    started,     ///< it runs for the first time
    trapped,     ///< it asks
    replied,     ///< it goes on with this answer
    cancelled,   ///< a cancellation is on its way to it
    interrupted, ///< what it was blocked in has been ended by an interrupt
    terminated,  ///< it has ended; or was destroyed, if it did not run
    opened,      ///< what it opens, as its reply says, is such a file
    deadlock,    ///< run() threw this
    ended,       ///< the kernel is gone
};

/// CRC-32C of `bytes`, begun or gone on with.
std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t so_far = 0) noexcept;

/// What tells one program from another: the executable's build id; without one, its size and time.
std::string program_identity();

/// Where the kernel that is being made records, or what it replays, if the environment says so and
/// the options do not. A privileged program (setuid) heeds no environment. Throws
/// std::invalid_argument when both are asked for, and where TRAPLINE_REPLAY_UNTIL is no number.
void choose(KernelOptions& options);

// What both ends of a file need.

/// Into the log, or to stderr where there is none.
void say(const std::function<void(std::string_view)>& log, const std::string& line);

/// What tells a file from another one that has the same name, or number.
using FileIdentity = std::pair<dev_t, ino_t>;
FileIdentity identity_of(const struct ::stat& status) noexcept;

/// Moves a descriptor out of the way of the program's own, so that it gets the same numbers as
/// without.
int moved_away(int fd) noexcept;

/// Appends events to a file. Keeps one block in memory; one that cannot be written ends the
/// recording, which stays valid up to the block before.
class Writer {
public:
    /// Throws std::system_error when the file cannot be opened, is neither a file nor a device, or
    /// another kernel records there.
    Writer(const std::string& path, std::function<void(std::string_view)> log);
    Writer(const Writer&) = delete;
    Writer& operator=(const Writer&) = delete;
    ~Writer(); ///< without flush()

    /// Makes room for the next `fixed_max` bytes that byte() and number() write.
    void begin() noexcept {
        if (used_ + fixed_max > buffer_.size()) [[unlikely]]
            flush();
    }
    static constexpr std::size_t fixed_max = 160;

    void byte(std::uint8_t value) noexcept { buffer_[used_++] = std::byte{value}; }
    void number(std::uint64_t value) noexcept {
        while (value >= 0x80) {
            byte(static_cast<std::uint8_t>(value | 0x80));
            value >>= 7;
        }
        byte(static_cast<std::uint8_t>(value));
    }
    void signed_number(std::int64_t value) noexcept {
        number((static_cast<std::uint64_t>(value) << 1) ^ static_cast<std::uint64_t>(value >> 63));
    }

    /// As many bytes as there are, over several blocks if need be.
    void bytes(std::span<const std::byte> all) noexcept {
        if (all.size() <= buffer_.size() - used_) [[likely]] {
            std::memcpy(&buffer_[used_], all.data(), all.size());
            used_ += all.size();
        } else {
            long_bytes(all);
        }
    }
    void text(std::string_view text) noexcept {
        number(text.size());
        if (!text.empty())
            bytes(std::as_bytes(std::span(text)));
    }

    /// Writes what there is as a block.
    void flush() noexcept;

    /// Ends the recording; a line in the log says why. The program goes on unrecorded.
    void give_up(const std::string& why) noexcept;

private:
    void long_bytes(std::span<const std::byte> all) noexcept;
    void write_all(std::span<const std::byte> all) noexcept;
    bool is_its_own() const noexcept;
    void fail(int error) noexcept;

    std::vector<std::byte> buffer_; ///< room for the block's header, then the events
    std::size_t used_ = block_header_bytes;
    std::uint64_t block_ = 0;
    std::uint64_t written_ = 0; ///< the file is valid up to here
    int fd_ = -1;
    FileIdentity file_{}; ///< what fd_ is, as long as the program has not closed it
    pid_t process_;
    std::string path_;
    std::function<void(std::string_view)> log_;
};

/// What programs ask of a file that they have just opened.
struct FileKind {
    std::uint32_t mode = 0; ///< its type and permissions, as in stat(2); 0: not known
    std::uint64_t size = 0;
    std::int64_t modified_ns = 0; ///< since 1970
};

/// An event as it was read. What its kind does not have is empty.
struct Read {
    Event kind{};
    std::uint64_t task = 0;
    std::uint64_t parent = 0; ///< of one that was created; 0: none
    std::string text;         ///< a name, or why run() threw
    Duration passed{};        ///< with a turn
    std::vector<int> open;    ///< descriptors
    FileKind file;            ///< that was opened
    TrapNote trap;            ///< its text is `text`
    Reply reply;              ///< of Self, Accept and the like: numbers of the recorded process
    bool interrupt_waits = false;
    bool thread_idle = false; ///< with AwaitThread: a policy has answered, and no thread begun
    std::vector<std::byte> written;
};

/// The recording of a file: checked whole when it is opened, and once more block by block as it is
/// read, for files can change.
class Reader {
public:
    /// Throws std::system_error when the file cannot be read, RecordingError when it is no
    /// recording, of another version or damaged.
    explicit Reader(std::string path);
    Reader(const Reader&) = delete;
    Reader& operator=(const Reader&) = delete;
    ~Reader();

    const std::string& path() const noexcept { return path_; }
    const std::string& identity() const noexcept { return identity_; }

    /// What of a last block is there, if it is not whole; else empty.
    const std::string& cut() const noexcept { return cut_; }

    /// The next event; false at the end, and where the last one is not whole. Throws
    /// RecordingError for what cannot be.
    bool next(Read& event);

    /// Throws RecordingError, "the recording FILE " and how.
    [[noreturn]] void damaged(const std::string& how) const;

private:
    struct NotWhole {};

    void open();
    void check();
    void check_header();
    bool read_block();
    std::size_t read_at(std::uint64_t at, std::span<std::byte> to) const;
    std::string block_name() const;
    void read(Read& event);
    std::uint8_t byte();
    std::uint64_t number();
    std::int64_t signed_number();
    void bytes(std::uint64_t count, auto& to);

    std::string path_;
    std::string identity_;
    std::string cut_;
    int fd_ = -1;
    std::vector<std::byte> buffer_;
    std::span<const std::byte> rest_; ///< of the block
    std::uint64_t block_ = 0;         ///< the number of the next one
    std::uint64_t at_ = 0;            ///< and where it begins
    std::uint64_t bytes_left_ = 0;    ///< of all
};

} // namespace recording

} // namespace trapline
