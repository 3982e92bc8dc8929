#include "recorder.hpp"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <utility>
#include <vector>

#include <dirent.h>
#include <sys/stat.h>

#include "../traps/thread.hpp"
#include "recording.hpp"

namespace trapline {

using recording::Event;

namespace {

// A kernel that is going to wait writes a block, however small: what has happened is in the file
// then, should the program be killed. But not more often than a thousand times a second for long,
// so that a busy one pays for full blocks alone.
constexpr Duration block_costs = std::chrono::milliseconds{1};
constexpr Duration allowance_max = 64 * block_costs;

bool opens_file(const Trap& trap) noexcept {
    const auto* io = std::get_if<traps::Io>(&trap);
    return io && (io->request.index() == traps::request_index<traps::OpenAt> ||
                  io->request.index() == traps::request_index<traps::OpenAt2>);
}

/// A policy has answered, before the thread has begun.
bool is_of_idle_thread(const Trap& trap) noexcept {
    const auto* thread = std::get_if<traps::AwaitThread>(&trap);
    return thread && !thread->completion->begun();
}

std::vector<int> open_descriptors() {
    std::vector<int> open;
    DIR* listing = ::opendir("/proc/self/fd");
    if (!listing)
        return open;
    while (const dirent* at = ::readdir(listing)) {
        const int fd = std::atoi(at->d_name);
        if (at->d_name[0] != '.' && fd != ::dirfd(listing))
            open.push_back(fd);
    }
    ::closedir(listing);
    return open;
}

} // namespace

Recorder::Recorder(const std::string& path) : Recorder(path, Options{}) {}

Recorder::Recorder(const std::string& path, Options options)
    : writer_(std::make_unique<recording::Writer>(path, std::move(options.log))),
      next_(options.next),
      allowance_(allowance_max) {
    const std::vector<int> open = open_descriptors();
    writer_->byte(static_cast<std::uint8_t>(Event::begun));
    writer_->number(open.size());
    for (const int fd : open) {
        writer_->begin();
        writer_->number(static_cast<std::uint64_t>(fd));
    }
}

Recorder::~Recorder() {
    begin(Event::ended);
    writer_->flush();
}

void Recorder::flush() noexcept { writer_->flush(); }

/// Every event says that nothing has happened since the last reply but this.
inline void Recorder::begin(Event kind) noexcept {
    replied_ = 0;
    writer_->begin();
    if (now_ != noted_) {
        writer_->byte(static_cast<std::uint8_t>(Event::turn));
        writer_->signed_number((now_ - noted_).count());
        noted_ = now_;
    }
    writer_->byte(static_cast<std::uint8_t>(kind));
}

inline void Recorder::begin(Event kind, const TaskRecord& task) noexcept {
    begin(kind);
    writer_->number(task.id);
}

void Recorder::created(const TaskRecord& task) noexcept {
    if (task.id != ++created_ && !std::exchange(other_kernel_, true)) [[unlikely]] {
        writer_->flush();
        writer_->give_up("another kernel uses its recorder");
    }
    begin(Event::created, task);
    writer_->number(std::exchange(spawns_, 0));
    writer_->text(task.given_name ? std::string_view(*task.given_name) : std::string_view());
    if (next_)
        next_->created(task);
}

void Recorder::running(const TaskRecord& task) noexcept {
    if (replied_ != task.id) // its first time: else its reply says that it runs
        begin(Event::started, task);
    if (next_)
        next_->running(task);
}

void Recorder::trapped(const TaskRecord& task, const Trap& trap) noexcept {
    ++traps_;
    spawns_ = trap.index() == trap_index<traps::Spawn> ? task.id : 0;
    const TrapNote note = note_of(trap);
    const TrapNote::Shape& shape = note.shape();
    begin(Event::trapped, task);
    writer_->byte(note.kind);
    for (std::size_t i = 0; i < shape.count; ++i)
        writer_->signed_number(note.values[i]);
    if (shape.text != TrapNote::Text::none)
        writer_->text(note.text);
    if (const socklen_t room = address_room(trap)) [[unlikely]] {
        try {
            rooms_.insert_or_assign(&task, room);
        } catch (const std::bad_alloc&) {
            // Then no byte of the address is recorded, and a replay says that it ends here.
        }
    }
    if (next_)
        next_->trapped(task, trap);
}

/// What programs ask by fstat(2), which never blocks, is known to a replay, too.
void Recorder::note_opened(const TaskRecord& task, int fd) noexcept {
    struct ::stat status{};
    if (::fstat(fd, &status) != 0)
        return;
    begin(Event::opened, task);
    writer_->number(status.st_mode);
    writer_->number(static_cast<std::uint64_t>(status.st_size));
    writer_->signed_number(std::int64_t{status.st_mtim.tv_sec} * 1'000'000'000 +
                           status.st_mtim.tv_nsec);
}

void Recorder::replied(const TaskRecord& task, const Reply& reply) noexcept {
    const bool is_self = task.frame.trap.index() == trap_index<traps::Self>;
    const std::int64_t value = is_self ? static_cast<std::int64_t>(task.id) : reply.value;
    const bool io = task.frame.trap.index() == trap_index<traps::Io>;
    socklen_t room = 0;
    if (io && !rooms_.empty()) [[unlikely]] {
        if (const auto at = rooms_.find(&task); at != rooms_.end()) {
            room = at->second;
            rooms_.erase(at);
        }
    }
    std::size_t written = 0;
    if (io)
        for_each_written(task.frame.trap, reply, room,
                         [&](std::span<std::byte> part) { written += part.size(); });
    if (opens_file(task.frame.trap) && !reply.failed() && reply.interrupt == Interrupt::none)
        note_opened(task, static_cast<int>(reply.value));
    begin(Event::replied, task);
    const int parts = static_cast<int>(reply.interrupt) | (task.interrupt_pending ? 4 : 0) |
                      (value != 0 ? 8 : 0) | (reply.progress != 0 ? 16 : 0) |
                      (reply.stopped_by != 0 ? 32 : 0) | (written != 0 ? 64 : 0) |
                      (is_of_idle_thread(task.frame.trap) ? 128 : 0);
    writer_->byte(static_cast<std::uint8_t>(parts));
    if (value != 0)
        writer_->signed_number(value);
    if (reply.progress != 0)
        writer_->number(reply.progress);
    if (reply.stopped_by != 0)
        writer_->number(reply.stopped_by);
    if (written != 0) {
        writer_->number(written);
        for_each_written(task.frame.trap, reply, room,
                         [&](std::span<std::byte> part) { writer_->bytes(part); });
    }
    replied_ = task.id;
    spawns_ = 0; // also when it was refused
    if (next_)
        next_->replied(task, reply);
}

void Recorder::terminated(const TaskRecord& task) noexcept {
    begin(Event::terminated, task);
    if (next_)
        next_->terminated(task);
}

void Recorder::cancelled(const TaskRecord& task) noexcept {
    begin(Event::cancelled, task);
    if (next_)
        next_->cancelled(task);
}

void Recorder::interrupted(const TaskRecord& task) noexcept {
    begin(Event::interrupted, task);
    if (next_)
        next_->interrupted(task);
}

void Recorder::turn(TimePoint now) noexcept {
    now_ = now;
    if (next_)
        next_->turn(now);
}

void Recorder::waiting(TimePoint now) noexcept {
    allowance_ = std::min(allowance_ + (now - waited_), allowance_max);
    waited_ = now;
    if (allowance_ >= block_costs) {
        allowance_ -= block_costs;
        writer_->flush();
    }
    if (next_)
        next_->waiting(now);
}

void Recorder::deadlock(std::string_view text) noexcept {
    begin(Event::deadlock);
    writer_->text(text);
    writer_->flush();
    if (next_)
        next_->deadlock(text);
}

} // namespace trapline
