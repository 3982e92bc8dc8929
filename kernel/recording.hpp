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
#include <vector>

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
/// the options do not. Throws std::invalid_argument when both are asked for.
void choose(KernelOptions& options);

/// Appends events to a file. Keeps one block in memory; one that cannot be written ends the
/// recording, which stays valid up to the block before.
class Writer {
public:
    /// Throws std::system_error when the file cannot be opened, or another process records there.
    Writer(const std::string& path, std::function<void(std::string_view)> log);
    Writer(const Writer&) = delete;
    Writer& operator=(const Writer&) = delete;
    ~Writer(); ///< without flush()

    /// Whether it still records.
    bool writes() const noexcept { return fd_ >= 0; }

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

private:
    void long_bytes(std::span<const std::byte> all) noexcept;
    bool write_all(std::span<const std::byte> all) noexcept;
    void give_up(int error) noexcept;

    std::vector<std::byte> buffer_; ///< room for the block's header, then the events
    std::size_t used_ = block_header_bytes;
    std::uint64_t block_ = 0;
    std::uint64_t written_ = 0; ///< the file is valid up to here
    int fd_ = -1;
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
    std::span<const std::byte> written; ///< in `storage`, or in the file
    std::vector<std::byte> storage;
};

/// The recording of a file, checked whole when it is opened.
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

    /// How the file ends.
    bool cut() const noexcept { return cut_; }

    /// The next event; false at the end, and where the last one is not whole. Throws
    /// RecordingError for what cannot be.
    bool next(Read& event);

private:
    struct NotWhole {};

    void check(std::span<const std::byte> file);
    void read(Read& event);
    std::uint8_t byte();
    std::uint64_t number();
    std::int64_t signed_number();
    std::span<const std::byte> bytes(std::size_t count, std::vector<std::byte>& storage);
    std::string text();
    bool next_block() noexcept;
    [[noreturn]] void damaged(const std::string& how) const;

    std::string path_;
    std::string identity_;
    void* mapped_ = nullptr;
    std::size_t mapped_bytes_ = 0;
    std::vector<std::span<const std::byte>> blocks_;
    std::size_t block_ = 0;
    std::span<const std::byte> rest_; ///< of the block
    std::uint64_t bytes_left_ = 0;    ///< of all
    bool cut_ = false;
};

} // namespace recording

} // namespace trapline
