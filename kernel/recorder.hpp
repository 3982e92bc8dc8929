// Recorder: writes down what a kernel answered, so that the program can be run again without the
// world it ran in (replay.hpp).
//
//     Recorder recorder{path};
//     run(work(), {.observer = &recorder});
//
// KernelOptions::record does it for a kernel, and TRAPLINE_RECORD=FILE for any program, whose
// further kernels record into FILE.2, FILE.3 and so on, in the order in which they are made. The
// programs that it starts or forks record into FILE-PID, FILE-PID.2 and so on; so does one that
// finds FILE in use. The log says so.
//
// It notes each step of each task: the trap with those of its arguments that mean something in
// another process, the reply, and what Linux wrote into the program's memory, so every byte that
// was received. Not what the program does by itself: system calls of its own, random numbers, the
// environment, threads, the wall clock. kernel/RECORDING.md describes the file.
//
// The file is written by write(2) in blocks of at most 64 KiB: when there is so much, when the
// kernel is going to wait, and at the end. A program that is killed leaves what was written. When
// a block cannot be written, a line in the log says so, the file ends with the block before, and
// the program goes on. So it is, too, when the program closes the file's descriptor, and when a
// second kernel comes: one recorder is for one kernel.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

#include "observer.hpp"

namespace trapline {

namespace recording {
class Writer;
enum class Event : std::uint8_t;
} // namespace recording

class Recorder final : public Observer {
public:
    struct Options {
        Observer* next = nullptr; ///< sees every step, too; not owned
        /// Where the line about a file that cannot be written goes; stderr by default.
        std::function<void(std::string_view)> log{};
    };

    /// Begins the file anew. Throws std::system_error when it cannot be opened or is neither a file
    /// nor a device, and with EBUSY while another kernel records into it or replays it.
    explicit Recorder(const std::string& path, Options options);
    explicit Recorder(const std::string& path);
    Recorder(const Recorder&) = delete;
    Recorder& operator=(const Recorder&) = delete;
    ~Recorder() override;

    /// Traps so far: what KernelOptions::replay_until counts.
    std::uint64_t traps() const noexcept { return traps_; }

    /// Writes what has not been written yet.
    void flush() noexcept;

    void created(const TaskRecord& task) noexcept override;
    void running(const TaskRecord& task) noexcept override;
    void trapped(const TaskRecord& task, const Trap& trap) noexcept override;
    void replied(const TaskRecord& task, const Reply& reply) noexcept override;
    void terminated(const TaskRecord& task) noexcept override;
    void cancelled(const TaskRecord& task) noexcept override;
    void interrupted(const TaskRecord& task) noexcept override;
    void turn(TimePoint now) noexcept override;
    void waiting(TimePoint now) noexcept override;
    void deadlock(std::string_view text) noexcept override;

private:
    void begin(recording::Event kind) noexcept;
    void begin(recording::Event kind, const TaskRecord& task) noexcept;
    void note_opened(const TaskRecord& task, int fd) noexcept;

    std::unique_ptr<recording::Writer> writer_;
    Observer* next_;
    std::uint64_t traps_ = 0;
    std::uint64_t created_ = 0; ///< a kernel numbers its tasks from 1
    bool other_kernel_ = false; ///< another one has come
    std::uint64_t spawns_ = 0;  ///< the task, if the last trap was its Spawn
    std::uint64_t replied_ = 0; ///< the task, if its reply is the last thing that happened
    TimePoint now_{};           ///< of the turn
    TimePoint noted_{};         ///< of the last turn in which something was written
    TimePoint waited_{};        ///< when it last waited
    Duration allowance_;        ///< see waiting()

    /// For operations in flight that take an address: how much room there is for it. Linux writes
    /// there how much it would have needed.
    std::unordered_map<const TaskRecord*, socklen_t> rooms_;
};

} // namespace trapline
