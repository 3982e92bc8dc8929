// Internal. What answers traps in a replay: it schedules nobody, but follows a recording, which
// says who goes on next, and with what.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>

#include "../traps/task_record.hpp"
#include "engine.hpp"
#include "recording.hpp"
#include "stand_ins.hpp"

namespace trapline {

class Kernel;

/// The engine of a kernel that replays: none.
class NoEngine final : public Engine {
public:
    explicit NoEngine(std::string text) : text_(std::move(text)) {}

    TimePoint now() noexcept override { return time; }
    Started start(Operation& operation) noexcept override;
    void cancel(Operation&) noexcept override {}
    void wait(TimePoint, OperationList&) noexcept override {}
    void interrupt() noexcept override {}
    std::string describe() const override { return text_; }

    TimePoint time{}; ///< of the recording

private:
    std::string text_;
};

class Follower {
public:
    /// Opens the recording. Throws RecordingError and std::system_error.
    Follower(Kernel& kernel, const std::string& path, std::uint64_t until);
    Follower(const Follower&) = delete;
    Follower& operator=(const Follower&) = delete;
    ~Follower();

    void run(TaskRecord& main);
    void shutdown();

    // What plain code of the program does to tasks.
    void spawn(TaskRecord& task);
    void cancel(TaskRecord& task);

    /// Later than any kernel's clock comes, and far from where times overflow.
    static constexpr TimePoint time_max{Duration{std::int64_t{1} << 62}};

private:
    using Event = recording::Event;

    // What happens next.
    const recording::Read* peek();
    recording::Read take();
    bool next_is(Event kind, const TaskRecord& task);
    void step();
    [[noreturn]] void ended();
    [[noreturn]] void diverged(const std::string& text);
    [[noreturn]] void diverged_by_thread(const std::string& text);
    [[noreturn]] void damaged(const std::string& what);
    [[noreturn]] void out_of_order();
    void stopped(TaskRecord& task);
    void check_program() const;
    template <class F>
    void following(F&& follow);
    template <class F>
    void from_outside(F&& follow);
    TimePoint& clock() noexcept;
    void let_go(TaskRecord& task);
    void abandon_all() noexcept;

    // Tasks.
    void adopt(TaskRecord& task, std::uint64_t parent);
    void resume(TaskRecord& task);
    [[noreturn]] void ended_early(TaskRecord& task);
    static void furnish(TaskRecord& task) noexcept;
    void compare(TaskRecord& task);
    static bool is_race(const recording::Read& event, const TrapNote& here) noexcept;
    void begin(TaskRecord& task);
    void wait_on(TaskRecord& task, WaitQueue& queue);
    TaskRecord& task_of(const recording::Read& event, bool has_run = false);
    void note_cancelled(TaskRecord& task) noexcept;
    void note_interrupted(TaskRecord& task);
    std::string who(const TaskRecord& task) const;

    // Replies (follower_replies.cpp).
    void reply(TaskRecord& task, const recording::Read& event);
    void check_reply(const TaskRecord& task, const Reply& reply);
    void reply_parked(TaskRecord& task, const Reply& reply);
    Reply reply_of_thread(TaskRecord& task, const recording::Read& event);
    Reply reply_of_io(TaskRecord& task, const recording::Read& event);
    void write_back(TaskRecord& task, const recording::Read& event);
    void rename_received(msghdr& message);
    static void wake(void* task) noexcept;
    static void wake_from_thread(void* task) noexcept;
    static bool is_policed(const TaskRecord& task) noexcept;
    void await_thread(TaskRecord& task, ThreadCompletion& completion);
    void leave_thread(TaskRecord& task);
    bool told_by_thread(TaskRecord& task, Duration limit);

    Kernel& kernel_;
    recording::Reader reader_;
    std::optional<recording::Read> next_;
    std::unique_ptr<StandIns> descriptors_;
    std::unordered_map<std::uint64_t, TaskRecord*> tasks_; ///< by number
    std::uint64_t traps_ = 0;
    std::uint64_t until_;
    recording::FileKind opened_; ///< by the task that is replied to next
    bool over_ = false;
    bool shutting_down_ = false;
    bool inside_ = false;       ///< a task runs
    std::exception_ptr failed_; ///< what was wrong with what that has done to others
    std::unordered_map<const TaskRecord*, TimePoint> thread_waits_; ///< since when they wait

    std::mutex mutex_; ///< with threads that complete what tasks wait for
    std::condition_variable completed_;
};

} // namespace trapline
