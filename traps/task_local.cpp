#include "task_local.hpp"

#include <algorithm>

namespace trapline::detail {

const void* local_value(const TrapFrame& frame, const void* key) noexcept {
    if (!frame.extras || !frame.extras->locals)
        return nullptr;
    for (const auto& [of, value] : *frame.extras->locals) {
        if (of == key)
            return value.get();
    }
    return nullptr;
}

std::shared_ptr<const void> exchange_local_value(TrapFrame& frame, const void* key,
                                                 std::shared_ptr<const void> value) {
    std::shared_ptr<const LocalValues>& locals = frame.with_extras().locals;
    auto changed =
        locals ? std::make_shared<LocalValues>(*locals) : std::make_shared<LocalValues>();
    const auto at = std::ranges::find(*changed, key, &LocalValues::value_type::first);
    std::shared_ptr<const void> before;
    if (at != changed->end()) {
        before = std::exchange(at->second, std::move(value));
        if (!at->second)
            changed->erase(at);
    } else if (value) {
        changed->emplace_back(key, std::move(value));
    }
    locals = std::move(changed);
    return before;
}

} // namespace trapline::detail
