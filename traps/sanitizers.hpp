// Internal. Which sanitizers look on: each 1 or 0. g++ tells it by macros, clang when it is asked.
#pragma once

#if defined(__SANITIZE_ADDRESS__)
#define TRAPLINE_ADDRESS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TRAPLINE_ADDRESS_SANITIZER 1
#endif
#endif
#ifndef TRAPLINE_ADDRESS_SANITIZER
#define TRAPLINE_ADDRESS_SANITIZER 0
#endif

#if defined(__SANITIZE_THREAD__)
#define TRAPLINE_THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TRAPLINE_THREAD_SANITIZER 1
#endif
#endif
#ifndef TRAPLINE_THREAD_SANITIZER
#define TRAPLINE_THREAD_SANITIZER 0
#endif
