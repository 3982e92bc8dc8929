// shield(): a future that can be cancelled without cancelling what is behind it, as asyncio has it.
//
//     int n = co_await shield(task); // if this is cancelled, the task goes on
#pragma once

#include <utility>

#include "future.hpp"

namespace future_design {

namespace detail {

/// Does not keep the inner future: who is to complete that does, and it keeps this one.
template <class T>
class ShieldState final : public ResultState<T> {
public:
    static Future<T> make(const Future<T>& inner) {
        auto state = detail::make<ShieldState>(inner.loop());
        state->inner_ = inner.state().get();
        Future<T> watched = inner;
        state->callback_ = watched.add_done_callback(InnerIsDone{state});
        return Future<T>{std::move(state)};
    }

    using ResultState<T>::ResultState;

    bool cancel() override {
        const Ref<ShieldState> self{this};
        const bool cancelled = FutureState::cancel();
        if (cancelled && inner_)
            inner_->remove_done_callback(callback_);
        return cancelled;
    }

private:
    /// Goes with the inner future, if that is never done.
    class InnerIsDone {
    public:
        explicit InnerIsDone(Ref<ShieldState> outer) noexcept : outer_(std::move(outer)) {}
        InnerIsDone(InnerIsDone&&) noexcept = default;
        ~InnerIsDone() {
            if (outer_)
                outer_->inner_ = nullptr;
        }
        void operator()(const Future<T>& inner) const { outer_->take_over(inner); }

    private:
        Ref<ShieldState> outer_;
    };

    void take_over(const Future<T>& inner) {
        if (inner.cancelled()) {
            FutureState::cancel();
        } else if (const std::exception_ptr failure = inner.exception()) {
            if (!this->done()) // else it is looked at, and forgotten
                this->set_exception(failure);
        } else if (!this->done()) {
            if constexpr (std::is_void_v<T>)
                this->set_result({});
            else
                this->set_result(inner.result());
        }
    }

    FutureState* inner_ = nullptr; ///< null when it is done, or gone
    CallbackId callback_{};
};

} // namespace detail

/// Completes as `inner` does. Cancelling it does not cancel `inner`; an exception of that is told
/// to the loop then, if nobody else asks for it. One that is done already is answered itself.
template <class T>
Future<T> shield(Future<T> inner) {
    return inner.done() ? inner : detail::ShieldState<T>::make(inner);
}

template <class T>
class Task;

template <class T>
Future<T> shield(Task<T> inner) {
    return shield(Future<T>{std::move(inner)});
}

} // namespace future_design
