// The engines there are. A new one is one line here.
#include "engines.hpp"

namespace trapline::test {

namespace {

KernelOptions uring_in(UringOptions::Mode mode, unsigned buffers = 4) {
    return {.engine = "uring", .uring = {.mode = mode, .receive_buffers = buffers}};
}

/// A ring that is full all the time: two submissions, four completions, one taken off a turn.
KernelOptions tiny_uring() {
    return {.engine = "uring",
            .uring = {.entries = 2,
                      .completions = 4,
                      .entries_min = 1,
                      .reaped_max = 1,
                      .receive_buffers = 2,
                      .receive_buffer_bytes = 8}};
}

/// One report a turn, one thread, and buffers that are too small for anything.
KernelOptions tiny_epoll() {
    return {.engine = "epoll",
            .epoll = {.events = 1, .threads = 1, .receive_buffers = 2, .receive_buffer_bytes = 8}};
}

} // namespace

const std::vector<EngineChoice>& engines() {
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

} // namespace trapline::test
