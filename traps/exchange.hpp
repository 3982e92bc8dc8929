// Internal. What queues and channels are made of: offers to give an item or to take one, the lines
// in which they stand, and the exchange where they meet. Hand-over is direct: whoever finds an
// offer fulfils it and wakes its task, which has its item, or is rid of it, from then on.
//
// An offer lies in the awaiter of the task that makes it. Nothing allocates, and one that is
// destroyed leaves its line. A task that was interrupted may still stand in line until it runs: it
// waits no more, so it is passed over.
#pragma once

#include <cstddef>
#include <optional>
#include <type_traits>
#include <utility>

#include "park.hpp"
#include "wait_queue.hpp"

namespace trapline::detail {

class Offer;
class OfferLine;

/// Several offers of one task, of which one is met: it sleeps in here.
struct Alternatives {
    WaitQueue place;
    const Offer* met = nullptr;
};

/// One thing that a task waits for, and its place in line.
class Offer {
public:
    Offer() noexcept = default;
    Offer(Offer&&) noexcept {} // an awaiter moves only before it is awaited
    Offer& operator=(Offer&&) = delete;
    ~Offer() { leave(); }

    /// Where the task sleeps, unless it has alternatives.
    WaitQueue& place() noexcept { return place_; }

    /// Out of line; harmless when it is in none.
    void leave() noexcept;

    /// The task has what it waited for, and goes on. Its other offers stand no more.
    void meet() noexcept {
        leave();
        if (!alternatives_) [[likely]] {
            place_.wake();
        } else {
            alternatives_->met = this;
            alternatives_->place.wake();
        }
    }

private:
    friend OfferLine;

    // A branch that is foreseen, and not a chosen address: a hand-over waits for the end of a chain
    // of pointers, each of which costs it 2 ns (bench/micro/queue.cpp).
    bool stands() const noexcept {
        if (!alternatives_) [[likely]]
            return !place_.empty();
        return !alternatives_->place.empty();
    }

    WaitQueue place_; // its own: who is in here was neither woken nor interrupted
    Alternatives* alternatives_ = nullptr;
    OfferLine* line_ = nullptr;
    Offer* previous_; // while it is in line
    Offer* next_;
};

/// Offers of one kind, first come, first served.
class OfferLine {
public:
    OfferLine() = default;
    OfferLine(const OfferLine&) = delete;
    OfferLine& operator=(const OfferLine&) = delete;
    ~OfferLine() {
        while (first_)
            first_->leave();
    }

    /// `offer` stands here now, as the last one.
    void append(Offer& offer, Alternatives* alternatives = nullptr) noexcept {
        offer.line_ = this;
        offer.alternatives_ = alternatives;
        offer.previous_ = last_;
        offer.next_ = nullptr;
        if (!last_) [[likely]]
            first_ = &offer;
        else
            last_->next_ = &offer;
        last_ = &offer;
    }

    /// The longest waiting, null if nobody waits.
    Offer* first() noexcept {
        while (first_ && !first_->stands()) [[unlikely]]
            first_->leave();
        return first_;
    }

    /// For the destructor of `primitive` ("a Queue"), which nobody may wait on any more.
    void expect_empty(const char* primitive) noexcept {
        while (Offer* offer = first()) {
            offer->leave();
            report_deserted(offer->alternatives_ ? offer->alternatives_->place : offer->place_,
                            primitive);
        }
    }

private:
    friend Offer;
    Offer* first_ = nullptr;
    Offer* last_ = nullptr;
};

inline void Offer::leave() noexcept {
    if (!line_)
        return;
    // Nearly always it is the only one.
    if (line_->first_ == line_->last_) [[likely]] {
        line_->first_ = line_->last_ = nullptr;
    } else {
        (previous_ ? previous_->next_ : line_->first_) = next_;
        (next_ ? next_->previous_ : line_->last_) = previous_;
    }
    line_ = nullptr;
}

/// An awaiter with one offer.
template <class O>
class OfferAwaiter : public ParkAwaiter {
protected:
    /// Sleeps until the offer, which stands in line by now, is met.
    template <class Promise>
    void park_on_offer(std::coroutine_handle<Promise> self) noexcept {
        this->park(self, offer_.place());
    }

    /// First thing in await_resume(): throws what interrupted the wait.
    void end_wait() {
        offer_.leave();
        ParkAwaiter::end_wait();
    }

    O offer_;
};

template <class T>
struct Giving : Offer {
    T* item;
    bool accepted = false; ///< the item was moved out; if it is met without: closed
};

template <class T>
struct Taking : Offer {
    std::optional<T> item; ///< if it is met without one: closed
};

/// Items on their way from those who give to those who take. Up to `room` of them lie in the store,
/// whose kind decides the order; with more givers, the longest waiting one's item moves in as soon
/// as there is room. So givers wait only while the store is full, takers only while it is empty.
///
/// A store has size(), push(T&&), which throws nothing but std::bad_alloc and leaves the item alone
/// then, and pop(std::optional<T>&), which throws nothing and makes room for one push that does not
/// allocate.
template <class T, class Store>
class Exchange {
    static_assert(std::is_nothrow_move_constructible_v<T>,
                  "an item whose move may throw could be lost on its way: pass a pointer to it");

public:
    explicit Exchange(std::size_t room, Store&& store = {})
        : store_(std::move(store)), room_(room) {}

    /// Moves the item to a taker, or into the store. False, and the item is left alone, if there is
    /// neither, or it is closed.
    bool give(T& item) {
        if (closed_) [[unlikely]]
            return false;
        if (Offer* first = takers_.first()) {
            static_cast<Taking<T>&>(*first).item.emplace(std::move(item));
            first->meet();
        } else if (store_.size() < room_) {
            store_.push(std::move(item));
        } else {
            return false;
        }
        ++given_;
        return true;
    }

    /// Gets an item. False if there is none.
    bool take(std::optional<T>& item) noexcept {
        Offer* first = givers_.first();
        if (store_.size() != 0) {
            store_.pop(item);
            if (first)
                accept(*first, [this](T&& next) { store_.push(std::move(next)); });
        } else if (first) {
            accept(*first, [&item](T&& next) { item.emplace(std::move(next)); });
        } else {
            return false;
        }
        return true;
    }

    void wait_to_give(Giving<T>& offer, Alternatives* alternatives = nullptr) noexcept {
        givers_.append(offer, alternatives);
    }
    void wait_to_take(Taking<T>& offer, Alternatives* alternatives = nullptr) noexcept {
        takers_.append(offer, alternatives);
    }

    /// Nothing is given any more. All who wait go on without an item.
    void close() noexcept {
        closed_ = true;
        for (OfferLine* line : {&takers_, &givers_}) {
            while (Offer* first = line->first())
                first->meet();
        }
    }

    bool closed() const noexcept { return closed_; }
    std::size_t size() const noexcept { return store_.size(); }
    std::size_t room() const noexcept { return room_; }

    /// How many items were given since the beginning.
    std::size_t given() const noexcept { return given_; }

    void expect_nobody(const char* primitive) noexcept {
        takers_.expect_empty(primitive);
        givers_.expect_empty(primitive);
    }

private:
    template <class Into>
    void accept(Offer& offer, Into into) noexcept {
        auto& giving = static_cast<Giving<T>&>(offer);
        into(std::move(*giving.item));
        giving.accepted = true;
        ++given_;
        giving.meet();
    }

    Store store_;
    std::size_t room_;
    std::size_t given_ = 0;
    OfferLine givers_;
    OfferLine takers_;
    bool closed_ = false;
};

} // namespace trapline::detail
