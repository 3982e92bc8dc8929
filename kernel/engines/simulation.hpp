// Internal. The engine named "simulation": for now virtual time, and no descriptors behind it.
//
// The clock stands still while tasks run, and jumps to the next deadline when nobody is ready. It
// begins at `simulation_start`, so that a run is like the one before it, to the nanosecond. All I/O
// is answered -ENOSYS, but for Nop.
//
// Threads are real, and their work takes no time of this clock: while a task waits for one, time
// only jumps to a deadline that is over by the watch as well. So a time limit on a thread that
// hangs runs out after as long as anywhere else, and no limit runs out on one that is quick.
//
// Who sleeps for ever sleeps for ever: with nobody else left, that is a Deadlock.
#pragma once

#include <chrono>
#include <memory>

#include "../engine.hpp"

namespace trapline {

/// What the clock shows when a kernel is made: a million seconds, so that there is a past.
inline constexpr TimePoint simulation_start{std::chrono::seconds{1'000'000}};

std::unique_ptr<Engine> make_simulation_engine();

} // namespace trapline
