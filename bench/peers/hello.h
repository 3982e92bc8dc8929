// What the web servers without a parser of HTTP share: where a request ends, and the answers.
#pragma once

#include <stddef.h>
#include <string.h>

#define HELLO \
    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 14\r\n\r\nHello, world!\n"

enum { hello_bytes = sizeof HELLO - 1, hellos = 64 };

/// How many requests end in what came. `matched` is how much of an empty line came so far, 0 at the
/// beginning of a connection.
static inline unsigned requests_in(unsigned char* matched, const char* data, size_t size) {
    unsigned count = 0;
    for (const char* end = data + size; data != end; ++data) {
        if (*matched == 0 && !(data = (const char*)memchr(data, '\r', (size_t)(end - data))))
            break;
        if (*data != "\r\n\r\n"[*matched])
            *matched = *data == '\r';
        else if (++*matched == 4) {
            *matched = 0;
            ++count;
        }
    }
    return count;
}

/// Answers behind each other.
static char answers[hellos * hello_bytes];

static inline void write_answers(void) {
    for (size_t i = 0; i < hellos; ++i)
        memcpy(answers + i * hello_bytes, HELLO, hello_bytes);
}

/// What a connection has still to be sent, as bytes of answers.
struct owed {
    size_t bytes;
    unsigned char matched; ///< of the next request's end
};

static inline void owe(struct owed* at, const char* data, size_t size) {
    at->bytes += (size_t)requests_in(&at->matched, data, size) * hello_bytes;
}

/// What is to be sent next: from within the first answer if a part of it was sent.
static inline const char* next_answers(const struct owed* at, size_t* size) {
    const size_t sent = at->bytes % hello_bytes ? hello_bytes - at->bytes % hello_bytes : 0;
    *size = at->bytes < sizeof answers - sent ? at->bytes : sizeof answers - sent;
    return answers + sent;
}
