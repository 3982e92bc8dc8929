#include "park.hpp"

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <new>
#include <string>

#include "exceptions.hpp"
#include "task_record.hpp"

namespace trapline::detail {

namespace {

std::string name_of_waiter(const WaitNode& node) {
    if (!node.task)
        return "somebody";
    std::string text = "task '" + node.task->name() + "'";
    const AwaitChain where = node.task->frame.where();
    if (!where.empty())
        text += ", at " + describe(where.front()) + ",";
    return text;
}

} // namespace

void report_deserted(WaitQueue& queue, const char* primitive) noexcept {
    while (WaitNode* node = queue.first()) {
        try {
            const std::string text = std::string{"trapline: "} + primitive +
                                     " is destroyed while " + name_of_waiter(*node) +
                                     " waits on it\n";
            std::fputs(text.c_str(), stderr);
        } catch (const std::bad_alloc&) {
            std::fputs("trapline: a primitive is destroyed while a task waits on it\n", stderr);
        }
        node->unlink();
    }
#ifndef NDEBUG
    if (std::uncaught_exceptions() == 0)
        std::abort();
#endif
}

} // namespace trapline::detail
