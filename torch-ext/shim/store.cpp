// PyTorch's key-value store over TCP, through which ranks find each other.
#include "c10d.h"

#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <arpa/inet.h>
#include <ifaddrs.h>

#include <cstdlib>
#include <cstring>
#include <string>

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

// Lets NCCL use the interface that has `address`, unless the user has chosen one.
extern "C" int svgrl_prefer_interface(const char* address) {
  return svgrl::guarded([&] {
    const char* chosen = std::getenv("NCCL_SOCKET_IFNAME");
    if (chosen && *chosen) return;
    ifaddrs* all = nullptr;
    TORCH_CHECK(getifaddrs(&all) == 0, "the network interfaces cannot be listed");
    for (ifaddrs* one = all; one; one = one->ifa_next) {
      if (!one->ifa_addr) continue;
      char text[INET6_ADDRSTRLEN] = "";
      if (one->ifa_addr->sa_family == AF_INET)
        inet_ntop(AF_INET, &reinterpret_cast<sockaddr_in*>(one->ifa_addr)->sin_addr, text,
                  sizeof text);
      else if (one->ifa_addr->sa_family == AF_INET6)
        inet_ntop(AF_INET6, &reinterpret_cast<sockaddr_in6*>(one->ifa_addr)->sin6_addr, text,
                  sizeof text);
      // "=": that name alone, not every name that begins so.
      if (std::strcmp(text, address) == 0) {
        setenv("NCCL_SOCKET_IFNAME", (std::string("=") + one->ifa_name).c_str(), 1);
        break;
      }
    }
    freeifaddrs(all);
  });
}

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
