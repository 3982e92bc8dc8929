// Compiled once for all programs of tests/ring; see pch.hpp.
#include "ring.hpp"
