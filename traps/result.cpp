#include "result.hpp"

#include <stdexcept>

namespace trapline::detail {

void raise_result_set_twice() { throw std::logic_error("a Result was set a second time"); }

void raise_result_without_exception() {
    throw std::logic_error("a Result's exception cannot be null");
}

void raise_result_moved_out() {
    throw std::logic_error("the Result's value was moved out by an earlier unwrap");
}

} // namespace trapline::detail
