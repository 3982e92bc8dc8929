// All of Trapline: traps, I/O objects and the kernel.
#pragma once

#include "io/address.hpp"
#include "io/signals.hpp"
#include "io/tcp.hpp"
#include "kernel/kernel.hpp"
#include "traps/calls.hpp"
#include "traps/cancel.hpp"
#include "traps/coro.hpp"
#include "traps/exceptions.hpp"
#include "traps/routine.hpp"
#include "traps/task.hpp"
#include "traps/task_local.hpp"
#include "traps/thread.hpp"
#include "traps/trap.hpp"
#include "traps/wait_queue.hpp"
