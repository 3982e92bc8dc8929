// The two switches of the io_uring engine: how each request becomes a submission, and what each
// result means. One place turns errno into behaviour.
#pragma once

#include <cstdint>

#include "../engine.hpp"
#include "uring_compat.hpp"

namespace trapline {

/// Operations that never block are done by their system call, on the spot. Answers whether
/// `operation` is one; its result is there then.
bool done_at_once(Operation& operation) noexcept;

/// Fills in a submission, but for its user_data.
void prepare(io_uring_sqe& sqe, const Operation& operation) noexcept;

/// A submission that waits until the operation's descriptor is ready for another try.
void prepare_wait(io_uring_sqe& sqe, const Operation& operation) noexcept;

/// What a completion means.
enum class Verdict : std::uint8_t {
    over,             ///< the result is the operation's
    again,            ///< submit the rest once more
    wait_ready,       ///< wait until the descriptor is ready, then again
    wait_descriptors, ///< no descriptors left: some time later, again
    wait_a_moment,    ///< ready, they say, but it never is: some time later, again
};

/// Judges the completion `result`, and notes in the operation what came of it.
Verdict judge(Operation& operation, int result) noexcept;

} // namespace trapline
