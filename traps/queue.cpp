#include "queue.hpp"

#include <string>

namespace trapline::detail {

void raise_queue_closed(const char* queue, const char* operation) {
    throw QueueClosed(std::string(operation) + " of " + queue + " that is closed");
}

void raise_task_done_too_often(const char* queue) {
    throw std::logic_error(std::string("task_done() of ") + queue +
                           " was called more often than items were put");
}

} // namespace trapline::detail
