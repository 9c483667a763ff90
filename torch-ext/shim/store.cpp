// PyTorch's key-value store over TCP, through which ranks find each other.
#include "c10d.h"

#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <cstdlib>

using std::chrono::milliseconds;

namespace {
// c10d prints a stack trace beside every exception that it throws; here the
// exception's message is the report. TORCH_CPP_LOG_LEVEL brings the log back.
void quieten() {
  static const bool done = [] {
    if (std::getenv("TORCH_CPP_LOG_LEVEL") == nullptr) FLAGS_caffe2_log_level = 3;
    return true;
  }();
  (void)done;
}
}  // namespace

extern "C" int svgrl_store_tcp(const char* host, uint16_t port, int is_server, int64_t timeout_ms,
                               StorePtr* out) {
  return svgrl::guarded([&] {
    quieten();
    c10d::TCPStoreOptions options;
    options.port = port;
    options.isServer = is_server != 0;
    options.waitWorkers = false;  // who is missing is said by name elsewhere
    options.timeout = milliseconds(timeout_ms);
    *out = new StoreRef(c10::make_intrusive<c10d::TCPStore>(host, options));
  });
}

// The port of a store made by svgrl_store_tcp; of use when it was asked for 0.
extern "C" int svgrl_store_port(StorePtr store, uint16_t* port) {
  return svgrl::guarded([&] {
    auto* tcp = dynamic_cast<c10d::TCPStore*>(store->get());
    TORCH_CHECK(tcp != nullptr, "only a TCP store has a port");
    *port = tcp->getPort();
  });
}

extern "C" int svgrl_store_prefix(StorePtr store, const char* prefix, StorePtr* out) {
  return svgrl::guarded(
      [&] { *out = new StoreRef(c10::make_intrusive<c10d::PrefixStore>(prefix, *store)); });
}

// The same keys over a connection of its own.
extern "C" int svgrl_store_reconnect(StorePtr store, StorePtr* out) {
  return svgrl::guarded([&] { *out = new StoreRef((*store)->clone()); });
}

extern "C" void svgrl_store_free(StorePtr store) {
  svgrl::guarded([&] { delete store; });
}

extern "C" int svgrl_store_set(StorePtr store, const char* key, const uint8_t* data, size_t size) {
  return svgrl::guarded([&] { (*store)->set(key, std::vector<uint8_t>(data, data + size)); });
}

// The bytes stay valid until the next call on this thread.
extern "C" int svgrl_store_get(StorePtr store, const char* key, const uint8_t** data, size_t* size) {
  thread_local std::vector<uint8_t> value;
  return svgrl::guarded([&] {
    value = (*store)->get(key);
    *data = value.data();
    *size = value.size();
  });
}

extern "C" int svgrl_store_check(StorePtr store, const char* key, int* present) {
  return svgrl::guarded([&] { *present = (*store)->check({key}) ? 1 : 0; });
}

extern "C" int svgrl_store_add(StorePtr store, const char* key, int64_t amount, int64_t* sum) {
  return svgrl::guarded([&] { *sum = (*store)->add(key, amount); });
}
