// Compiled once for a program of many tests, which saves a third of the time each of them takes.
// It replaces no include: each test includes what it uses.
#include <doctest/doctest.h>
#include <trapline/trapline.hpp>
