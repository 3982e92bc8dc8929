// A thread that helps with one program after another: to start one for each would take longer than
// the programs.
#pragma once

#include <functional>
#include <semaphore>
#include <thread>
#include <utility>

namespace trapline::properties {

class Helper {
public:
    Helper() : thread_([this](std::stop_token end) { help(std::move(end)); }) {}
    Helper(const Helper&) = delete;
    Helper& operator=(const Helper&) = delete;
    ~Helper() {
        thread_.request_stop();
        begin_.release();
    }

    /// Calls `work` on the thread, which must be idle.
    void begin(std::function<void()> work) {
        work_ = std::move(work);
        begin_.release();
    }

    /// Until what was begun has ended.
    void wait() { done_.acquire(); }

private:
    void help(std::stop_token end) {
        for (begin_.acquire(); !end.stop_requested(); begin_.acquire()) {
            work_();
            done_.release();
        }
    }

    std::function<void()> work_;
    std::binary_semaphore begin_{0};
    std::binary_semaphore done_{0};
    std::jthread thread_; // goes first
};

} // namespace trapline::properties
