#include "park.hpp"

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <new>
#include <string>

#include "exceptions.hpp"
#include "task_record.hpp"

namespace trapline::detail {

std::string describe_waiter(const TaskRecord& task) {
    std::string text = "task '" + task.name() + "'";
    const AwaitChain where = task.frame.where();
    if (!where.empty())
        text += ", at " + describe(where.front()) + ",";
    return text;
}

void report_deserted(WaitQueue& queue, const char* primitive) noexcept {
    while (WaitNode* node = queue.first()) {
        try {
            const std::string waiter = node->task ? describe_waiter(*node->task) : "somebody";
            const std::string text = std::string{"trapline: "} + primitive +
                                     " is destroyed while " + waiter + " waits on it\n";
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
