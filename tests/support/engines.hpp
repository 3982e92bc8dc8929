// The engine parameter: on what the conformance cases run. A new engine is one line here.
#pragma once

#include <string>
#include <vector>

#include <trapline/kernel/options.hpp>

namespace trapline::test {

struct EngineChoice {
    std::string name;
    KernelOptions options;
};

inline KernelOptions uring_in(UringOptions::Mode mode, unsigned buffers = 4) {
    return {.engine = "uring", .uring = {.mode = mode, .receive_buffers = buffers}};
}

/// A ring that is full all the time: two submissions, four completions, one taken off a turn.
inline KernelOptions tiny_uring() {
    return {.engine = "uring",
            .uring = {.entries = 2,
                      .completions = 4,
                      .entries_min = 1,
                      .reaped_max = 1,
                      .receive_buffers = 2,
                      .receive_buffer_bytes = 8}};
}

/// One report a turn, one thread, and buffers that are too small for anything.
inline KernelOptions tiny_epoll() {
    return {.engine = "epoll",
            .epoll = {.events = 1, .threads = 1, .receive_buffers = 2, .receive_buffer_bytes = 8}};
}

inline const std::vector<EngineChoice>& engines() {
    using Mode = UringOptions::Mode;
    static const std::vector<EngineChoice> all{
        {"uring", {.engine = "uring"}},
        {"uring, deferred", uring_in(Mode::deferred)},
        {"uring, cooperative", uring_in(Mode::cooperative)},
        {"uring, plain, without shared buffers", uring_in(Mode::plain, 0)},
        {"uring, tiny", tiny_uring()},
        {"epoll", {.engine = "epoll"}},
        {"epoll, tiny", tiny_epoll()},
    };
    return all;
}

/// For cases that need no descriptors, and no time that passes while somebody is ready.
inline const EngineChoice& simulation() {
    static const EngineChoice choice{"simulation", {.engine = "simulation"}};
    return choice;
}

} // namespace trapline::test
