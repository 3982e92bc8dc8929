// What a loop can call: a callback that somebody asked for (Handle), a task's next step, a callback
// of a future. Each is a place in a list itself, so that to ask for a call takes one block of
// memory at most, and for a task's step none.
#pragma once

#include <cstdint>
#include <exception>
#include <memory>
#include <type_traits>
#include <utility>

#include "memory.hpp"

namespace future_design {

class Loop;

namespace detail {

/// In one list at a time, which it is taken out of before it is called or dropped.
class Callable {
public:
    virtual void call(Loop& loop) noexcept = 0;
    /// Instead of the call: there will be none.
    virtual void drop() noexcept = 0;

    Callable* next = nullptr;

protected:
    ~Callable() = default;
};

/// First in, first out. It owns nothing.
class CallableList {
public:
    bool empty() const noexcept { return first_ == nullptr; }
    void push(Callable& callable) noexcept {
        callable.next = nullptr;
        (last_ ? last_->next : first_) = &callable;
        last_ = &callable;
    }
    Callable* pop() noexcept {
        Callable* const callable = first_;
        if (callable) {
            first_ = callable->next;
            if (!first_)
                last_ = nullptr;
        }
        return callable;
    }
    /// The first that `wanted` says yes to, or null.
    template <class Wanted>
    Callable* remove_first(Wanted wanted) noexcept {
        Callable* before = nullptr;
        for (Callable* at = first_; at; before = at, at = at->next) {
            if (!wanted(*at))
                continue;
            (before ? before->next : first_) = at->next;
            if (last_ == at)
                last_ = before;
            return at;
        }
        return nullptr;
    }

private:
    Callable* first_ = nullptr;
    Callable* last_ = nullptr;
};

void exception_left_callback(Loop& loop) noexcept;

/// A callback that was asked for. The list or the timer that it is in holds a reference, and so
/// does a handle.
class Entry : public Counted, public Callable {
public:
    bool cancelled() const noexcept { return status_ == Status::cancelled; }
    void cancel() noexcept {
        if (status_ != Status::asked)
            return;
        status_ = Status::cancelled;
        clear();
    }
    void call(Loop& loop) noexcept final {
        const auto self = Ref<Entry>::adopt(this);
        if (status_ != Status::asked)
            return;
        status_ = Status::called;
        try {
            run();
        } catch (...) {
            exception_left_callback(loop);
        }
        clear();
    }
    void drop() noexcept final {
        const auto self = Ref<Entry>::adopt(this);
        cancel();
    }

protected:
    bool has_function() const noexcept { return status_ == Status::asked; }

private:
    virtual void run() = 0;
    virtual void clear() noexcept = 0;

    enum class Status : std::uint8_t { asked, called, cancelled };
    Status status_ = Status::asked;
};

template <class Function>
class EntryOf final : public Entry {
public:
    explicit EntryOf(Function&& function) : function_(std::move(function)) {}

private:
    ~EntryOf() override {
        if (has_function())
            clear();
    }
    void run() override { function_(); }
    void clear() noexcept override { std::destroy_at(&function_); }

    union {
        Function function_; ///< until it was called, or called off
    };
};

} // namespace detail

/// A callback that was asked for, and can be called off: it is forgotten at once, with all that it
/// holds.
class Handle {
public:
    Handle() noexcept = default;
    void cancel() noexcept {
        if (entry_)
            entry_->cancel();
        entry_ = nullptr;
    }
    bool cancelled() const noexcept { return !entry_ || entry_->cancelled(); }

private:
    friend Loop;
    explicit Handle(detail::Ref<detail::Entry> entry) noexcept : entry_(std::move(entry)) {}
    detail::Ref<detail::Entry> entry_;
};

} // namespace future_design
