// Internal. Setting up a ring as well as the running kernel allows, and finding out what that is.
#pragma once

#include <cstdint>
#include <string>

#include "../options.hpp"
#include "uring_compat.hpp"

namespace trapline {

/// What is known of a receive that comes to a socket whose data the last one has taken.
enum class DrainedKnown : std::uint8_t {
    never,    ///< Linux takes no hint of it
    if_short, ///< where the last one has not filled its buffer
    always,   ///< Linux tells
};

/// What the ring and the kernel under it can do.
struct UringFeatures {
    UringOptions::Mode mode = UringOptions::Mode::plain;
    bool task_run_flag = false;   ///< pending completion work shows in the ring's flags
    bool registered_ring = false; ///< entering needs no look-up of the ring's descriptor
    bool absolute_timer = false;  ///< waiting takes a deadline, so no clock is read for it
    bool no_iowait = false;       ///< an idle ring does not look like a busy disk
    DrainedKnown drained = DrainedKnown::never;
};

/// Makes the ring: the wanted size, else half of it and so on; the best mode, else the next.
/// Throws std::system_error with the likely cause and a remedy.
UringFeatures make_ring(io_uring& ring, const UringOptions& options);

/// "io_uring on Linux 6.18: 512 entries, ...".
std::string describe_ring(const io_uring& ring, const UringFeatures& features);

} // namespace trapline
