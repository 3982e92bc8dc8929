// gather(): the results of several futures as one future, as asyncio has it.
//
//     std::vector<int> both = co_await gather(loop, std::vector{first, second});
//
// It takes futures: create_task() makes one of a coroutine.
#pragma once

#include <cstddef>
#include <exception>
#include <expected>
#include <memory>
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
        auto state = std::make_shared<GatherState>(loop);
        state->done_.resize(futures.size());
        for (std::size_t i = 0; i < futures.size(); ++i) {
            state->waits_for_.push_back(futures[i].state());
            futures[i].add_done_callback(
                [state, i](const Future<T>& done) { state->one_is_done(i, done); });
        }
        if (futures.empty())
            state->set_result({});
        return Future<std::vector<Result>>{std::move(state)};
    }

    using ResultState<std::vector<Result>>::ResultState;

    bool cancel() override {
        if (this->done())
            return false;
        bool any = false;
        for (const std::weak_ptr<FutureState>& waits_for : waits_for_) {
            const auto future = waits_for.lock();
            any = (future && future->cancel()) || any;
        }
        cancel_requested_ = cancel_requested_ || any;
        return any;
    }

private:
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

    std::vector<std::weak_ptr<FutureState>> waits_for_;
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
