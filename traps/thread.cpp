#include "thread.hpp"

#include <condition_variable>
#include <mutex>
#include <stdexcept>

namespace trapline {

std::int64_t ThreadCompletion::wait() {
    struct Sleeper {
        std::mutex mutex;
        std::condition_variable woken;
        bool completed = false;
    } sleeper;
    const Waker waker{[](void* context) noexcept {
                          auto& self = *static_cast<Sleeper*>(context);
                          // Told while it is locked: the sleeper goes as soon as it can lock.
                          const std::scoped_lock lock{self.mutex};
                          self.completed = true;
                          self.woken.notify_one();
                      },
                      &sleeper};
    switch (await(waker)) {
    case Await::completed: break;
    case Await::taken: throw std::logic_error("a ThreadCompletion can be awaited by one at a time");
    case Await::waiting: {
        std::unique_lock lock{sleeper.mutex};
        sleeper.woken.wait(lock, [&] { return sleeper.completed; });
    }
    }
    return value_;
}

} // namespace trapline
