#include "async_generator.hpp"

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <new>
#include <stdexcept>
#include <string>

namespace trapline::detail {

void raise_generator_in_use(const char* use) {
    throw std::logic_error(std::string{use} +
                           " of a generator while another task waits for its next value");
}

void raise_generator_goes_on() {
    throw std::runtime_error("generator yielded again instead of ending on close()");
}

void report_generator_deserted(const PromiseBase& body) noexcept {
    try {
        const std::string text = "trapline: a generator, at " + describe(body.where) +
                                 ", is destroyed while a task waits for its next value at " +
                                 describe(body.parent->where) + "\n";
        std::fputs(text.c_str(), stderr);
    } catch (const std::bad_alloc&) {
        std::fputs("trapline: a generator is destroyed while a task waits for its next value\n",
                   stderr);
    }
#ifndef NDEBUG
    if (std::uncaught_exceptions() == 0)
        std::abort();
#endif
}

} // namespace trapline::detail
