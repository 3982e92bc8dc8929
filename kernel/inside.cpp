// A kernel inside another loop: what the host puts in, and what it is told. The turn itself is in
// dispatch.cpp, the descriptor in engines/pollable.hpp.
#include <cerrno>
#include <stdexcept>
#include <system_error>
#include <utility>

#include "follower.hpp"
#include "kernel.hpp"

namespace trapline {

/// A recording says nothing of the loop around.
void Kernel::check_no_replay(const char* call) {
    if (follower_)
        throw std::system_error(ENOTSUP, std::system_category(),
                                std::string(call) + " in a replay");
    if (recorder_ && !std::exchange(told_host_records_, true))
        log("what is recorded here cannot be replayed: a replay refuses " + std::string(call));
}

int Kernel::pollable_fd() {
    check_thread();
    check_no_replay("pollable_fd");
    const int fd = engine_->pollable_fd();
    if (!std::exchange(pollable_, true))
        tell_host(); // of what there is already
    return fd;
}

void Kernel::adopt_from_outside(TaskRecord& task) {
    check_thread();
    if (follower_) [[unlikely]]
        return follower_->spawn(task);
    adopt(task);
    if (host_waits_)
        tell_host();
}

bool Kernel::cancel(const Task<void>& task) {
    if (!task)
        detail::raise_empty_handle();
    check_thread();
    TaskRecord& record = *task.record();
    if (record.state == TaskState::terminated)
        return false;
    if (control(record).kernel != this)
        throw std::system_error(EXDEV, std::system_category(), "cancel a task of another kernel");
    if (follower_) [[unlikely]] {
        follower_->cancel(record);
        return true;
    }
    send_cancel(record);
    if (host_waits_)
        tell_host();
    return true;
}

/// The host goes on. It is told when somebody is ready, and from now on, of whom it makes ready.
void Kernel::rest() noexcept {
    const bool ready = !ready_.empty() || inbox_.load(std::memory_order_relaxed);
    engine_->rest_until(ready ? TimePoint::min() : timers_.next());
    host_waits_ = pollable_ && !ready;
}

/// While the host waits somebody has become ready. Once is enough: the descriptor stays readable.
void Kernel::tell_host() noexcept {
    host_waits_ = false;
    engine_->rest_until(TimePoint::min());
}

} // namespace trapline
