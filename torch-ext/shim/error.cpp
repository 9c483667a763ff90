#include "shim.h"

#include <unistd.h>

#include <cstring>
#include <exception>
#include <new>

namespace {
thread_local std::string last_error;
}

namespace svgrl {
void remember_error(const char* message) noexcept {
  try {
    last_error = message;
  } catch (...) {
    last_error.clear();
  }
}
}  // namespace svgrl

namespace {
const char* advice = "";

void say(const char* text) {
  if (write(STDERR_FILENO, text, std::strlen(text)) < 0) _exit(1);
}

// An exception that nobody catches, in a thread of libtorch's for instance.
[[noreturn]] void end_in_words() {
  try {
    if (std::exception_ptr thrown = std::current_exception()) std::rethrow_exception(thrown);
    say("error: libtorch ended the process");
  } catch (const std::bad_alloc&) {
    say("error: out of memory; ");
    say(advice);
  } catch (const std::exception& thrown) {
    // Its first line: the rest is a stack trace.
    const char* what = thrown.what();
    const char* end = std::strchr(what, '\n');
    say("error: libtorch: ");
    if (write(STDERR_FILENO, what, end ? end - what : std::strlen(what)) < 0) _exit(1);
  } catch (...) {
    say("error: libtorch ended the process");
  }
  say("\n");
  _exit(1);
}
}  // namespace

// `words` stay valid as long as the process; they say what makes it smaller.
extern "C" void svgrl_end_in_words(const char* words) {
  advice = words;
  std::set_terminate(end_in_words);
}

// Valid until the next failing call on this thread.
extern "C" const char* svgrl_last_error() { return last_error.c_str(); }
