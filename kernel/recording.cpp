#include "recording.hpp"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <system_error>
#include <type_traits>

#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "replay.hpp"

namespace trapline::recording {

static_assert(std::endian::native == std::endian::little, "recordings are little endian");

namespace {

// Eight tables, for eight bytes at a time: Kounavis and Berry, "Novel Table Lookup-Based Algorithms
// for High-Performance CRC Generation" (2008).
using Tables = std::array<std::array<std::uint32_t, 256>, 8>;

constexpr Tables make_tables() {
    Tables tables{};
    for (std::uint32_t i = 0; i < 256; ++i) {
        std::uint32_t crc = i;
        for (int bit = 0; bit < 8; ++bit)
            crc = (crc >> 1) ^ ((crc & 1) ? 0x82f63b78u : 0u);
        tables[0][i] = crc;
    }
    for (std::size_t n = 1; n < 8; ++n) {
        for (std::size_t i = 0; i < 256; ++i)
            tables[n][i] = (tables[n - 1][i] >> 8) ^ tables[0][tables[n - 1][i] & 0xff];
    }
    return tables;
}

constexpr Tables tables = make_tables();

std::uint32_t with_tables(std::span<const std::byte> bytes, std::uint32_t crc) noexcept {
    const auto* at = reinterpret_cast<const unsigned char*>(bytes.data());
    std::size_t left = bytes.size();
    for (; left >= 8; left -= 8, at += 8) {
        std::uint64_t word = 0;
        std::memcpy(&word, at, sizeof word);
        word ^= crc;
        crc = 0;
        for (std::size_t n = 0; n < 8; ++n)
            crc ^= tables[7 - n][(word >> (8 * n)) & 0xff];
    }
    for (; left > 0; --left, ++at)
        crc = (crc >> 8) ^ tables[0][(crc ^ *at) & 0xff];
    return crc;
}

#if defined(__x86_64__)
/// By the processor's own instruction (SSE 4.2).
[[gnu::target("sse4.2")]] std::uint32_t with_instruction(std::span<const std::byte> bytes,
                                                         std::uint32_t crc) noexcept {
    const auto* at = reinterpret_cast<const unsigned char*>(bytes.data());
    std::size_t left = bytes.size();
    std::uint64_t wide = crc;
    for (; left >= 8; left -= 8, at += 8) {
        std::uint64_t word = 0;
        std::memcpy(&word, at, sizeof word);
        wide = __builtin_ia32_crc32di(wide, word);
    }
    crc = static_cast<std::uint32_t>(wide);
    for (; left > 0; --left, ++at)
        crc = __builtin_ia32_crc32qi(crc, *at);
    return crc;
}
#endif

std::span<const std::byte> bytes_of(const auto& value) noexcept {
    return std::as_bytes(std::span(&value, 1));
}

/// A block's checksum covers its place in the file: none can be missing.
std::uint32_t block_sum(std::uint64_t number, std::span<const std::byte> events) noexcept {
    const auto length = static_cast<std::uint32_t>(events.size());
    return crc32c(events, crc32c(bytes_of(length), crc32c(bytes_of(number))));
}

struct Header {
    std::array<char, 8> magic;
    std::uint32_t version;
    std::uint32_t identity_length;
    std::array<char, 44> identity;
    std::uint32_t sum; ///< of what stands before it
};
static_assert(sizeof(Header) == header_bytes);

std::uint32_t header_sum(const Header& header) noexcept {
    return crc32c(bytes_of(header).first(offsetof(Header, sum)));
}

std::string in_hex(std::span<const std::byte> bytes) {
    std::string hex;
    for (const std::byte byte : bytes) {
        char digits[3];
        std::snprintf(digits, sizeof digits, "%02x", std::to_integer<unsigned>(byte));
        hex += digits;
    }
    return hex;
}

/// The first object that is looked at is the executable.
int find_build_id(dl_phdr_info* object, std::size_t, void* found) {
    for (int i = 0; i < object->dlpi_phnum; ++i) {
        const ElfW(Phdr)& segment = object->dlpi_phdr[i];
        if (segment.p_type != PT_NOTE)
            continue;
        const auto* at = reinterpret_cast<const std::byte*>(object->dlpi_addr + segment.p_vaddr);
        const std::byte* end = at + segment.p_memsz;
        const auto padded = [](std::size_t bytes) { return (bytes + 3) & ~std::size_t{3}; };
        while (at + sizeof(ElfW(Nhdr)) <= end) {
            ElfW(Nhdr) note;
            std::memcpy(&note, at, sizeof note);
            const std::byte* name = at + sizeof note;
            const std::byte* value = name + padded(note.n_namesz);
            at = value + padded(note.n_descsz);
            if (at > end)
                break;
            if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 &&
                std::memcmp(name, "GNU", 4) == 0) {
                *static_cast<std::string*>(found) = in_hex({value, note.n_descsz});
                return 1;
            }
        }
    }
    return 1;
}

} // namespace

std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t so_far) noexcept {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("sse4.2"))
        return ~with_instruction(bytes, ~so_far);
#endif
    return ~with_tables(bytes, ~so_far);
}

std::string program_identity() {
    std::string identity;
    ::dl_iterate_phdr(&find_build_id, &identity);
    constexpr std::size_t length_max = sizeof(Header::identity);
    if (!identity.empty())
        return identity.substr(0, length_max);
    struct ::stat status{};
    if (::stat("/proc/self/exe", &status) != 0)
        return "unknown";
    return std::to_string(status.st_size) + "@" + std::to_string(status.st_mtim.tv_sec) + "." +
           std::to_string(status.st_mtim.tv_nsec);
}

void say(const std::function<void(std::string_view)>& log, const std::string& line) {
    if (log)
        log(line);
    else
        std::fprintf(stderr, "trapline: %s\n", line.c_str());
}

FileIdentity identity_of(const struct ::stat& status) noexcept {
    return {status.st_dev, status.st_ino};
}

int moved_away(int fd) noexcept {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur <= 64)
        return fd;
    const auto high = std::min<rlim_t>(limit.rlim_cur, 1024) - 16;
    const int moved = ::fcntl(fd, F_DUPFD_CLOEXEC, static_cast<int>(high));
    if (moved < 0)
        return fd;
    ::close(fd);
    return moved;
}

// --- writing -------------------------------------------------------------------------------

Writer::Writer(const std::string& path, std::function<void(std::string_view)> log)
    : buffer_(block_header_bytes + block_bytes_max),
      process_(::getpid()),
      path_(path),
      log_(std::move(log)) {
    const auto refuse = [&](int error, const char* why = "") {
        if (fd_ >= 0)
            ::close(fd_);
        throw std::system_error(error, std::system_category(), "record into " + path + why);
    };
    const auto can_be = [](mode_t mode) { return S_ISREG(mode) || S_ISCHR(mode); };
    constexpr auto other = ", which is neither a file nor a device";
    struct ::stat status{};
    // Before it is opened, which would wait for a pipe's reader.
    if (::stat(path.c_str(), &status) == 0 && !can_be(status.st_mode))
        refuse(EINVAL, other);
    fd_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_NONBLOCK | O_CLOEXEC, 0600);
    if (fd_ < 0 || ::fstat(fd_, &status) != 0)
        refuse(errno);
    if (!can_be(status.st_mode))
        refuse(EINVAL, other);
    (void)::fcntl(fd_, F_SETFL, 0); // a terminal may be slow
    if (::flock(fd_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
        refuse(EBUSY, ", where another kernel records, or which one replays");
    fd_ = moved_away(fd_);
    file_ = identity_of(status);
    if (::ftruncate(fd_, 0) != 0 && errno != EINVAL) // EINVAL: a device
        refuse(errno);
    Header header{magic, version, 0, {}, 0};
    const std::string identity = program_identity();
    header.identity_length = static_cast<std::uint32_t>(identity.size());
    std::memcpy(header.identity.data(), identity.data(), identity.size());
    header.sum = header_sum(header);
    write_all(bytes_of(header));
}

Writer::~Writer() {
    if (fd_ >= 0 && is_its_own())
        ::close(fd_);
}

/// Programs that become daemons close all descriptors, and open others under the same numbers.
bool Writer::is_its_own() const noexcept {
    struct ::stat status{};
    return ::fstat(fd_, &status) == 0 && identity_of(status) == file_;
}

void Writer::long_bytes(std::span<const std::byte> all) noexcept {
    while (!all.empty()) {
        if (used_ == buffer_.size())
            flush();
        const std::size_t now = std::min(all.size(), buffer_.size() - used_);
        std::memcpy(&buffer_[used_], all.data(), now);
        used_ += now;
        all = all.subspan(now);
    }
}

void Writer::flush() noexcept {
    const auto events = std::span(buffer_).subspan(block_header_bytes, used_ - block_header_bytes);
    used_ = block_header_bytes;
    if (events.empty() || fd_ < 0 || ::getpid() != process_) // a forked child shares the file
        return;
    const auto length = static_cast<std::uint32_t>(events.size());
    const std::uint32_t sum = block_sum(block_++, events);
    std::memcpy(&buffer_[0], &length, sizeof length);
    std::memcpy(&buffer_[4], &sum, sizeof sum);
    write_all(std::span(buffer_).first(block_header_bytes + events.size()));
}

void Writer::write_all(std::span<const std::byte> all) noexcept {
    if (!is_its_own()) {
        fd_ = -1;
        return give_up("the program has closed its descriptor");
    }
    // Beyond this limit Linux would end the process by SIGXFSZ.
    rlimit limit{};
    if (::getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
        written_ + all.size() > limit.rlim_cur)
        return fail(EFBIG);
    for (std::size_t done = 0; done < all.size();) {
        const ssize_t now = ::write(fd_, &all[done], all.size() - done);
        if (now < 0 && errno == EINTR)
            continue;
        if (now <= 0)
            return fail(now < 0 ? errno : EIO);
        done += static_cast<std::size_t>(now);
    }
    written_ += all.size();
}

void Writer::fail(int error) noexcept {
    [[maybe_unused]] const int cut = ::ftruncate(fd_, static_cast<off_t>(written_));
    give_up(std::system_category().message(error));
}

void Writer::give_up(const std::string& why) noexcept {
    if (fd_ >= 0)
        ::close(fd_);
    fd_ = -1;
    try {
        say(log_, "the recording " + path_ + " ends here, after " + std::to_string(written_) +
                      " bytes: " + why);
    } catch (const std::exception&) {
        // No memory for a line that nobody may read.
    }
}

// --- reading -------------------------------------------------------------------------------

Reader::Reader(std::string path) : path_(std::move(path)) {
    try {
        open();
        check();
    } catch (...) {
        if (fd_ >= 0)
            ::close(fd_);
        throw;
    }
}

Reader::~Reader() { ::close(fd_); }

void Reader::open() {
    const auto refuse = [this] {
        throw std::system_error(errno, std::system_category(), "replay of " + path_);
    };
    fd_ = ::open(path_.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC); // a pipe may have no writer
    struct ::stat status{};
    if (fd_ < 0 || ::fstat(fd_, &status) != 0)
        refuse();
    if (!S_ISREG(status.st_mode))
        damaged("is no regular file: a replay reads it twice");
    fd_ = moved_away(fd_);
    (void)::flock(fd_, LOCK_SH | LOCK_NB); // while a program records there: what there is so far
}

void Reader::damaged(const std::string& how) const {
    throw RecordingError("the recording " + path_ + " " + how);
}

/// Answers less only at the end of the file.
std::size_t Reader::read_at(std::uint64_t at, std::span<std::byte> to) const {
    std::size_t done = 0;
    while (done < to.size()) {
        const auto from = static_cast<off_t>(at + done);
        const ssize_t now = ::pread(fd_, &to[done], to.size() - done, from);
        if (now < 0 && errno == EINTR)
            continue;
        if (now < 0)
            throw std::system_error(errno, std::system_category(), "replay of " + path_);
        if (now == 0)
            break;
        done += static_cast<std::size_t>(now);
    }
    return done;
}

void Reader::check_header() {
    Header header{};
    const std::size_t size = read_at(0, std::as_writable_bytes(std::span(&header, 1)));
    if (size == 0)
        damaged("is empty");
    if (size >= magic.size() && header.magic != magic)
        damaged("is none: it does not begin as one");
    if (size < header_bytes)
        damaged("is cut off within its header");
    if (header.sum != header_sum(header) || header.identity_length > header.identity.size())
        damaged("is damaged: the checksum of its header is wrong");
    if (header.version != version)
        damaged("has version " + std::to_string(header.version) +
                " of the format; this program reads version " + std::to_string(version));
    identity_.assign(header.identity.data(), header.identity_length);
}

void Reader::check() {
    check_header();
    at_ = header_bytes;
    while (read_block())
        bytes_left_ += rest_.size();
    at_ = header_bytes;
    block_ = 0;
    rest_ = {};
}

std::string Reader::block_name() const {
    return "block " + std::to_string(block_) + ", at byte " + std::to_string(at_);
}

/// The next one; false at the end of the file, and where it is cut off.
bool Reader::read_block() {
    struct {
        std::uint32_t length;
        std::uint32_t sum;
    } head{};
    static_assert(sizeof head == block_header_bytes);
    const std::size_t got = read_at(at_, std::as_writable_bytes(std::span(&head, 1)));
    if (got < sizeof head) {
        if (got > 0)
            cut_ = block_name() + ", is cut off within its header";
        return false;
    }
    if (head.length == 0 || head.length > block_bytes_max)
        damaged("is damaged: " + block_name() + ", has a length that cannot be");
    buffer_.resize(head.length);
    if (const std::size_t there = read_at(at_ + sizeof head, buffer_); there < head.length) {
        cut_ = block_name() + ", is cut off after " + std::to_string(there) + " of its " +
               std::to_string(head.length) + " bytes";
        return false;
    }
    if (block_sum(block_, buffer_) != head.sum)
        damaged("is damaged: the checksum of " + block_name() + ", is wrong");
    rest_ = buffer_;
    at_ += sizeof head + head.length;
    ++block_;
    return true;
}

std::uint8_t Reader::byte() {
    if (bytes_left_ == 0)
        throw NotWhole{};
    if (rest_.empty() && !read_block())
        damaged("has been changed while it was replayed");
    const auto value = std::to_integer<std::uint8_t>(rest_.front());
    rest_ = rest_.subspan(1);
    --bytes_left_;
    return value;
}

std::uint64_t Reader::number() {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        const std::uint8_t next = byte();
        value |= std::uint64_t{next & 0x7fu} << shift;
        if (next < 0x80)
            return value;
    }
    damaged("is damaged: it holds a number that is too long");
}

std::int64_t Reader::signed_number() {
    const std::uint64_t value = number();
    return static_cast<std::int64_t>(value >> 1) ^ -static_cast<std::int64_t>(value & 1);
}

/// Appended to a string or a vector.
void Reader::bytes(std::uint64_t count, auto& to) {
    if (count > bytes_left_)
        throw NotWhole{};
    bytes_left_ -= count;
    to.reserve(to.size() + count);
    while (count > 0) {
        if (rest_.empty() && !read_block())
            damaged("has been changed while it was replayed");
        const auto now = rest_.first(std::min<std::uint64_t>(count, rest_.size()));
        using Unit = std::remove_cvref_t<decltype(to)>::value_type;
        const auto* at = reinterpret_cast<const Unit*>(now.data());
        to.insert(to.end(), at, at + now.size());
        rest_ = rest_.subspan(now.size());
        count -= now.size();
    }
}

bool Reader::next(Read& event) {
    try {
        if (bytes_left_ == 0)
            return false;
        event = {};
        read(event);
        return true;
    } catch (const NotWhole&) {
        bytes_left_ = 0;
        return false;
    }
}

void Reader::read(Read& event) {
    event.kind = static_cast<Event>(byte());
    switch (event.kind) {
    case Event::begun:
        for (std::uint64_t count = number(); count > 0; --count)
            event.open.push_back(static_cast<int>(number()));
        return;
    case Event::turn: event.passed = Duration{signed_number()}; return;
    case Event::deadlock: bytes(number(), event.text); return;
    case Event::ended: return;
    default: event.task = number();
    }
    switch (event.kind) {
    case Event::created:
        event.parent = number();
        bytes(number(), event.text);
        return;
    case Event::opened:
        event.file.mode = static_cast<std::uint32_t>(number());
        event.file.size = number();
        event.file.modified_ns = signed_number();
        return;
    case Event::trapped: {
        event.trap.kind = byte();
        const TrapNote::Shape* shape = TrapNote::shape_of(event.trap.kind);
        if (!shape)
            damaged("is damaged: it holds trap " + std::to_string(event.trap.kind) +
                    ", which there is not");
        for (std::size_t i = 0; i < shape->count; ++i)
            event.trap.values[i] = signed_number();
        if (shape->text != TrapNote::Text::none)
            bytes(number(), event.text);
        return;
    }
    case Event::replied: {
        const std::uint8_t parts = byte();
        event.reply.interrupt = static_cast<Interrupt>(parts & 3);
        if (event.reply.interrupt == Interrupt::thrown)
            damaged("is damaged: it holds a reply that cannot be");
        event.interrupt_waits = (parts & 4) != 0;
        event.thread_idle = (parts & 128) != 0;
        if (parts & 8)
            event.reply.value = signed_number();
        if (parts & 16)
            event.reply.progress = static_cast<std::uint32_t>(number());
        if (parts & 32)
            event.reply.stopped_by = static_cast<std::uint16_t>(number());
        if (parts & 64)
            bytes(number(), event.written);
        return;
    }
    case Event::started:
    case Event::cancelled:
    case Event::interrupted:
    case Event::terminated: return;
    default: break;
    }
    damaged("is damaged: it holds an event of kind " +
            std::to_string(static_cast<int>(event.kind)) + ", which there is not");
}

} // namespace trapline::recording
