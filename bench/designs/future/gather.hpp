// gather(): the results of several futures as one future, as asyncio has it.
//
//     std::vector<int> both = co_await gather(loop, std::vector{first, second});
//
// It takes futures: create_task() makes one of a coroutine.
#pragma once

#include <cstddef>
#include <exception>
#include <expected>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

#include "future.hpp"

namespace future_design {

/// With it gather() answers exceptions beside results, and CancelledError among them.
struct ReturnExceptions {};
inline constexpr ReturnExceptions return_exceptions;

template <class T>
using Settled = std::expected<T, std::exception_ptr>;

namespace detail {

/// The future of a gather: cancelling it cancels those it waits for. It does not keep them: who is
/// to complete them does, and they keep this one.
template <class T, class Result>
class GatherState final : public ResultState<std::vector<Result>> {
public:
    static constexpr bool returns_exceptions = std::is_same_v<Result, Settled<T>>;

    static Future<std::vector<Result>> make(Loop& loop, std::vector<Future<T>>& futures) {
        auto state = detail::make<GatherState>(loop);
        state->done_.resize(futures.size());
        state->waits_for_.resize(futures.size());
        for (std::size_t i = 0; i < futures.size(); ++i) {
            state->waits_for_[i] = futures[i].state().get();
            futures[i].add_done_callback(OneIsDone{state, i});
        }
        if (futures.empty())
            state->set_result({});
        return Future<std::vector<Result>>{std::move(state)};
    }

    using ResultState<std::vector<Result>>::ResultState;

    bool cancel() override {
        if (this->done())
            return false;
        const Ref<GatherState> self{this};
        bool any = false;
        for (FutureState* waits_for : waits_for_) {
            const Ref<FutureState> future{waits_for};
            any = (future && future->cancel()) || any;
        }
        cancel_requested_ = cancel_requested_ || any;
        return any;
    }

private:
    /// Goes with the future, if that is never done.
    class OneIsDone {
    public:
        OneIsDone(Ref<GatherState> state, std::size_t at) noexcept
            : state_(std::move(state)), at_(at) {}
        OneIsDone(OneIsDone&&) noexcept = default;
        ~OneIsDone() {
            if (state_)
                state_->waits_for_[at_] = nullptr;
        }
        void operator()(const Future<T>& done) const { state_->one_is_done(at_, done); }

    private:
        Ref<GatherState> state_;
        std::size_t at_;
    };

    void one_is_done(std::size_t at, const Future<T>& future) {
        ++count_;
        const std::exception_ptr failure = failure_of(future);
        if (this->done())
            return;
        if (failure && !returns_exceptions)
            return this->set_exception(failure);
        done_[at] = future;
        if (count_ < done_.size())
            return;
        if (cancel_requested_)
            return this->set_exception(std::make_exception_ptr(CancelledError{}));
        std::vector<Result> results;
        results.reserve(done_.size());
        for (const std::optional<Future<T>>& done : std::exchange(done_, {})) {
            if constexpr (returns_exceptions) {
                if (const std::exception_ptr theirs = failure_of(*done)) {
                    results.push_back(std::unexpected(theirs));
                    continue;
                }
            }
            results.push_back(done->result());
        }
        this->set_result(std::move(results));
    }

    static std::exception_ptr failure_of(const Future<T>& done) {
        return done.cancelled() ? std::make_exception_ptr(CancelledError{}) : done.exception();
    }

    std::vector<FutureState*> waits_for_; ///< null for those that are done, or gone
    std::vector<std::optional<Future<T>>> done_;
    std::size_t count_ = 0;
    bool cancel_requested_ = false;
};

} // namespace detail

/// The results of all, in the order given. The first exception is the gather's at once, and the
/// others go on; one that was cancelled counts as one that threw CancelledError. Cancelling the
/// gather cancels those that are not done.
template <class T>
Future<std::vector<T>> gather(Loop& loop, std::vector<Future<T>> futures) {
    return detail::GatherState<T, T>::make(loop, futures);
}

/// The same, but exceptions are answered in the place of results.
template <class T>
Future<std::vector<Settled<T>>> gather(Loop& loop, std::vector<Future<T>> futures,
                                       ReturnExceptions) {
    return detail::GatherState<T, Settled<T>>::make(loop, futures);
}

} // namespace future_design
