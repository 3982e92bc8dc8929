#include <trapline/kernel/replay.hpp>
#include <doctest/doctest.h>
