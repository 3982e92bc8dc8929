// Channel<T>: items from any number of senders to any number of receivers, until it is closed.
//
//     Channel<std::string> words; // a rendezvous: send waits until somebody receives
//     auto say = [](Channel<std::string>& to) -> Coro<void> {
//         for (const char* word : {"to", "be"})
//             co_await to.send(word);
//         to.close();
//     };
//     auto speaker = co_await spawn(say(words));
//     std::string heard;
//     while (std::optional<std::string> word = co_await words.receive())
//         heard += *word;
//
// With a capacity, that many items wait inside before send does. First come, first served, on both
// sides, from hand to hand. Closing is no error: send answers false, receive an empty optional once
// all that was sent has been received. Nothing is lost by an interrupt: an interrupted receive took
// nothing, and the item of an interrupted send was not sent. What need not wait does not trap.
//
// To wait for one of several channels, see select.hpp. An item must be movable without throwing. A
// channel belongs to the thread of its tasks. It must not be destroyed while tasks wait on it:
// debug builds stop the program and name the place of one.
#pragma once

#include <cstddef>
#include <optional>
#include <utility>

#include "exchange.hpp"
#include "ring_buffer.hpp"

namespace trapline {

template <class T>
class Channel {
    using Exchange = detail::Exchange<T, detail::RingBuffer<T>>;

public:
    using value_type = T;

    /// @param capacity how many items wait inside before send does; 0: each waits for its receiver
    explicit Channel(std::size_t capacity = 0) noexcept : exchange_(capacity) {}
    Channel(const Channel&) = delete;
    Channel& operator=(const Channel&) = delete;
    /// Nobody may be waiting.
    ~Channel() { exchange_.expect_nobody("a Channel"); }

    class [[nodiscard]] Send;
    /// Sends an item; blocks until there is room for it or a receiver. Answers false, and the item
    /// was not sent, if the channel is closed, also while waiting. Throws std::bad_alloc while a
    /// channel with a capacity grows. Interrupted: the item was not sent.
    Send send(T item) { return Send{exchange_, std::move(item)}; }

    class [[nodiscard]] Receive;
    /// Receives an item; blocks while there is none. Empty once the channel is closed and all that
    /// was sent has been received. Interrupted: nothing was received.
    Receive receive() noexcept { return Receive{exchange_}; }

    /// Sends the item if that can be at once. Otherwise, and if the channel is closed, answers
    /// false and leaves the item alone. Throws std::bad_alloc like send. Never blocks.
    bool try_send(T&& item) { return exchange_.give(item); }
    bool try_send(const T& item) {
        T copy = item;
        return exchange_.give(copy);
    }

    /// Receives an item if that can be at once. Never blocks.
    std::optional<T> try_receive() noexcept {
        std::optional<T> item;
        exchange_.take(item);
        return item;
    }

    class Receiving;
    /// For select: the case of receiving, which leaves in `item` what receive() answers. `item` is
    /// not touched if another case happens.
    Receiving receiving(std::optional<T>& item) noexcept { return Receiving{exchange_, item}; }

    class Sending;
    /// For select: the case of sending a copy of `item`. `sent`, if given, is told what send()
    /// answers.
    Sending sending(const T& item, bool* sent = nullptr) {
        return Sending{exchange_, std::optional<T>{item}, nullptr, sent};
    }
    /// For select: the case of sending `item`, which is left alone unless it is sent. It must
    /// outlive the select.
    Sending sending(T&& item, bool* sent = nullptr) noexcept {
        return Sending{exchange_, std::nullopt, &item, sent};
    }

    /// Nothing can be sent any more. What was sent can still be received. Waiting senders go on
    /// with false, waiting receivers empty-handed. Never blocks. Harmless twice.
    void close() noexcept { exchange_.close(); }
    bool closed() const noexcept { return exchange_.closed(); }

    /// Items that were sent and not received; at most the capacity.
    std::size_t size() const noexcept { return exchange_.size(); }
    std::size_t capacity() const noexcept { return exchange_.room(); }

private:
    Exchange exchange_;
};

template <class T>
class Channel<T>::Send : public detail::OfferAwaiter<detail::Giving<T>> {
public:
    Send(Exchange& exchange, T&& item) noexcept : exchange_(exchange), item_(std::move(item)) {}

    bool await_ready() {
        this->offer_.accepted = exchange_.give(item_);
        return this->ready(this->offer_.accepted || exchange_.closed());
    }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> self) noexcept {
        this->offer_.item = &item_;
        exchange_.wait_to_give(this->offer_);
        this->park_on_offer(self);
    }
    /// Whether it was sent.
    bool await_resume() {
        this->end_wait();
        return this->offer_.accepted;
    }

private:
    Exchange& exchange_;
    T item_;
};

template <class T>
class Channel<T>::Receive : public detail::OfferAwaiter<detail::Taking<T>> {
public:
    explicit Receive(Exchange& exchange) noexcept : exchange_(exchange) {}

    bool await_ready() noexcept {
        return this->ready(exchange_.take(this->offer_.item) || exchange_.closed());
    }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> self) noexcept {
        exchange_.wait_to_take(this->offer_);
        this->park_on_offer(self);
    }
    /// The item; empty: the channel is closed.
    std::optional<T> await_resume() {
        this->end_wait();
        return std::move(this->offer_.item);
    }

private:
    Exchange& exchange_;
};

// The cases of a select: each can be tried, stand in line, leave it, and be concluded by the task
// that selects, when it was the one that happened.

template <class T>
class Channel<T>::Receiving {
public:
    using trapline_select_case = void;

    Receiving(Exchange& exchange, std::optional<T>& item) noexcept
        : exchange_(exchange), item_(&item) {}

    bool try_now() noexcept { return exchange_.take(offer_.item) || exchange_.closed(); }
    void wait(detail::Alternatives& all) noexcept { exchange_.wait_to_take(offer_, &all); }
    void leave() noexcept { offer_.leave(); }
    bool is(const detail::Offer* offer) const noexcept { return offer == &offer_; }
    void conclude() noexcept {
        item_->reset();
        if (offer_.item)
            item_->emplace(std::move(*offer_.item));
    }

private:
    Exchange& exchange_;
    std::optional<T>* item_;
    detail::Taking<T> offer_;
};

template <class T>
class Channel<T>::Sending {
public:
    using trapline_select_case = void;

    Sending(Exchange& exchange, std::optional<T>&& own, T* item, bool* sent) noexcept
        : exchange_(exchange), own_(std::move(own)), item_(item), sent_(sent) {}

    bool try_now() {
        offer_.accepted = exchange_.give(item());
        return offer_.accepted || exchange_.closed();
    }
    void wait(detail::Alternatives& all) noexcept {
        offer_.item = &item();
        exchange_.wait_to_give(offer_, &all);
    }
    void leave() noexcept { offer_.leave(); }
    bool is(const detail::Offer* offer) const noexcept { return offer == &offer_; }
    void conclude() noexcept {
        if (sent_)
            *sent_ = offer_.accepted;
    }

private:
    T& item() noexcept { return own_ ? *own_ : *item_; }

    Exchange& exchange_;
    std::optional<T> own_;
    T* item_;
    bool* sent_;
    detail::Giving<T> offer_;
};

} // namespace trapline
