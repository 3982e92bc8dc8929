#include "recording.hpp"

#include <atomic>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <system_error>

#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "options.hpp"
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

/// So many kernels have been made that the environment told to record or to replay: they number
/// their files. Like threads, variables of the environment belong to the process.
constinit std::atomic<unsigned> kernels_made = 0;

/// Whether another kernel records there: that of a program which has started this one.
bool is_in_use(const std::string& path) noexcept {
    const int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    const bool in_use = ::flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    ::close(fd);
    return in_use;
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

void choose(KernelOptions& options) {
    if (options.record.empty() && options.replay.empty()) {
        const auto variable = [](const char* name) {
            const char* value = std::getenv(name);
            return std::string(value ? value : "");
        };
        options.record = variable("TRAPLINE_RECORD");
        options.replay = variable("TRAPLINE_REPLAY");
        std::string& chosen = options.replay.empty() ? options.record : options.replay;
        if (!chosen.empty()) {
            const unsigned number = kernels_made.fetch_add(1, std::memory_order_relaxed) + 1;
            chosen += number > 1 ? "." + std::to_string(number) : "";
            if (&chosen == &options.record && is_in_use(chosen))
                chosen += "-" + std::to_string(::getpid());
            if (options.replay_until == 0 && number == 1)
                options.replay_until =
                    std::strtoull(variable("TRAPLINE_REPLAY_UNTIL").c_str(), nullptr, 10);
        }
    }
    if (!options.record.empty() && !options.replay.empty())
        throw std::invalid_argument("a kernel cannot both record and replay");
}

// --- writing -------------------------------------------------------------------------------

Writer::Writer(const std::string& path, std::function<void(std::string_view)> log)
    : buffer_(block_header_bytes + block_bytes_max),
      process_(::getpid()),
      path_(path),
      log_(std::move(log)) {
    const auto refuse = [&](int error, const char* why) {
        if (fd_ >= 0)
            ::close(fd_);
        throw std::system_error(error, std::system_category(), "record into " + path + why);
    };
    fd_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd_ < 0)
        refuse(errno, "");
    if (::flock(fd_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
        refuse(EBUSY, ", where another kernel records");
    // Out of the way of the program's own descriptors, so that it gets the same numbers as without.
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur > 64) {
        const auto high = std::min<rlim_t>(limit.rlim_cur, 1024) - 16;
        const int moved = ::fcntl(fd_, F_DUPFD_CLOEXEC, static_cast<int>(high));
        if (moved >= 0) {
            ::close(fd_);
            fd_ = moved;
        }
    }
    if (::ftruncate(fd_, 0) != 0 && errno != EINVAL) // EINVAL: a device
        refuse(errno, "");
    Header header{magic, version, 0, {}, 0};
    const std::string identity = program_identity();
    header.identity_length = static_cast<std::uint32_t>(identity.size());
    std::memcpy(header.identity.data(), identity.data(), identity.size());
    header.sum = header_sum(header);
    write_all(bytes_of(header));
}

Writer::~Writer() {
    if (fd_ >= 0)
        ::close(fd_);
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

bool Writer::write_all(std::span<const std::byte> all) noexcept {
    // Beyond this limit Linux would end the process by SIGXFSZ.
    rlimit limit{};
    if (::getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
        written_ + all.size() > limit.rlim_cur) {
        give_up(EFBIG);
        return false;
    }
    for (std::size_t done = 0; done < all.size();) {
        const ssize_t now = ::write(fd_, &all[done], all.size() - done);
        if (now < 0 && errno == EINTR)
            continue;
        if (now <= 0) {
            give_up(now < 0 ? errno : EIO);
            return false;
        }
        done += static_cast<std::size_t>(now);
    }
    written_ += all.size();
    return true;
}

/// The program goes on unrecorded.
void Writer::give_up(int error) noexcept {
    [[maybe_unused]] const int cut = ::ftruncate(fd_, static_cast<off_t>(written_));
    ::close(fd_);
    fd_ = -1;
    try {
        const std::string line = "the recording " + path_ + " ends here, after " +
                                 std::to_string(written_) +
                                 " bytes: " + std::system_category().message(error);
        if (log_)
            log_(line);
        else
            std::fprintf(stderr, "trapline: %s\n", line.c_str());
    } catch (const std::exception&) {
        // No memory for a line that nobody may read.
    }
}

// --- reading -------------------------------------------------------------------------------

Reader::Reader(std::string path) : path_(std::move(path)) {
    const int fd = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
    struct ::stat status{};
    int error = fd < 0 || ::fstat(fd, &status) != 0 ? errno : 0;
    if (error == 0 && status.st_size > 0) {
        mapped_bytes_ = static_cast<std::size_t>(status.st_size);
        mapped_ = ::mmap(nullptr, mapped_bytes_, PROT_READ, MAP_PRIVATE, fd, 0);
        if (mapped_ == MAP_FAILED) {
            error = errno;
            mapped_ = nullptr;
        }
    }
    if (fd >= 0)
        ::close(fd);
    if (error != 0)
        throw std::system_error(error, std::system_category(), "replay of " + path_);
    try {
        check({static_cast<const std::byte*>(mapped_), mapped_bytes_});
    } catch (...) {
        if (mapped_)
            ::munmap(mapped_, mapped_bytes_);
        throw;
    }
}

Reader::~Reader() {
    if (mapped_)
        ::munmap(mapped_, mapped_bytes_);
}

void Reader::damaged(const std::string& how) const {
    throw RecordingError("the recording " + path_ + " " + how);
}

void Reader::check(std::span<const std::byte> file) {
    if (file.empty())
        damaged("is empty");
    Header header{};
    if (file.size() >= magic.size() && std::memcmp(file.data(), magic.data(), magic.size()) != 0)
        damaged("is none: it does not begin as one");
    if (file.size() < header_bytes)
        damaged("is cut off within its header");
    std::memcpy(&header, file.data(), sizeof header);
    if (header.version != version)
        damaged("has version " + std::to_string(header.version) +
                " of the format; this program reads version " + std::to_string(version));
    if (header.sum != header_sum(header) || header.identity_length > header.identity.size())
        damaged("is damaged: the checksum of its header is wrong");
    identity_.assign(header.identity.data(), header.identity_length);
    std::size_t at = header_bytes;
    for (; file.size() - at >= block_header_bytes;) {
        std::uint32_t length = 0;
        std::uint32_t sum = 0;
        std::memcpy(&length, &file[at], sizeof length);
        std::memcpy(&sum, &file[at + 4], sizeof sum);
        const std::string name =
            "block " + std::to_string(blocks_.size()) + ", at byte " + std::to_string(at);
        if (length == 0 || length > block_bytes_max)
            damaged("is damaged: " + name + ", has a length that cannot be");
        if (length > file.size() - at - block_header_bytes)
            break;
        const auto events = file.subspan(at + block_header_bytes, length);
        if (block_sum(blocks_.size(), events) != sum)
            damaged("is damaged: the checksum of " + name + ", is wrong");
        blocks_.push_back(events);
        bytes_left_ += length;
        at += block_header_bytes + length;
    }
    cut_ = at != file.size();
}

bool Reader::next_block() noexcept {
    if (block_ == blocks_.size())
        return false;
    rest_ = blocks_[block_++];
    return true;
}

std::uint8_t Reader::byte() {
    if (rest_.empty() && !next_block())
        throw NotWhole{};
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
    damaged("holds a number that is too long");
}

std::int64_t Reader::signed_number() {
    const std::uint64_t value = number();
    return static_cast<std::int64_t>(value >> 1) ^ -static_cast<std::int64_t>(value & 1);
}

std::span<const std::byte> Reader::bytes(std::size_t count, std::vector<std::byte>& storage) {
    if (count > bytes_left_)
        throw NotWhole{};
    if (rest_.empty())
        next_block();
    bytes_left_ -= count;
    if (count <= rest_.size()) {
        const auto all = rest_.first(count);
        rest_ = rest_.subspan(count);
        return all;
    }
    storage.clear();
    while (storage.size() < count) {
        if (rest_.empty())
            next_block();
        const auto now = rest_.first(std::min(count - storage.size(), rest_.size()));
        storage.insert(storage.end(), now.begin(), now.end());
        rest_ = rest_.subspan(now.size());
    }
    return storage;
}

std::string Reader::text() {
    std::vector<std::byte> storage;
    const auto all = bytes(number(), storage);
    return {reinterpret_cast<const char*>(all.data()), all.size()};
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
    case Event::deadlock: event.text = text(); return;
    case Event::ended: return;
    default: event.task = number();
    }
    switch (event.kind) {
    case Event::created:
        event.parent = number();
        event.text = text();
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
            damaged("holds trap " + std::to_string(event.trap.kind) + ", which there is not");
        for (std::size_t i = 0; i < shape->count; ++i)
            event.trap.values[i] = signed_number();
        if (shape->text != TrapNote::Text::none)
            event.text = text();
        return;
    }
    case Event::replied: {
        const std::uint8_t parts = byte();
        event.reply.interrupt = static_cast<Interrupt>(parts & 3);
        event.interrupt_waits = (parts & 4) != 0;
        if (parts & 8)
            event.reply.value = signed_number();
        if (parts & 16)
            event.reply.progress = static_cast<std::uint32_t>(number());
        if (parts & 32)
            event.reply.stopped_by = static_cast<std::uint16_t>(number());
        if (parts & 64)
            event.written = bytes(number(), event.storage);
        return;
    }
    case Event::started:
    case Event::cancelled:
    case Event::interrupted:
    case Event::terminated: return;
    default: break;
    }
    damaged("holds an event of kind " + std::to_string(static_cast<int>(event.kind)) +
            ", which there is not");
}

} // namespace trapline::recording
